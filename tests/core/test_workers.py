"""Who is free, and who will be when."""

from __future__ import annotations

import math

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
