"""Planning beside the core: one slice after the other, and whatever fails changes nothing."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from gearshift.core.prices import PLAN_EVERY, Outlook
from gearshift.engine.planning import PLAN_ON, SLICE, Planning
from virtual import run_virtual


class Core:
    """Takes prices, as the scheduler does."""

    def __init__(self) -> None:
        self.prices: list[dict[str, float]] = []
        self.looked = 0
        self.looking = lambda: None

    def outlook(self, now: float) -> Outlook:
        self.looked += 1
        self.looking()
        return Outlook([], {"cpu": 2.0})

    def set_prices(self, prices: dict[str, float]) -> None:
        self.prices.append(prices)


class SlowClock:
    """The loop's clock, on which every look takes as long as a whole slice."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._spent = 0.0

    def now(self) -> float:
        self._spent += SLICE
        return self._loop.time() + self._spent

    def call_at(self, when, callback):
        return self._loop.call_at(when - self._spent, callback)


class Thinking:
    """A planner of many steps."""

    def __init__(self, steps: int, *, fails: bool = False) -> None:
        self.count, self.done, self.fails = steps, 0, fails

    def steps(self, outlook: Outlook):
        for _ in range(self.count):
            yield
            self.done += 1
        if self.fails:
            raise RuntimeError("no prices today")
        return {"cpu": 1.0}


def make(core: Core, planner: Thinking, waiting=lambda: False, decided=lambda: None) -> Planning:
    planning = Planning(core, SlowClock(), waiting, decided)
    planning._planner = planner
    return planning


def test_others_have_their_turn_between_two_slices():
    async def plan():
        core, planner, seen = Core(), Thinking(20), []
        planning = make(core, planner)

        def somebody_else():
            seen.append(planner.done)
            if not core.prices:
                asyncio.get_running_loop().call_soon(somebody_else)

        core.looking = somebody_else
        planning.arrived(0.0)
        await asyncio.sleep(1.5 * PLAN_EVERY)
        planning.cancel()
        return core, seen

    core, seen = run_virtual(plan())
    assert core.prices[0] == {"cpu": 1.0}
    longest = max(after - before for before, after in pairwise(seen))
    assert longest <= 2


def test_after_a_plan_the_core_decides_anew():
    async def plan():
        core, decided = Core(), []
        planning = make(core, Thinking(1), decided=lambda: decided.append(len(core.prices)))
        planning.arrived(0.0)
        await asyncio.sleep(1.5 * PLAN_EVERY)
        planning.cancel()
        return decided

    assert run_virtual(plan()) == [1]


def test_it_ends_some_time_after_the_last_request_and_begins_with_the_next():
    async def plan():
        core = Core()
        planning = make(core, Thinking(1))
        planning.arrived(0.0)
        await asyncio.sleep(PLAN_ON + 5 * PLAN_EVERY)
        at_rest = core.looked
        await asyncio.sleep(1.0)
        still = core.looked
        planning.arrived(asyncio.get_running_loop().time())
        await asyncio.sleep(2 * PLAN_EVERY)
        planning.cancel()
        return at_rest, still, core.looked

    at_rest, still, again = run_virtual(plan())
    assert 0 < at_rest == still < again


@pytest.mark.parametrize("steps", [0, 3])
def test_a_plan_that_fails_leaves_the_old_prices_and_the_next_one_is_made(steps):
    async def plan():
        core = Core()
        planning = make(core, Thinking(steps, fails=True), waiting=lambda: True)
        planning.arrived(0.0)
        await asyncio.sleep(1.5 * PLAN_EVERY)
        planning._planner = Thinking(steps)
        await asyncio.sleep(PLAN_EVERY)
        planning.cancel()
        return core

    core = run_virtual(plan())
    assert core.looked >= 2
    assert core.prices[0] == {"cpu": 1.0}
