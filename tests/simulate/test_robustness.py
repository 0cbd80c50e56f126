"""What the core keeps when what it is told is wrong: prices, and the speed of a variant."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gearshift.core.decisions import Drop, Refused
from gearshift.simulate.policies.gearshift import Gearshift
from gearshift.simulate.runner import run
from simulating import make_scenario

MS = 0.001
FAST, SLOW = "fraud", "tumor"
MODELS = {
    FAST: {
        "large": (0.88, 1.8 * MS, 0.10 * MS),
        "small": (0.86, 0.5 * MS, 0.03 * MS),
        "tiny": (0.71, 0.05 * MS, 0.002 * MS),
    },
    SLOW: {
        "large": (0.97, 2.0 * MS, 28.0 * MS),
        "middle": (0.96, 1.0 * MS, 9.0 * MS),
        "small": (0.94, 0.5 * MS, 2.5 * MS),
    },
}


def busy(seconds: float, fast: float, slow: float, seed: int = 0):
    """Two workers; every second slow request asks for at least the middle variant."""
    rng = np.random.default_rng(seed)
    requests = []
    for model, rate, budget in ((FAST, fast, 10 * MS), (SLOW, slow, 250 * MS)):
        at = 0.0
        while (at := at + rng.exponential(1.0 / rate)) < seconds:
            floor = 0.96 if model == SLOW and rng.random() < 0.5 else -math.inf
            requests.append((at, model, budget, floor))
    return make_scenario(MODELS, sorted(requests), ("cpu", "cpu"), max_batch=8)


class Misled(Gearshift):
    """The core with a planner that does something else."""

    def __init__(self, scenario, mislead) -> None:
        super().__init__(scenario.catalog, scenario.profiles, scenario.workers)
        self._mislead = mislead

    def plan(self, now):
        prices = self._mislead(now, self.planner, self.scheduler.outlook(now))
        if prices is not None:
            self.scheduler.set_prices(prices)


class Frozen:
    """Prices as they were at the end of the first second."""

    def __init__(self) -> None:
        self._prices = {}

    def __call__(self, now, planner, outlook):
        if now < 1.0:
            self._prices = planner.prices(outlook)
        return self._prices


WRONG = {
    "zero": lambda now, planner, outlook: dict.fromkeys(outlook.capacity, 0.0),
    "ten times too high": lambda now, planner, outlook: {
        name: 10.0 * price for name, price in planner.prices(outlook).items()
    },
    "ten times too low": lambda now, planner, outlook: {
        name: 0.1 * price for name, price in planner.prices(outlook).items()
    },
    "no number": lambda now, planner, outlook: dict.fromkeys(outlook.capacity, math.nan),
    "never told": lambda now, planner, outlook: None,
    "absurd": lambda now, planner, outlook: dict.fromkeys(outlook.capacity, 1e12),
    "frozen": Frozen(),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("slow", [30.0, 90.0], ids=["room", "overload"])
def test_wrong_prices_never_cost_a_deadline_or_a_floor(name, slow):
    scenario = busy(6.0, 400.0, slow)
    # Without noise a run ends as predicted: whatever is dispatched must be in time. That no
    # answer is below its floor, and everybody ends once, is the runner's to judge.
    told = run(scenario, Misled(scenario, WRONG[name]), name).total
    assert told.late == 0
    assert told.served + told.shed + told.expired == told.requests
    assert told.served > 0.5 * told.requests


@pytest.mark.parametrize("name", ["zero", "never told", "frozen", "ten times too low"])
def test_where_there_is_room_wrong_prices_hardly_cost_answers(name):
    scenario = busy(6.0, 400.0, 30.0)
    told = run(scenario, Misled(scenario, WRONG[name]), name).total
    assert told.attainment > 0.99


STEPS = (4.0, 10.0)
"""Seconds at which the variant becomes three times slower, and what it was again."""
NOTICED = 50
"""Runs of it after a step within which it must have been noticed."""


class Watched(Gearshift):
    """Keeps when each run began, of what, and how many of its answers were late."""

    def __init__(self, scenario) -> None:
        super().__init__(scenario.catalog, scenario.profiles, scenario.workers)
        self.runs = {}
        self._open = {}

    def decide(self, now):
        decisions = super().decide(now)
        for action in decisions.actions:
            if hasattr(action, "worker"):
                self._open[action.id] = (now, action)
        return decisions

    def finished(self, dispatch_id, now, measured):
        begun, action = self._open.pop(dispatch_id)
        late = sum(ticket.deadline + 1e-9 < now for ticket in action.tickets)
        self.runs[dispatch_id] = (begun, action.profile.variant.name, len(action.tickets), late)
        super().finished(dispatch_id, now, measured)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_step_of_three_and_back_is_noticed_before_many_are_late(seed):
    rng = np.random.default_rng(seed)
    at, requests = 0.0, []
    while (at := at + rng.exponential(1.0 / 300.0)) < 15.0:
        requests.append((at, "m", 40 * MS, -math.inf))
    variants = {"large": (0.9, 8 * MS, 0.5 * MS), "small": (0.8, 2 * MS, 0.1 * MS)}
    scenario = make_scenario({"m": variants}, requests, ("cpu", "cpu"), max_batch=8)

    def drift(dispatch, now):
        slow = dispatch.profile.variant.name == "large" and STEPS[0] <= now < STEPS[1]
        return 3.0 if slow else 1.0

    policy = Watched(scenario)
    run(scenario, policy, "gearshift", noise=0.05, seed=seed, drift=drift)
    runs = [policy.runs[number] for number in sorted(policy.runs)]
    assert sum(name == "large" for begun, name, _, _ in runs if begun < STEPS[0]) > NOTICED
    for step, until in zip(STEPS, (STEPS[1], math.inf), strict=True):
        after = [found for found in runs if step <= found[0] < until]
        # Those count that come after the fiftieth run of the variant whose speed has changed.
        large = [position for position, found in enumerate(after) if found[1] == "large"]
        later = after[large[NOTICED - 1] + 1 :] if len(large) >= NOTICED else []
        answers = sum(count for _, _, count, _ in later)
        assert sum(late for _, _, _, late in later) <= 0.01 * answers
    # It is used again when it is quick again.
    last = [name for begun, name, _, _ in runs if begun > STEPS[1] + 2.0]
    assert last.count("large") > 0.5 * len(last)


class Counted(Gearshift):
    """Keeps when those arrived who were refused or dropped."""

    def __init__(self, scenario) -> None:
        super().__init__(scenario.catalog, scenario.profiles, scenario.workers)
        self.lost = []

    def admit(self, ticket, now):
        verdict = super().admit(ticket, now)
        if isinstance(verdict, Refused):
            self.lost.append(ticket.arrival)
        return verdict

    def decide(self, now):
        decisions = super().decide(now)
        self.lost += [a.ticket.arrival for a in decisions.actions if isinstance(a, Drop)]
        return decisions


def test_a_storm_leaves_nothing_behind_but_what_it_cost():
    """The whole machine is six times slower for two seconds: what was learned then must not
    make the server refuse what it can do again."""
    scenario = busy(10.0, 400.0, 30.0)
    policy = Counted(scenario)

    def drift(dispatch, now):
        return 6.0 if 2.0 <= now < 4.0 else 1.0

    run(scenario, policy, "gearshift", noise=0.1, seed=0, drift=drift)
    assert any(2.0 <= arrival < 4.0 for arrival in policy.lost)
    arrived = sum(
        ticket.arrival >= 5.0 for ticket in scenario.workload.tickets(scenario.catalog, 1)
    )
    assert sum(arrival >= 5.0 for arrival in policy.lost) <= 0.002 * arrived
