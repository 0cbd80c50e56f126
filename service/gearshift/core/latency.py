"""Latency learned from what is observed: a forgetting p50 and p99 per batch size.

What a profile measured offline is a guess about tomorrow: machines throttle, neighbours come
and go. Every run's true time is compared with the offline p50 of its batch. A moving
average of that factor, per size class of the batch, gives the p50; the spread of the last
runs around it gives the p99. The offline profile is where both begin, and where they drift
back to when a variant is no longer run, so that one bad minute does not ban it for good.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from copy import copy
from statistics import NormalDist

WINDOW = 48
"""Runs whose spread makes the p99."""

MEMORY = 16.0
"""Runs that the moving average of the factor reaches back."""

LEAP = 0.25
"""The logarithm of a factor from which on it is no noise but another machine."""

MOST = 0.4
QUICK = 0.25
"""Such a run moves the average by this share of at most so much (in logarithms)."""

TAIL = 1.27
"""The p99 of a normal spread lies this many times as far above the median as the second
largest of WINDOW runs does. The largest is left out: one hiccup is no tail."""

HICCUP = 0.002
"""Seconds. The p99 is no farther above the p50 than this or the p50 itself, unless it was so
offline. A run of microseconds that has to wait for a core takes a thousand times as long; to
refuse all requests for the few that meet with it would lose more than it saves."""

URGENT = 0.15
"""A change of the estimate by more than this share calls for new tables at once."""

NOTICED = 0.08
"""A change by less than this share is not worth new tables even when there is time."""

LOOKED_AT = 4
"""Runs after which the spread is looked at anew: it costs more than all the rest of an event."""

FORGET_AFTER = 2.0
"""Seconds without a run after which the estimate begins to drift back."""

FORGET_EVERY = 0.25
"""Seconds in which one more run of the window is replaced by one of the offline profile."""


class Learner:
    """What has been learned about one variant on one device.

    `p50s` and `p99s` are seconds by number of rows (index 0 unused), as measured offline.
    """

    __slots__ = (
        "_factors",
        "_next",
        "_p50s",
        "_p99s",
        "_prior",
        "_runs",
        "_seen",
        "_shown",
        "_window",
    )

    def __init__(self, p50s: Sequence[float], p99s: Sequence[float]) -> None:
        self._p50s, self._p99s = p50s, p99s
        spread = max(0.0, sum(p99s) / sum(p50s) - 1.0) if sum(p50s) > 0.0 else 0.0
        deviation = spread / NormalDist().inv_cdf(0.99)
        # The offline profile as runs: what a window full of runs just like it would hold.
        self._prior = [
            max(0.0, 1.0 + deviation * NormalDist().inv_cdf((position + 0.5) / WINDOW))
            for position in range(WINDOW)
        ]
        # Factors on the offline p50, each with the size class of its batch.
        self._window = deque(((1, factor) for factor in self._prior), WINDOW)
        # By size class (the bit length of the rows): the factor's moving average.
        self._factors = [1.0] * (len(p50s).bit_length() + 1)
        self._shown = (*self._factors, self._tail())
        self._runs = 0
        self._seen = -math.inf
        self._next = 0

    def copy(self) -> Learner:
        """The same, going on apart from this."""
        copied = copy(self)
        copied._window, copied._factors = self._window.copy(), list(self._factors)
        return copied

    def observe(self, rows: int, seconds: float, now: float) -> bool:
        """Take one run in; True if the estimates have moved so far that tables are urgent."""
        offline = self._p50s[rows]
        if offline <= 0.0 or not 0.0 < seconds < math.inf:
            return False
        self._seen = now
        size, factor = rows.bit_length(), seconds / offline
        step, gain = factor / self._factors[size], 1.0 / MEMORY
        if abs(math.log(step)) > LEAP:
            # Farther than noise: follow fast, but no single run by more than a part of it.
            step, gain = math.exp(math.copysign(MOST, step - 1.0)), QUICK
        for other in range(len(self._factors)):
            # Neighbouring sizes learn as well, the less the farther: a slow machine is slow
            # for all of them, and most sizes are seldom run.
            self._factors[other] *= step ** (gain / (1 + abs(other - size)))
        self._window.append((size, factor))
        self._runs += 1
        return self._moved(URGENT, spread=self._runs % LOOKED_AT == 0)

    def settle(self, now: float) -> bool:
        """Call it now and then: drifts back to the offline profile after a long time without
        a run. True if new tables are due."""
        if now - self._seen >= FORGET_AFTER and self._seen > -math.inf:
            self._seen += FORGET_EVERY
            # Not in rising order: the window should never hold only the quick or the slow half.
            self._next = (self._next + 13) % WINDOW
            # The slowest run first: if it is what keeps others from being tried, nothing new
            # would ever take its place.
            slowest = max(range(WINDOW), key=lambda place: self._window[place][1])
            self._window[slowest] = (1, self._prior[self._next])
            self._factors = [factor + (1.0 - factor) * 2.0 / MEMORY for factor in self._factors]
        return self._moved(NOTICED, spread=True)

    def tables(self) -> tuple[list[float], list[float]]:
        """(p50s, p99s) in seconds by number of rows, never falling as the batch grows."""
        tail = self._tail()
        self._shown = (*self._factors, tail)
        p50s, p99s = [0.0], [0.0]
        for rows in range(1, len(self._p50s)):
            factor = self._factors[rows.bit_length()]
            p50 = max(self._p50s[rows] * factor, p50s[-1])
            most = max(self._p99s[rows] * factor, p50 + max(p50, HICCUP))
            p50s.append(p50)
            p99s.append(max(min(p50 * tail, most), p99s[-1]))
        return p50s, p99s

    def _tail(self) -> float:
        """The p99 as a multiple of the p50."""
        spread = sorted(factor / self._factors[size] for size, factor in self._window)
        middle = (spread[WINDOW // 2 - 1] + spread[WINDOW // 2]) / 2.0
        return max(1.0, middle + TAIL * (spread[-2] - middle))

    def _moved(self, share: float, *, spread: bool) -> bool:
        """Has an average moved by more than that share of what is shown, or the spread?"""
        for now, shown in zip(self._factors, self._shown, strict=False):
            if abs(now - shown) > share * shown:
                return True
        shown = self._shown[-1]
        return spread and abs(self._tail() - shown) > share * shown
