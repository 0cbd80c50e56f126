"""What Linux says of the processors, over trees that are made up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gearshift.core.topology import Cpu
from gearshift.processes import divide, shares, topology


def put(system: Path, nodes: dict[int, str], cores: dict[int, tuple[int, int]]) -> Path:
    """`cores` has package and core by processor."""
    for node, processors in nodes.items():
        folder = system / "node" / f"node{node}"
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(f"{processors}\n")
    for number, (package, core) in cores.items():
        folder = system / "cpu" / f"cpu{number}" / "topology"
        folder.mkdir(parents=True)
        (folder / "physical_package_id").write_text(f"{package}\n")
        (folder / "core_id").write_text(f"{core}\n")
    return system


TWO_SOCKETS = {n: (n // 2 % 2, n % 2) for n in range(8)}
"""Of two cores with two threads each: 0, 1, 4 and 5 are of the first."""


def test_two_sockets_with_two_threads_a_core(tmp_path):
    system = put(tmp_path, {0: "0-1,4-5", 1: "2-3,6-7"}, TWO_SOCKETS)
    found = topology(range(8), system)
    assert found[0] == Cpu(0, node=0, package=0, core=0)
    assert found[6] == Cpu(6, node=1, package=1, core=0)


def test_of_a_container_only_what_it_may_use(tmp_path):
    system = put(tmp_path, {0: "0-1,4-5", 1: "2-3,6-7"}, TWO_SOCKETS)
    assert [cpu.number for cpu in topology({6, 1}, system)] == [1, 6]


@pytest.mark.parametrize("text", ["", "every\n", "\xff"])
def test_what_is_not_told_is_one_node_of_cores(tmp_path, text):
    folder = tmp_path / "node" / "node1"
    folder.mkdir(parents=True)
    (folder / "cpulist").write_text(text)
    assert topology({0, 3}, tmp_path) == [Cpu(0, 0, 0, 0), Cpu(3, 0, 0, 3)]
    assert topology({0}, tmp_path / "nothing") == [Cpu(0, 0, 0, 0)]


def test_serving_processes_get_cores_that_lie_together(tmp_path, monkeypatch):
    """By their numbers the first would get half of each socket."""
    system = put(tmp_path, {0: "0-1,4-5", 1: "2-3,6-7"}, TWO_SOCKETS)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(shares, "topology", lambda allowed: topology(allowed, system))
    found = divide(shares.usable_cores(), 8, 4)
    assert [share.cores for share in found] == [(0, 4), (1, 5), (2, 6), (3, 7)]
    assert [share.cores for share in divide(shares.usable_cores(), 8, 2)] == [
        (0, 4, 1, 5),
        (2, 6, 3, 7),
    ]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system does not say")
def test_this_machine():
    allowed = os.sched_getaffinity(0)
    assert {cpu.number for cpu in topology(allowed)} == allowed


def test_as_many_workers_as_have_threads_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    found = [shares.usable_workers(tmp_path, threads) for threads in (1, 2, 3, 8, 9)]
    assert found == [8, 4, 2, 1, 1]
