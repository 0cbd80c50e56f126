"""The engine's clock on an asyncio event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from gearshift.ports import Timer


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
