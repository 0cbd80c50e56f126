"""When a worker process that has ended is started again. Pure: time comes in as an argument."""

from __future__ import annotations

import math

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 30.0
"""Seconds until one that ended is started again: doubled from one end to the next."""

STEADY = 60.0
"""Seconds of running after which the ends before are forgotten."""

RENEWED_EVERY = 60.0
"""Seconds, at least, between two replacements for the sake of memory: what holds too much as soon
as it is loaded would be replaced without end."""


class Restarts:
    """Of one worker."""

    def __init__(self) -> None:
        self._ends = 0
        self._up_since = math.inf
        self._renewed_at = -math.inf

    def up(self, now: float) -> None:
        """A process runs."""
        self._up_since = now

    def ended(self, now: float) -> float:
        """It has ended, or could not be started: seconds until the next try."""
        if now - self._up_since >= STEADY:
            self._ends = 0
        self._up_since = math.inf
        # The exponent is bounded: a float has no 2 ** 2000.
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._ends, 20))
        self._ends += 1
        return pause

    def may_renew(self, now: float) -> bool:
        """Whether one that holds too much memory is to be replaced now; asked once each time."""
        if now - self._renewed_at < RENEWED_EVERY:
            return False
        self._renewed_at = now
        return True
