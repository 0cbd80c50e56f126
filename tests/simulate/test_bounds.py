"""No policy passes the optimum, and the optimum never passes the bound."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gearshift.simulate.bounds import time_expanded
from gearshift.simulate.bounds.clairvoyant import optimum
from gearshift.simulate.bounds.demand import LONGEST_WINDOW, Column, demand_of, upper_hull
from gearshift.simulate.bounds.time_expanded import dual_value, upper_bound
from gearshift.simulate.policies import POLICIES
from simulating import MODELS, make_scenario, run_policy, scenarios

TOLERANCE = 1e-7
ONE = {"m": {"large": (0.9, 0.0, 4.0), "small": (0.5, 0.0, 1.0)}}


@settings(max_examples=120)
@given(scenarios(most_requests=6), st.sampled_from([0.3, 1.0, 5.0]))
def test_bound_above_optimum_above_every_policy(scenario, step):
    best = optimum(scenario)
    assert upper_bound(scenario, step=step).effective_accuracy >= best - TOLERANCE
    for name in sorted(set(POLICIES) - {"proteus-1s"}):
        assert run_policy(scenario, name).total.effective_accuracy <= best + TOLERANCE, name


@settings(max_examples=30)
@given(scenarios(most_requests=8), st.floats(0.5, 4))
def test_they_agree_under_speed_up(scenario, speed_up):
    bound = upper_bound(scenario, speed_up=speed_up, step=0.5)
    assert bound.effective_accuracy >= optimum(scenario, speed_up=speed_up) - TOLERANCE


@pytest.mark.parametrize(
    ("requests", "workers", "expected"),
    [
        # Alone and with time: the best variant.
        ([(0.0, "m", 9.0, -math.inf)], 1, 0.9),
        # Two at once within 5 s: the large one and then the small one.
        ([(0.0, "m", 5.0, -math.inf)] * 2, 1, (0.9 + 0.5) / 2),
        # Only one of two that insist on the large variant.
        ([(0.0, "m", 5.0, 0.9)] * 2, 1, 0.9 / 2),
        ([(0.0, "m", 5.0, 0.9)] * 2, 2, 0.9),
        # Knowing what comes at 1, it is right to take the small variant at 0.
        ([(0.0, "m", 9.0, -math.inf), (1.0, "m", 4.0, 0.9)], 1, 0.9),
        # ... or to let the worker idle until the urgent one has come.
        ([(0.0, "m", 9.0, 0.9), (1.0, "m", 4.0, 0.9)], 1, 0.9),
        # Nobody can do it at all.
        ([(0.0, "m", 0.5, -math.inf)], 1, 0.0),
    ],
)
def test_the_optimum_of_examples_by_hand(requests, workers, expected):
    scenario = make_scenario(ONE, requests, workers=["cpu"] * workers)
    assert optimum(scenario) == pytest.approx(expected)


def test_a_batch_can_be_worth_it():
    models = {"m": {"only": (0.8, 3.0, 0.1)}}
    scenario = make_scenario(models, [(0.0, "m", 4.0, -math.inf)] * 4)
    assert optimum(scenario) == pytest.approx(0.8)
    assert upper_bound(scenario, step=1.0).effective_accuracy == pytest.approx(0.8)


def test_the_optimum_refuses_what_would_take_for_ever():
    scenario = make_scenario(ONE, [(0.0, "m", 9.0, -math.inf)] * 11)
    with pytest.raises(ValueError, match="11 requests"):
        optimum(scenario)


def test_without_requests_nothing_is_gained():
    scenario = make_scenario(ONE, [])
    assert optimum(scenario) == upper_bound(scenario).effective_accuracy == 0.0


def crowd(count=400, seed=1):
    random = np.random.default_rng(seed)
    moments = np.sort(random.uniform(0, 100, count))
    return make_scenario(
        MODELS,
        [
            (float(at), random.choice(["a", "b"]), random.choice([4.0, 9.0]), -math.inf)
            for at in moments
        ],
        workers=["cpu", "cpu", "gpu"],
        slower={"gpu": 0.5},
    )


def test_the_bound_is_tight_where_there_is_time_and_below_the_best_where_there_is_none():
    scenario = crowd(20)
    best = np.mean([MODELS[name]["large"][0] for name in scenario.workload.models])
    assert upper_bound(scenario, step=1.0).effective_accuracy == pytest.approx(best, abs=0.02)
    assert upper_bound(crowd(400), step=1.0).effective_accuracy < 0.9 * best


def test_windows_prove_nearly_the_same_bound_as_the_whole():
    scenario = crowd()
    whole = upper_bound(scenario, step=0.5, window=10_000).effective_accuracy
    windows = upper_bound(scenario, step=0.5, window=60).effective_accuracy
    assert whole - TOLERANCE <= windows <= whole * 1.001


def test_any_prices_prove_a_bound():
    scenario = crowd(60)
    demand = demand_of(scenario, 1.0, 1.0)
    least = upper_bound(scenario, step=1.0, window=10_000).effective_accuracy
    random = np.random.default_rng(0)
    for scale in (0.0, 0.01, 0.1, 1.0):
        prices = random.uniform(0, scale, (len(demand.devices), demand.steps))
        assert dual_value(demand, prices) / 60 >= least - TOLERANCE
        assert dual_value(demand, -prices) == dual_value(demand, 0 * prices)


def test_a_solver_that_fails_costs_tightness_never_truth(monkeypatch):
    class Failed:
        status = 4

    scenario = crowd(60)
    bound = upper_bound(scenario, step=1.0).effective_accuracy
    monkeypatch.setattr(time_expanded, "linprog", lambda *_, **__: Failed())
    assert upper_bound(scenario, step=1.0).effective_accuracy >= bound


def test_long_budgets_widen_the_steps():
    scenario = make_scenario(ONE, [(0.0, "m", 1000.0, -math.inf)])
    demand = demand_of(scenario, 1.0, 0.1)
    assert demand.steps <= LONGEST_WINDOW + 1
    assert upper_bound(scenario).step == pytest.approx(1000 / LONGEST_WINDOW)


def test_many_different_budgets_still_give_a_bound():
    requests = [(0.1 * i, "a", 2.0 + 0.01 * i, -math.inf) for i in range(200)]
    scenario = make_scenario(MODELS, requests)
    assert len(demand_of(scenario, 1.0, 0.5).kinds) <= 32
    best = run_policy(scenario, "slackfit").total.effective_accuracy
    assert upper_bound(scenario, step=0.5).effective_accuracy >= best


def test_only_what_a_mixture_cannot_beat_is_kept():
    ways = [
        Column(0, accuracy, work)
        for accuracy, work in ((0.5, 1.0), (0.6, 2.0), (0.9, 3.0), (0.8, 4.0), (0.95, 9.0))
    ]
    assert [way.accuracy for way in upper_hull(ways)] == [0.5, 0.9, 0.95]
