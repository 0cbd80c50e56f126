"""Who is free, and who will be when."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core import workers as workers_module
from gearshift.core.workers import Workers


def test_who_relies_on_a_worker_waits_for_its_sure_end():
    workers = Workers({0: "cpu", 1: "cpu"})
    assert workers.next_free("cpu") == math.inf
    taken = workers.begin("cpu", 0.0, 0.010, 0.020)
    assert workers.next_free("cpu") == 0.010
    assert workers.free_within("cpu", 0.015) == 1
    assert workers.free_within("cpu", 0.020) == 2
    assert workers.enough_free_at("cpu", 1) == -math.inf
    assert workers.enough_free_at("cpu", 2) == 0.020
    assert workers.enough_free_at("cpu", 3) == math.inf
    workers.end(taken, 0.012)
    assert workers.free_within("cpu", 0.012) == 2
    assert workers.next_free("cpu") == math.inf


def test_idle_time_is_shared_out_by_device():
    workers = Workers({0: "cpu", 1: "cpu", 2: "gpu"})
    assert workers.idle_shares(0.0) == {"cpu": 1.0, "gpu": 1.0}
    taken = workers.begin("cpu", 0.0, 1.0, 1.0)
    workers.end(taken, 0.5)
    assert workers.idle_shares(1.0) == {"cpu": 0.75, "gpu": 1.0}


def test_workers_come_and_go_but_never_the_last_of_a_device(monkeypatch):
    workers = Workers({0: "cpu", 1: "cpu", 2: "gpu"})
    taken = workers.begin("cpu", 0.0, 1.0, 2.0)
    workers.remove(taken, 0.5)
    assert workers.counts == {"cpu": 1, "gpu": 1}
    assert (workers.next_free("cpu"), len(workers.idle["cpu"])) == (math.inf, 1)
    for wrong, message in ((taken, f"no worker {taken}"), (2, "last one of 'gpu'")):
        with pytest.raises(ValueError, match=message):
            workers.remove(wrong, 0.5)
    workers.add(3, "cpu", 0.5)
    workers.add(4, "near", 0.5)
    workers.add(5, "nearer", 0.5, first=True)
    assert list(workers.idle) == ["nearer", "cpu", "gpu", "near"]
    assert workers.counts["cpu"] == len(workers.idle["cpu"]) == 2
    with pytest.raises(ValueError, match="worker 3 already, on 'cpu'"):
        workers.add(3, "gpu", 0.5)
    monkeypatch.setattr(workers_module, "MOST", 5)
    with pytest.raises(ValueError, match="there are 5 workers already"):
        workers.add(6, "gpu", 0.5)


def test_only_the_time_since_a_worker_came_counts_as_idle():
    workers = Workers({0: "cpu"})
    assert workers.idle_shares(0.0) == {"cpu": 1.0}
    taken = workers.begin("cpu", 0.0, 9.0, 9.0)
    workers.add(1, "cpu", 5.0)
    assert workers.idle_shares(10.0) == {"cpu": 0.25}
    workers.remove(taken, 12.0)
    assert workers.idle_shares(20.0) == {"cpu": 1.0}


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 9)), max_size=40))
def test_the_order_of_ends_is_kept(steps):
    workers, running, moment = Workers(dict.fromkeys(range(4), "cpu")), {}, 0.0
    for begins, until, more in steps:
        if begins and workers.idle["cpu"]:
            taken = workers.begin("cpu", moment, float(until), float(until + more))
            running[taken] = (float(until), float(until + more))
        elif running:
            workers.end(taken := min(running), moment)
            del running[taken]
        sure = sorted(surely for _, surely in running.values())
        assert workers.next_free("cpu") == min((end for end, _ in running.values()), default=9e999)
        for count in range(1, len(sure) + 1):
            assert workers.enough_free_at("cpu", 4 - len(sure) + count) == sure[count - 1]
        assert workers.free_within("cpu", 5.0) == 4 - sum(end > 5.0 for end in sure)
