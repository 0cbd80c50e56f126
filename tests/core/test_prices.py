"""Prices against an exact solver of the same program, and what they must never do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from builders import make_model
from gearshift.core.columns import Column
from gearshift.core.guard import Length
from gearshift.core.prices import (
    TEMPERATURE,
    Demand,
    Outlook,
    Planner,
    blocking,
    net_worth,
    served_share,
    spread,
)
from gearshift.core.profile import LatencyPoint, Profile

PROFILE = Profile(make_model().variants[0], "cpu", [LatencyPoint(1, 0.01, 0.01)], 8)
DEVICES = ("cpu", "gpu", "npu")


def column(worth: float, cost: float, device: str = "cpu", length: Length = Length.SHORT) -> Column:
    return Column(device, PROFILE, 1, worth, cost, cost, length)


def outlook(demands, capacity) -> Outlook:
    return Outlook([Demand(count, 1.0, 1.0, columns) for count, columns in demands], capacity)


def dual(view: Outlook, prices) -> float:
    """An upper bound of the program's value at any prices; its least is the value itself."""
    bound = sum(prices[resource] * seconds for resource, seconds in view.capacity.items())
    for demand in view.demands:
        best = max(net_worth(column, prices) for column in demand.columns)
        bound += demand.count * max(0.0, best)
    return bound


def exact(view: Outlook, prices) -> float:
    """The program's value, with the runs spread where the plan spreads them."""
    resources = list(view.capacity)
    worths, used = [], []
    for number, demand in enumerate(view.demands):
        for one in demand.columns:
            row = np.zeros(len(view.demands) + len(resources))
            row[number] = 1.0
            row[len(view.demands) + resources.index(one.device)] = one.cost
            if one.length is not Length.SHORT:
                spreads = spread(one.device) in prices and one.length is Length.SPREAD
                blocked = one.cost * (0.5 if spreads else 1.0)
                row[len(view.demands) + resources.index(blocking(one.device))] = blocked
            worths.append(-one.worth)
            used.append(row)
    limits = [demand.count for demand in view.demands] + list(view.capacity.values())
    return -linprog(worths, A_ub=np.array(used).T, b_ub=limits, method="highs").fun


@st.composite
def outlooks(draw) -> Outlook:
    devices = DEVICES[: draw(st.integers(1, 3))]
    capacity = {device: float(draw(st.integers(2, 30))) for device in devices}
    if draw(st.booleans()):
        capacity[blocking("cpu")] = capacity["cpu"] / 2
    demands = []
    for _ in range(draw(st.integers(1, 6))):
        columns = [
            column(
                draw(st.floats(0.3, 1.0)),
                10 ** draw(st.floats(-4, -0.5)),
                device,
                draw(st.sampled_from(Length))
                if device == "cpu" and blocking("cpu") in capacity
                else Length.SHORT,
            )
            for device in devices
            for _ in range(draw(st.integers(1, 4)))
        ]
        demands.append((float(draw(st.integers(1, 3000))), columns))
    return outlook(demands, capacity)


LONG_AND_SHORT = [
    column(1.0, 0.1, "cpu", Length.SPREAD),
    column(0.65625, 0.001),
    column(0.71875, 0.005623413251903491, "cpu", Length.SPREAD),
]
"""At these a step that was cut short at a price of 0 led nowhere."""


@given(outlooks())
@example(outlook([(210.0, LONG_AND_SHORT)], {"cpu": 6.0, blocking("cpu"): 3.0}))
@settings(max_examples=150)
def test_the_prices_are_those_of_the_exact_program(view):
    """Near the exact dual's value: farther off only by the softmax, and by the part of the
    capacity that is kept from planning."""
    prices = Planner().prices(view)
    assert all(0.0 <= price < math.inf for price in prices.values())
    answers = sum(demand.count for demand in view.demands)
    choices = max(len(demand.columns) for demand in view.demands) + 1
    softness = answers * TEMPERATURE * math.log(choices)
    kept = sum(prices[resource] * 0.31 * view.capacity[resource] for resource in view.capacity)
    assert dual(view, prices) <= exact(view, prices) * 1.02 + softness + kept


