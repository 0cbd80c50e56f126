"""Which runs take so much longer than predicted that nobody should rely on them any more.

Two bounds, both from what was predicted when the run began. Past the first it is *overdue*: who
can still be answered by another variant should be. Past the second it *hangs*: the worker counts
as lost. Runs that a stopped process kept waiting are none of these: when the watchdog is asked
much later than it had asked for, every bound moves by that.
"""

from __future__ import annotations

import math
from typing import NamedTuple

OVERDUE, OVERDUE_BY = 4.0, 0.05
"""A run is overdue after so many times its p99, and not before so many seconds past it: the pauses
of a busy machine are no fault."""

HANGS = 20.0
"""A run hangs after so many times its p99, and not before the seconds that are set."""

ASLEEP = 0.025
"""Seconds by which a look may be late without the process having slept."""


class Looked(NamedTuple):
    """Runs that have become overdue since the last look, and those that hang, by number; each is
    told once."""

    overdue: list[int]
    hung: list[int]


class Watchdog:
    """Watches runs by number. Times in seconds; `hung_after` is the least that a hung run has
    taken. `next` is when it wants to be asked, infinite for never."""

    __slots__ = ("_hung_after", "_runs", "next")

    def __init__(self, hung_after: float) -> None:
        self._hung_after = hung_after
        # By number: when it is overdue (infinite once that is told), and when it hangs.
        self._runs: dict[int, list[float]] = {}
        self.next = math.inf

    def __len__(self) -> int:
        return len(self._runs)

    def began(self, run: int, p99: float, now: float) -> bool:
        """A run of which `p99` seconds are predicted; True if `next` is sooner now."""
        overdue = now + max(OVERDUE * p99, p99 + OVERDUE_BY)
        self._runs[run] = [overdue, now + max(HANGS * p99, self._hung_after)]
        if overdue < self.next:
            self.next = overdue
            return True
        return False

    def ended(self, run: int) -> None:
        """It is over; one that hung is over already."""
        self._runs.pop(run, None)

    def look(self, now: float) -> Looked:
        """What has happened until now. `next` is then when to look again."""
        slept = now - self.next
        if slept > ASLEEP:
            # They slept as well, and need a moment to go on.
            for bounds in self._runs.values():
                bounds[:] = [max(bound + slept, now + OVERDUE_BY) for bound in bounds]
        overdue = [run for run, bounds in self._runs.items() if bounds[0] <= now < bounds[1]]
        hung = [run for run, bounds in self._runs.items() if bounds[1] <= now]
        for run in overdue:
            self._runs[run][0] = math.inf
        for run in hung:
            del self._runs[run]
        self.next = min((min(bounds) for bounds in self._runs.values()), default=math.inf)
        return Looked(overdue, hung)
