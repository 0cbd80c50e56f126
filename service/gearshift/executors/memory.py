"""Memory: how much there is, how much this process holds, and giving back what it need not."""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
"""Where a container sees the limits that it runs under."""

MEMINFO = Path("/proc/meminfo")
STATM = Path("/proc/self/statm")

MIB = 2**20


def give_back() -> None:
    """Return what was freed to the system.

    glibc keeps it for later: after a network of 100 MB another 100 MB, in which ONNX Runtime
    had read the file. Other C libraries have no such call, and need none.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def own_memory() -> int:
    """Bytes that this process holds for itself; 0 where the system does not tell."""
    try:
        _, resident, shared = STATM.read_text().split()[:3]
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def room(cgroups: Path = CGROUPS, meminfo: Path = MEMINFO) -> float:
    """Bytes that can still be had before something is killed: of the machine's memory, of the
    container's limit (control groups 2 or 1; Linux, Documentation/admin-guide/cgroup-v2.rst and
    cgroup-v1/memory.rst), and of this process's address space where that is limited (RLIMIT_AS).
    Infinite where the system tells none of these."""
    return min(_rooms(cgroups, meminfo), default=math.inf)


def check_room(wanted: int, copies: int = 1) -> None:
    """ValueError if so many bytes of an artifact, so often, cannot fit.

    An artifact's weights are held at least once, so that what is refused here would have failed,
    or had something killed; more is not guessed.
    """
    there = room()
    if wanted * copies > there:
        often = f" for each of {copies} worker processes" if copies > 1 else ""
        raise ValueError(
            f"not enough memory: the artifact has {told(wanted)}{often}, and {told(there)} are"
            f" free; unload something, or give the server more"
        )


def _rooms(cgroups: Path, meminfo: Path) -> Iterator[float]:
    for line in _lines(meminfo):
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024.0
    by_version = (
        (cgroups, "memory.max", "memory.current", "inactive_file"),
        (
            cgroups / "memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
    )
    for folder, limit, used, cached in by_version:
        with suppress(OSError, ValueError):  # No such file, or no limit: then it says "max".
            least = int((folder / limit).read_text()) - int((folder / used).read_text())
            # What was read from files lately counts as used, and is given up when it is needed.
            given = [n for n in _lines(folder / "memory.stat") if n.split()[0] == cached]
            yield max(0.0, least + sum(float(line.split()[1]) for line in given))
    with suppress(ImportError, OSError):
        import resource

        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        if most != resource.RLIM_INFINITY:
            pages = int(STATM.read_text().split()[0])
            yield max(0.0, float(most - pages * os.sysconf("SC_PAGE_SIZE")))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def told(size: float) -> str:
    """For people."""
    return f"{size / MIB:.0f} MiB"