def test_prices_are_found_again_from_anywhere():
    scarce = outlook([(1000.0, [column(1.0, 0.1), column(0.8, 0.01)])], {"cpu": 10.0})
    plenty = outlook([(1.0, [column(1.0, 0.1), column(0.8, 0.01)])], {"cpu": 10.0})
    cold, warm = Planner(), Planner()
    expected = cold.prices(scarce)["cpu"]
    for view in (plenty, scarce, plenty, scarce):
        found = warm.prices(view)["cpu"]
    assert found == pytest.approx(expected, rel=0.01)
    assert warm.prices(plenty)["cpu"] == 0.0


def test_time_is_free_while_the_work_fits():
    assert Planner().prices(outlook([(10.0, [column(1.0, 0.01)])], {"cpu": 2.0})) == {"cpu": 0.0}
    assert Planner().prices(outlook([], {"cpu": 2.0})) == {"cpu": 0.0}


def test_under_a_hundredfold_load_the_price_is_what_the_best_use_of_time_is_worth():
    view = outlook([(1e5, [column(1.0, 0.1), column(0.8, 0.01)])], {"cpu": 1.0})
    assert Planner().prices(view)["cpu"] == pytest.approx(80.0, rel=0.02)


def test_what_is_worth_nothing_has_no_say_in_the_prices():
    paying = Demand(1000.0, 1.0, 1.0, [column(1.0, 0.1)])
    # Rows that go on in a cascade whose second variant has turned out no better.
    idle = Demand(1000.0, 0.0, 1.0, [column(0.0, 0.1)])
    alone = Planner().prices(Outlook([paying], {"cpu": 1.0}))
    both = Planner().prices(Outlook([paying, idle], {"cpu": 1.0}))
    assert both["cpu"] == pytest.approx(alone["cpu"], rel=0.05)
    assert Planner().prices(Outlook([idle], {"cpu": 1.0}))["cpu"] == 0.0


def test_runs_that_block_pay_for_both():
    prices = {"cpu": 2.0, blocking("cpu"): 3.0}
    assert net_worth(column(1.0, 0.1), prices) == pytest.approx(0.8)
    assert net_worth(column(1.0, 0.1, length=Length.LONG), prices) == pytest.approx(0.5)
    assert net_worth(column(1.0, 0.1, length=Length.SPREAD), prices) == pytest.approx(0.5)
    prices[spread("cpu")] = 1.0
    assert net_worth(column(1.0, 0.1, length=Length.SPREAD), prices) == pytest.approx(0.7)


def test_runs_are_spread_only_where_much_is_lost_otherwise():
    """Two workers, one for long runs: 100 runs of 10 ms a second, or 200 of them spread."""
    columns = [column(1.0, 0.010, length=Length.SPREAD)]
    capacity = {"cpu": 2.0, blocking("cpu"): 1.0}
    planner = Planner()
    few = planner.prices(outlook([(50.0, columns)], capacity))
    many = planner.prices(outlook([(150.0, columns)], capacity))
    assert spread("cpu") not in few
    assert many[spread("cpu")] == many[blocking("cpu")] / 2
    assert served_share(Demand(150.0, 1.0, 1.0, columns), many) > 0.95
    assert planner.prices(outlook([(50.0, columns)], capacity)).keys() == few.keys()


def test_the_served_share_goes_from_all_to_none_as_the_price_rises():
    demand = Demand(1.0, 1.0, 1.0, [column(1.0, 0.1)])
    shares = [served_share(demand, {"cpu": price}) for price in (0.0, 9.9, 10.0, 10.1, 20.0)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == pytest.approx(1.0)
    assert shares[2] == pytest.approx(0.5)
    assert shares[-1] == pytest.approx(0.0, abs=1e-9)
    assert served_share(Demand(1.0, 1.0, 1.0, []), {}) == 0.0
