"""The demand bound: never above what is needed, and monotone in everything."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gearshift.simulate.planning.bound import demands, least_pods
from gearshift.simulate.planning.goals import Goal, Measure
from gearshift.simulate.planning.traffic import Asking, Steady
from gearshift.simulate.planning.trial import Conditions, simulate
from planning import attainment, make_kind, make_pod, make_traffic


def least(pod, traffic, *goals, door=0.0, rate=0.0):
    return least_pods(pod, demands(pod, traffic, goals), rate, door)


def steady(rate, budget=10.0, floor=-math.inf, model="fraud"):
    return Steady([Asking((model, "default"), budget, floor, rate)], "test")


def served(share, model="fraud"):
    return Goal(Measure.SERVED, model, None, share)


@pytest.mark.parametrize(
    ("goals", "floor", "work"),
    [
        # small: (1.5 + 8 * 0.5) / 8 ms a row; large: (4 + 8 * 2) / 8 ms.
        ([attainment(0.8)], -math.inf, 0.8 * 0.6875),
        ([attainment(0.8)], 0.85, 0.8 * 2.5),
        # Half way between the two accuracies: half of each.
        ([Goal(Measure.EFFECTIVE, "fraud", None, 0.85)], -math.inf, (0.6875 + 2.5) / 2),
        ([attainment(0.8), served(0.8)], -math.inf, 0.8 * 0.6875),
        ([served(0.9)], -math.inf, 0.0),
        # Two goals for different requests would add up; for the same the dearer one counts.
        ([attainment(0.8), attainment(0.9)], -math.inf, 0.9 * 0.6875),
    ],
)
def test_what_goals_cost_a_request(goals, floor, work):
    pod = make_pod(make_kind())
    (demand,) = demands(pod, steady(1000.0, floor=floor), goals)
    assert demand.work / demand.seconds == pytest.approx(work, rel=1e-6)


def test_a_crowd_counts_in_its_own_window():
    calm = make_traffic({"fraud": 200}, seconds=64)
    pod = make_pod(make_kind())
    crowd = make_traffic({"fraud": 200}, seconds=64)
    crowd._arrivals = crowd._arrivals.copy()
    middle = (crowd._arrivals > 20) & (crowd._arrivals < 30)
    crowd._arrivals[middle] = 20 + (crowd._arrivals[middle] - 20) / 10
    goal = attainment(0.999)
    assert least(pod, crowd, goal) > least(pod, calm, goal) == 1


def test_the_front_door_needs_a_core_for_so_many_requests():
    pod = make_pod(make_kind())
    assert least(pod, steady(1.0), attainment(0.9), door=100e-6, rate=9_000) == 1
    assert least(pod, steady(1.0), attainment(0.9), door=100e-6, rate=9_001) == 2


SHARES = st.floats(0.1, 0.99)
RATES = st.floats(1, 3000)


@given(RATES, SHARES, SHARES, st.integers(1, 4), st.integers(0, 4), st.floats(0.7, 0.9))
def test_monotone(rate, one, other, workers, more, accuracy):
    loose, strict = attainment(min(one, other)), attainment(max(one, other))
    pod, larger = (make_pod(make_kind(workers=w)) for w in (workers, workers + more))
    traffic = steady(rate)
    assert least(larger, traffic, strict) <= least(pod, traffic, strict)
    assert least(pod, traffic, loose) <= least(pod, traffic, strict)
    assert least(pod, traffic, strict) <= least(pod, traffic, strict, served(accuracy))
    assert least(pod, traffic, strict) <= least(pod, steady(1.5 * rate), strict)


@settings(max_examples=12, deadline=None)
@given(
    st.floats(20, 3000), st.sampled_from([0.3, 0.8]), st.sampled_from([0.6, 0.95]), st.booleans()
)
def test_fewer_pods_than_the_bound_never_hold_the_goals(rate, budget, share, accurate):
    traffic = make_traffic({"fraud": rate}, seconds=2, budgets={"fraud": budget})
    pod = make_pod(make_kind())
    goals = [attainment(share)]
    if accurate:
        goals.append(served(0.88))
    bound = least(pod, traffic, *goals)
    conditions = Conditions(seeds=1, requests=100_000, noise=0.0, door=0.0)
    for pods in range(1, bound):
        assert not simulate(pod, pods, traffic, goals, conditions, lambda *_: None).holds
