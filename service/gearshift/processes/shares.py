"""Who gets which cores and workers: no two processes may count on the same core."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gearshift.core.topology import ordered
from gearshift.errors import ConfigurationInvalid
from gearshift.processes.topology import topology

_THREADS = Path("/proc/self/task")

CGROUPS = Path("/sys/fs/cgroup")
"""Where a container sees the limits that it runs under."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one process has: its cores (none where the system cannot bind a process to some),
    the number of its workers, and how many workers the processes before it have."""

    cores: tuple[int, ...]
    workers: int
    first_worker: int


def usable_cores() -> tuple[int, ...]:
    """The cores that this process may use, those beside each other that lie close together: a
    container often gets fewer than there are. Empty where the system does not say, and cannot bind
    a process to some."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(ordered(topology(os.sched_getaffinity(0))))
    return ()


def cpu_limit(cgroups: Path = CGROUPS) -> float:
    """Cores' worth of time that this container may use (`docker run --cpus`, a pod's CPU limit);
    infinite where there is no limit. By version 2 of control groups, or version 1 (Linux,
    Documentation/admin-guide/cgroup-v2.rst and Documentation/scheduler/sched-bwc.rst)."""
    by_version = (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"])
    for files in by_version:
        try:
            text = " ".join((cgroups / name).read_text() for name in files)
            quota, period = map(float, text.split())
        except (OSError, ValueError):
            continue  # No such file, or no limit: then it says "max".
        if quota > 0 and period > 0:
            return quota / period
    return math.inf


def usable_workers(cgroups: Path = CGROUPS, threads: int = 1) -> int:
    """As many batches as can really run at the same time with so many threads each: one per core,
    within the CPU limit."""
    cores = len(usable_cores()) or os.cpu_count() or 1
    return max(1, math.ceil(min(cores, cpu_limit(cgroups))) // threads)


def bind(cores: Sequence[int]) -> None:
    """Keep this process, with all threads that it has by now, to these cores."""
    if not cores:
        return
    threads = [int(thread.name) for thread in _THREADS.iterdir()] if _THREADS.is_dir() else [0]
    for thread in threads:
        os.sched_setaffinity(thread, cores)


def divide(cores: Sequence[int], workers: int, processes: int) -> list[Share]:
    """As evenly as it goes, neighbouring cores together. ConfigurationInvalid where a process
    would be left without a worker, or would have to share a core."""
    if processes > workers:
        raise ConfigurationInvalid(
            f"setting processes: {processes} processes cannot divide {workers} worker(s) among"
            f" them, each needs one of its own; give at most --processes {workers}, or more"
            f" --workers"
        )
    if cores and processes > len(cores):
        raise ConfigurationInvalid(
            f"setting processes: {processes} processes cannot divide {len(cores)} core(s) among"
            f" them, and two must not count on the same one; give at most"
            f" --processes {len(cores)}"
        )
    shares = []
    for index in range(processes):
        first, last = _part(workers, processes, index)
        begin, end = _part(len(cores), processes, index)
        shares.append(Share(tuple(cores[begin:end]), last - first, first))
    return shares


def _part(count: int, parts: int, index: int) -> tuple[int, int]:
    """Begin and end of one of `parts` parts that differ by at most one, larger ones first."""
    size, larger = divmod(count, parts)
    begin = index * size + min(index, larger)
    return begin, begin + size + (index < larger)
