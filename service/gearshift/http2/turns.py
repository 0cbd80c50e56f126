"""Whose bytes are read when: all connections in turns, never long at a stretch.

A loop that reads whatever is there before it does anything else can be kept from all other work by
callers who send enough: workers wait with nothing to do, and what is read at last is too old to be
answered (receive livelock; J. Mogul and K. Ramakrishnan, Eliminating Receive Livelock in an
Interrupt-Driven Kernel, 1997). So reading stops after SLICE; in the next turn of the loop, after
what else there was to do, it goes on with the connection that has waited longest.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

SLICE = 0.001
"""Seconds of reading in one turn of the loop."""

BEHIND = 0.02
"""Seconds: whoever has waited longer shows that more comes than can be read."""

CAUGHT_UP = 1.0
"""Seconds in which nobody has waited so long."""


class Waits(Protocol):
    """A connection with bytes that are not read yet."""

    @property
    def since(self) -> float:
        """When the first of them came, in monotonic seconds."""
        ...

    def go_on(self) -> bool:
        """Read on; whether something is left to be read."""
        ...


class Turns:
    """One for all connections of a loop. `now` gives monotonic seconds; `lag` is called with True
    when reading falls behind, and with False when it has caught up."""

    def __init__(
        self,
        lag: Callable[[bool], None] = lambda behind: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lag = lag
        self.now = now
        self._waiting: deque[Waits] = deque()
        self._until = 0.0
        self._planned = False
        self._behind_at: float | None = None
        self._loop = asyncio.get_running_loop()

    def until(self, now: float) -> float:
        """When reading must stop in this turn of the loop."""
        if not self._planned:
            self._begin(now)
        return self._until

    def wait(self, who: Waits) -> None:
        """`who` has more to read than there was time for."""
        self._waiting.append(who)

    def forget(self, who: Waits) -> None:
        """Nothing of it is to be read any more."""
        if who in self._waiting:
            self._waiting.remove(who)

    def _begin(self, now: float) -> None:
        self._planned = True
        self._until = now + SLICE
        self._loop.call_soon(self._next)

    def _next(self) -> None:
        self._planned = False
        if not self._waiting and self._behind_at is None:
            return
        now = self.now()
        self._look(now)
        if not self._waiting:
            return
        self._begin(now)
        for _ in range(len(self._waiting)):
            who = self._waiting.popleft()
            if who.go_on():
                self._waiting.append(who)
            if self.now() >= self._until:
                return

    def _look(self, now: float) -> None:
        behind = bool(self._waiting) and now - self._waiting[0].since > BEHIND
        if behind:
            first, self._behind_at = self._behind_at is None, now
            if first:
                self.lag(True)
        elif self._behind_at is not None and now - self._behind_at > CAUGHT_UP:
            self._behind_at = None
            self.lag(False)
        if self._behind_at is not None and not self._waiting:
            # Nothing else would bring it back here.
            self._loop.call_later(CAUGHT_UP, self._next)
