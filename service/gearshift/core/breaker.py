"""The circuit breaker of one variant on one device (Nygard, Release It!, 2007): when its runs fail
it is taken out, and tried again after a while that doubles each time.

A run may fail because of a request in it, and whoever sends such requests must not take a variant
from everybody else. So a failure is taken back (`pardon`) when a request that was in it fails on
another variant, all by itself, as well. That is no proof: where nothing works, everything fails
twice. So a variant of which no run has gone well for long is out, whatever was taken back.
"""

from __future__ import annotations

import math
import random
from collections import deque
from enum import IntEnum

IN_A_ROW = 3
"""So many failed runs one after the other open it."""

WINDOW = 20
"""The latest runs, of which a share may fail."""

SHARE = 0.5
"""Of a full window."""

UNEXPLAINED = 12
"""So many runs without one that went well, failures taken back among them, open it."""

SHORTEST, LONGEST = 0.5, 60.0
"""Seconds until it is tried again, the first time and at the most."""

JITTER = 0.2
"""Shorter or longer by up to this share: servers that saw the same must not try at once."""


class State(IntEnum):
    """`gearshift_breaker_state`."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class _Ended(IntEnum):
    WELL = 0
    FAILED = 1
    PARDONED = 2


class Breaker:
    """Told of runs by number and of the time in seconds; methods that may change the state return
    whether they have. The same `chance` and the same events give the same times.

    Closed: everything runs. Open: nothing does. Half open: one run at a time, to see.
    """

    __slots__ = (
        "_chance",
        "_lost",
        "_opened",
        "_runs",
        "_trying",
        "_until",
        "_well",
        "state",
    )

    def __init__(self, chance: random.Random) -> None:
        self.state = State.CLOSED
        self._chance = chance
        self._runs: deque[list[int]] = deque(maxlen=WINDOW)
        """Number and ending of the latest runs, the newest last."""
        self._opened = 0
        """How often in succession."""
        self._until = -math.inf
        self._well = 0
        """Runs that went well since the last that did not."""
        self._trying: int | None = None
        self._lost: set[int] = set()
        """Runs with which a worker was lost: one is enough."""

    @property
    def sound(self) -> bool:
        """Nothing is left to remember: it is as a new one is."""
        return self.state is State.CLOSED and self._well >= WINDOW

    def retry_after(self, now: float) -> float:
        """Seconds until it is tried again, 0 if that may be now."""
        return max(0.0, self._until - now) if self.state is State.OPEN else 0.0

    def may_try(self, now: float) -> bool:
        """Whether one run may begin at `now`, to see."""
        if self.state is State.OPEN:
            return now >= self._until
        return self.state is State.HALF_OPEN and self._trying is None

    def hope(self) -> bool:
        """What had broken it is said to be over: it may be tried at once."""
        hopes, self._until = self.state is State.OPEN and self._until > -math.inf, -math.inf
        self._opened = 0
        return hopes

    # --- runs --------------------------------------------------------------------------

    def began(self, run: int) -> bool:
        """A run has begun. It tries an open breaker; nothing is noted of one that is closed."""
        if self.state is State.CLOSED:
            return False
        changed = self.state is State.OPEN
        self.state, self._trying = State.HALF_OPEN, run
        return changed

    def worked(self, run: int) -> bool:
        """The run went well. One that had begun before the breaker opened says nothing."""
        if self.state is State.CLOSED:
            self._runs.append([run, _Ended.WELL])
            self._well += 1
            if self._well >= WINDOW:
                # What has just been broken is so again sooner than others: until then it waits
                # longer each time.
                self._opened = 0
            return False
        if run != self._trying:
            return False
        self._close()
        return True

    def failed(self, run: int, now: float, *, lost: bool = False, pardoned: bool = False) -> bool:
        """The run failed; `lost` with its worker, which is so dear that one is enough. `pardoned`:
        the request in it is to blame, as is known already."""
        if self.state is not State.CLOSED and run != self._trying:
            return False
        self._runs.append([run, _Ended.PARDONED if pardoned else _Ended.FAILED])
        self._well = 0
        if lost and not pardoned:
            self._lost.add(run)
        if not self._broken():
            # Even if it was tried: the next one may be, at once.
            self._trying = None
            return False
        self._trying, self.state = None, State.OPEN
        self._opened += 1
        # A power that overflows is of no use to anybody.
        wait = min(SHORTEST * 2.0 ** min(self._opened - 1, 30), LONGEST)
        self._until = now + min(LONGEST, wait * self._chance.uniform(1.0 - JITTER, 1.0 + JITTER))
        return True

    def inconclusive(self, run: int) -> None:
        """The run is over and says nothing of the variant."""
        if run == self._trying:
            self._trying = None

    def pardon(self, run: int) -> bool:
        """It was a request in it that failed the run."""
        for each in self._runs:
            if each == [run, _Ended.FAILED]:
                each[1] = _Ended.PARDONED
                self._lost.discard(run)
                break
        else:
            return False
        if self.state is State.CLOSED or self._broken():
            return False
        self.state, self._trying = State.CLOSED, None
        self._opened -= 1
        return True

    # --- the rules ---------------------------------------------------------------------

    def _close(self) -> None:
        self.state, self._trying = State.CLOSED, None
        self._runs.clear()
        self._lost.clear()
        self._well = 0

    def _broken(self) -> bool:
        if self._lost:
            return True
        failed = sum(ended == _Ended.FAILED for _, ended in self._runs)
        if failed >= SHARE * WINDOW:
            return True
        in_a_row = unexplained = 0
        for _, ended in reversed(self._runs):
            if ended == _Ended.WELL:
                break
            unexplained += 1
            in_a_row += ended == _Ended.FAILED
        return in_a_row >= IN_A_ROW or unexplained >= UNEXPLAINED
