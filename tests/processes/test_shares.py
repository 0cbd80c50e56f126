"""Nobody shares a core, nobody goes without a worker, and nothing is left over."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.errors import ConfigurationInvalid
from gearshift.processes import divide, usable_cores, usable_workers
from gearshift.processes.shares import cpu_limit


@given(st.sets(st.integers(0, 300), max_size=40), st.integers(1, 80), st.integers(1, 50))
def test_all_is_divided_and_nothing_twice(cores: set[int], workers: int, processes: int) -> None:
    ordered = sorted(cores)
    if processes > workers or (cores and processes > len(cores)):
        with pytest.raises(ConfigurationInvalid, match="setting processes: .*give at most"):
            divide(ordered, workers, processes)
        return
    shares = divide(ordered, workers, processes)
    assert len(shares) == processes
    assert [core for share in shares for core in share.cores] == ordered
    assert sum(share.workers for share in shares) == workers
    assert min(share.workers for share in shares) >= 1
    numbers = [n for s in shares for n in range(s.first_worker, s.first_worker + s.workers)]
    assert numbers == list(range(workers))
    for sizes in ([len(s.cores) for s in shares], [s.workers for s in shares]):
        assert max(sizes) - min(sizes) <= 1
    if len(cores) == workers:
        assert all(len(share.cores) == share.workers for share in shares)


def test_too_many_processes_are_told_what_would_be_right() -> None:
    with pytest.raises(ConfigurationInvalid, match=r"4 processes .*2 worker.*--processes 2"):
        divide((0, 1, 2, 3), 2, 4)
    with pytest.raises(ConfigurationInvalid, match=r"4 processes .*2 core.*--processes 2"):
        divide((0, 1), 8, 4)


def test_where_cores_cannot_be_bound_only_workers_are_divided() -> None:
    assert [(share.cores, share.workers) for share in divide((), 5, 2)] == [((), 3), ((), 2)]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system does not say")
def test_the_usable_cores_are_those_that_this_process_may_use() -> None:
    assert set(usable_cores()) == os.sched_getaffinity(0)


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ({}, math.inf),
    ],
)
def test_a_container_counts_on_no_more_than_its_cpu_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], limit: float
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert cpu_limit(tmp_path) == limit
    assert usable_workers(tmp_path) == min(8, math.ceil(limit) if limit < 8 else 8)
