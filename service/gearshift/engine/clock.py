"""The engine's clock on an asyncio event loop."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

from gearshift.ports import Clock, Timer


class LoopClock:
    """Monotonic seconds, and timers of the loop.

    `now` is the process's monotonic clock and not the loop's own: uvloop's counts in
    milliseconds, too coarse for budgets of ten. Under a virtual loop it is the loop's.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._loop = loop
        self.now = now

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        return self._loop.call_later(max(0.0, when - self.now()), callback)


class Alarm:
    """One timer, set anew again and again; it seldom changes."""

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._timer: Timer | None = None
        self._at = math.inf

    def ring_at(self, when: float) -> None:
        """Then and at no other time; at infinity never."""
        if when != self._at:
            if self._timer is not None:
                self._timer.cancel()
            self._at = when
            self._timer = self._clock.call_at(when, self._rings) if when < math.inf else None

    def _rings(self) -> None:
        self._timer, self._at = None, math.inf
        self._ring()
