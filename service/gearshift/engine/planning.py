"""Planning beside the core: prices set anew every now and then, never long at a stretch."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Generator

import structlog

from gearshift.core.prices import PLAN_EVERY, Planner, Prices
from gearshift.core.scheduler import Scheduler
from gearshift.ports import Clock, Timer

log = structlog.get_logger(__name__)

PLAN_ON = 2.0
"""Seconds for which planning goes on after the last request: prices must come down again."""

FAILED = "planning failed, the old prices stay"

SLICE = 0.0005
"""Seconds of a plan's work in one turn of the loop: requests come in between."""


class Planning:
    """Looks every PLAN_EVERY seconds at what waits, for as long as something does.

    `waiting` says whether anybody waits for an answer; `decide` is called after every plan.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        clock: Clock,
        waiting: Callable[[], bool],
        decide: Callable[[], None],
    ) -> None:
        self._scheduler = scheduler
        self._clock = clock
        self._waiting = waiting
        self._decide = decide
        self._planner = Planner()
        self._timer: Timer | None = None
        self._last_arrival = -math.inf

    def arrived(self, now: float) -> None:
        """A request came in: plan from now on."""
        self._last_arrival = now
        if self._timer is None:
            self._timer = self._clock.call_at(self._clock.now() + PLAN_EVERY, self._begin)

    def cancel(self) -> None:
        """Plan no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _begin(self) -> None:
        now = self._clock.now()
        self._timer = None
        if self._waiting() or now - self._last_arrival < PLAN_ON:
            self._timer = self._clock.call_at(now + PLAN_EVERY, self._begin)
        try:
            plan = self._planner.steps(self._scheduler.outlook(now))
        except Exception:
            log.exception(FAILED)
        else:
            self._soon(plan)

    def _soon(self, plan: Generator[None, None, Prices]) -> None:
        asyncio.get_running_loop().call_soon(self._go_on, plan)

    def _go_on(self, plan: Generator[None, None, Prices]) -> None:
        try:
            prices = self._worked_out(plan)
            if prices is not None:
                self._scheduler.set_prices(prices)
        except Exception:
            log.exception(FAILED)
            return
        if prices is None:
            self._soon(plan)
        else:
            self._decide()

    def _worked_out(self, plan: Generator[None, None, Prices]) -> Prices | None:
        """The prices, if the plan comes to its end in this slice."""
        end = self._clock.now() + SLICE
        try:
            next(plan)
            while self._clock.now() < end:
                next(plan)
        except StopIteration as done:
            found: Prices = done.value
            return found
        return None
