"""Who is free, and who will be when."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

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
