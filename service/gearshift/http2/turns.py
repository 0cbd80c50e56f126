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


class Waits(Protocol):
    """A connection, or a stream of messages, with bytes that are not read yet."""

    def go_on(self) -> bool:
        """Read on; whether something is left to be read."""
        ...


class Turns:
    """One for all connections of a loop. `now` gives monotonic seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self._waiting: deque[Waits] = deque()
        self._until = 0.0
        self._planned = False
        self._loop = asyncio.get_running_loop()

    def until(self, now: float) -> float:
        """When reading must stop in this turn of the loop."""
        if not self._planned:
            self._begin(now)
        return self._until

    @property
    def over(self) -> bool:
        """Whether reading must stop now."""
        now = self.now()
        return now >= self.until(now)

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
        if not self._waiting:
            return
        self._begin(self.now())
        for _ in range(len(self._waiting)):
            who = self._waiting.popleft()
            if who.go_on():
                self._waiting.append(who)
            if self.now() >= self._until:
                return
