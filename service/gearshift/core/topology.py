"""Which processors lie close together, and which of them a worker keeps to.

A worker that straddles two NUMA nodes fetches half of what it reads from the other one's memory,
and two serving processes on the two threads of one core take turns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Cpu(NamedTuple):
    """A logical processor: its NUMA node, and the package and core that it is a thread of."""

    number: int
    node: int = 0
    package: int = 0
    core: int = 0


def cpu_list(text: str) -> Sequence[int]:
    """Numbers from the kernel's lists, such as `0-3,8` (Linux,
    Documentation/admin-guide/cputopology.rst). ValueError for what is none."""
    found: list[int] = []
    for part in text.strip().split(",") if text.strip() else ():
        first, between, last = part.partition("-")
        found += range(int(first), int(last if between else first) + 1)
    return found


def ordered(cpus: Iterable[Cpu]) -> Sequence[int]:
    """Their numbers, neighbours beside each other: the threads of a core, the cores of a node."""
    by_place = sorted(cpus, key=lambda cpu: (cpu.node, cpu.package, cpu.core, cpu.number))
    return [cpu.number for cpu in by_place]


def homes(cpus: Iterable[Cpu], workers: int, threads: int = 1) -> Sequence[Sequence[int]]:
    """For each of the workers, each with so many threads, the processors of the node that it keeps
    to; as many workers for each node as it has room for. Empty where there is one node only: then
    all processors are as near. ValueError where no node has as many processors as a worker has
    threads."""
    nodes: defaultdict[int, list[int]] = defaultdict(list)
    for cpu in cpus:
        nodes[cpu.node].append(cpu.number)
    largest = max(map(len, nodes.values()), default=threads)
    if threads > largest:
        raise ValueError(
            f"a worker with {threads} threads does not fit into any NUMA node: the largest has"
            f" {largest} processors that may be used here; give at most {largest}"
        )
    if len(nodes) < 2:
        return []
    taken = dict.fromkeys(sorted(nodes), 0)
    found = []
    for _ in range(workers):
        fitting = [node for node in taken if len(nodes[node]) >= threads]
        # Where the least of each processor is asked for once this worker has come, too.
        node = min(fitting, key=lambda each: ((taken[each] + threads) / len(nodes[each]), each))
        taken[node] += threads
        found.append(sorted(nodes[node]))
    return found
