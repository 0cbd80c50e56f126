"""Requests split between pods: nothing lost, nothing twice, and a part stands for the whole."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.simulate.planning.moments import moment
from gearshift.simulate.planning.traffic import Asking, Recorded, Steady, rates
from gearshift.simulate.planning.trial import Conditions, simulate
from planning import attainment, make_kind, make_pod, make_traffic, make_workload

ALL = 10**9


@given(st.integers(1, 9), st.integers(0, 3))
def test_every_request_goes_to_one_pod(count, seed):
    traffic = make_traffic({"fraud": 20, "tumor": 5})
    parts = list(traffic.pods(count, seed, ["fraud", "tumor"], ALL))
    arrivals = np.sort(np.concatenate([part.arrivals for _, part in parts]))
    (whole,) = traffic.pods(1, seed, ["fraud", "tumor"], ALL)
    assert arrivals.tolist() == whole[1].arrivals.tolist()
    lefts = [left for left, _ in parts]
    assert lefts[0] == len(whole[1])
    assert lefts == sorted(lefts, reverse=True)
    assert lefts[-1] == len(parts[-1][1])


def test_only_the_models_of_the_pod_and_about_as_many_as_asked_for():
    traffic = make_traffic({"fraud": 100, "tumor": 100})
    parts = [part for _, part in traffic.pods(10, 0, ["fraud"], 400)]
    assert {model for part in parts for model in part.models} == {"fraud"}
    assert 250 < sum(map(len, parts)) < 550
    assert len(parts) == 2


def test_a_recorded_load_is_the_same_requests_in_less_time():
    workload = make_workload({"fraud": 50}, 20, {"fraud": 0.02})
    once, twice = Recorded(workload, 1.0), Recorded(workload, 2.0)
    assert twice.seconds == pytest.approx(once.seconds / 2)
    assert rates(twice, ["fraud"])["fraud", "default"] == pytest.approx(
        2 * rates(once, ["fraud"])["fraud", "default"]
    )
    for parts in (1, 4):
        counted = [sum(counts) for _, counts in twice.windows(parts)]
        assert sum(counted) == len(workload)


def test_rates_become_poisson_arrivals_of_a_pods_share():
    asking = [
        Asking(("fraud", "realtime"), 0.01, -math.inf, 300.0),
        Asking(("tumor", "critical"), math.inf, 0.9, 100.0),
    ]
    traffic = Steady(asking, "http://localhost:9090")
    ((left, part),) = traffic.pods(10, 0, ["fraud", "tumor"], 4_000)
    assert left == len(part)
    # 40 a second for a pod: so it lasts 100 s.
    assert len(part) == pytest.approx(4_000, rel=0.1)
    assert part.arrivals[-1] == pytest.approx(100, rel=0.05)
    assert (np.diff(part.arrivals) >= 0).all()
    assert part.models.count("fraud") == pytest.approx(3_000, rel=0.1)
    first = part.models.index("tumor")
    assert (part.budgets[first], part.floors[first]) == (math.inf, 0.9)
    ((_, again),) = traffic.pods(10, 0, ["fraud", "tumor"], 4_000)
    assert again.arrivals.tolist() == part.arrivals.tolist()


def test_one_pod_with_its_share_stands_for_all_of_them():
    """What N pods do, one after the other, and what one of them does alone."""
    traffic = make_traffic({"fraud": 800, "tumor": 60}, seconds=16)
    pod = make_pod(make_kind())
    goals = [attainment(0.5), attainment(0.5, "tumor")]

    def tried(requests):
        conditions = Conditions(seeds=1, requests=requests, door=0.0)
        return simulate(pod, 4, traffic, goals, conditions, lambda *_: None)

    every, one = tried(ALL), tried(2_000)
    assert one.simulated < every.simulated / 3
    for whole, part in zip(every.verdicts, one.verdicts, strict=True):
        assert part.low - 0.02 <= whole.value <= part.high + 0.02
    assert one.busy["cpu"] == pytest.approx(every.busy["cpu"], abs=0.05)
    # And it is loaded enough for that to say something.
    assert every.busy["cpu"] > 0.3
    assert min(verdict.value for verdict in every.verdicts) < 1.0


def test_the_moment_to_plan_for_is_that_of_all_models_together():
    times = {"night": 0, "noon": 1, "evening": 2}
    found = {
        ("fraud", "realtime"): np.array([1.0, 50.0, 10.0]),
        ("tumor", "critical"): np.array([40.0, 2.0, 30.0]),
    }
    seconds = {("fraud", "realtime"): 0.01, ("tumor", "critical"): 0.02}
    place, demand = moment(found, seconds, 1.0)
    assert place == times["night"]
    assert demand == pytest.approx([0.81, 0.54, 0.7])
    assert moment(found, seconds, 0.5)[0] == times["evening"]
    assert moment(found, seconds, 0.01)[0] == times["noon"]
