"""The watch over runs under way: the watchdog's rules (`gearshift.core.watchdog`) with a timer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gearshift.core.decisions import Dispatch
from gearshift.core.watchdog import Watchdog
from gearshift.engine.clock import Alarm
from gearshift.engine.flight import Flight
from gearshift.ports import Clock

HUNG_AFTER = 5.0
"""Seconds that a run may take at least until its worker is given up."""


class _Watched(NamedTuple):
    dispatch: Dispatch
    batch: Sequence[Flight]
    task: asyncio.Task[Any] | None


class Watch:
    """Cancels the task of a run that hangs, and tells `overdue` of one that should be over.

    Runs on the express worker cannot be watched: they hold the loop that would have to look. What
    bounds them is that only batches with a median below `ports.SHORT` go there.
    """

    def __init__(
        self,
        clock: Clock,
        hung_after: float,
        overdue: Callable[[Dispatch, Sequence[Flight]], None],
    ) -> None:
        self._clock = clock
        self._overdue = overdue
        self._watchdog = Watchdog(hung_after)
        self._alarm = Alarm(clock, self._look)
        self._runs: dict[int, _Watched] = {}
        self._hung: set[int] = set()

    def began(self, dispatch: Dispatch, batch: Sequence[Flight], p99: float, now: float) -> None:
        """The current task runs this from now on; it is cancelled if it hangs."""
        self._runs[dispatch.id] = _Watched(dispatch, batch, asyncio.current_task())
        if self._watchdog.began(dispatch.id, p99, now):
            self._alarm.ring_at(self._watchdog.next)

    def ended(self, dispatch: Dispatch) -> bool:
        """It is over; True if it was cancelled because it hung, and the task goes on."""
        watched = self._runs.pop(dispatch.id, None)
        self._watchdog.ended(dispatch.id)
        if dispatch.id not in self._hung:
            return False
        self._hung.discard(dispatch.id)
        if watched is not None and watched.task is not None:
            watched.task.uncancel()
        return True

    def stop(self) -> None:
        """Look no more."""
        self._alarm.ring_at(math.inf)

    def _look(self) -> None:
        looked = self._watchdog.look(self._clock.now())
        for run in looked.overdue:
            watched = self._runs[run]
            self._overdue(watched.dispatch, watched.batch)
        for run in looked.hung:
            watched = self._runs[run]
            if watched.task is not None:
                self._hung.add(run)
                watched.task.cancel()
        self._alarm.ring_at(self._watchdog.next)
