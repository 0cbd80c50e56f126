"""No worker straddles two NUMA nodes, and none has more neighbours than it must."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.topology import Cpu, cpu_list, homes, ordered

MACHINES = st.lists(
    st.builds(Cpu, st.integers(0, 200), st.integers(0, 3), st.integers(0, 1), st.integers(0, 31)),
    unique_by=lambda cpu: cpu.number,
    max_size=40,
)


def two_sockets(cores: int = 4) -> list[Cpu]:
    """As Linux numbers them: first one thread of each core, then the others."""
    return [
        Cpu(thread * 2 * cores + node * cores + core, node, node, core)
        for thread in (0, 1)
        for node in (0, 1)
        for core in range(cores)
    ]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0-3,8\n", [0, 1, 2, 3, 8]), ("5", [5]), ("\n", []), ("0-1,4-5,9", [0, 1, 4, 5, 9])],
)
def test_lists_of_the_kernel(text, numbers):
    assert cpu_list(text) == numbers


@pytest.mark.parametrize("text", ["all", "1-", "-3", "1,,2"])
def test_what_is_no_list_is_an_error(text):
    with pytest.raises(ValueError, match="invalid literal"):
        cpu_list(text)


def test_threads_of_a_core_are_beside_each_other_and_nodes_are_apart():
    assert ordered(two_sockets()) == [0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15]


def test_workers_are_divided_among_sockets():
    found = homes(two_sockets(), 4)
    near, far = [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]
    assert found == [near, far, near, far]


def test_within_a_container_only_what_it_may_use_counts():
    """Six processors of one socket, two of the other: workers go where there is room."""
    allowed = [cpu for cpu in two_sockets() if cpu.node == 0 or cpu.number in (4, 12)]
    assert Counter(map(len, homes(allowed, 10))) == {8: 8, 2: 2}
    # One with four threads finds room in the larger part only.
    assert Counter(map(len, homes(allowed, 2, threads=4))) == {8: 2}


def test_on_one_node_nobody_is_bound():
    assert homes([Cpu(0), Cpu(1)], 2) == []
    assert homes([], 2) == []


def test_more_threads_than_any_node_has_are_told():
    with pytest.raises(ValueError, match=r"12 threads .*the largest has 8 .*give at most 8"):
        homes(two_sockets(), 1, threads=12)


@given(MACHINES, st.integers(1, 60), st.integers(1, 8))
def test_no_worker_straddles_nodes_and_none_is_crowded_needlessly(cpus, workers, threads):
    nodes = Counter(cpu.node for cpu in cpus)
    if nodes and max(nodes.values()) < threads:
        with pytest.raises(ValueError, match="does not fit into any NUMA node"):
            homes(cpus, workers, threads)
        return
    found = homes(cpus, workers, threads)
    if len(nodes) < 2:
        assert found == []
        return
    assert len(found) == workers
    node_of = {cpu.number: cpu.node for cpu in cpus}
    taken: Counter[int] = Counter()
    for home in found:
        (node,) = {node_of[number] for number in home}
        assert len(home) == nodes[node] >= threads
        taken[node] += threads
    # Whoever moves to another node finds it at least as crowded there.
    for node, used in taken.items():
        for other, size in nodes.items():
            if size >= threads:
                assert (taken[other] + threads) / size >= used / nodes[node] - 1e-9


@given(MACHINES)
def test_all_processors_are_kept_in_order(cpus):
    assert sorted(ordered(cpus)) == sorted(cpu.number for cpu in cpus)
