"""Which runs are so quick that they are made at once, without a thread."""

from __future__ import annotations

import math

QUICK = 200e-6
"""Seconds. To hand a run to a thread and to hear of its end takes about half as long, and the
event loop can stand still for so long without anybody noticing."""

WEIGHT, QUICKER = 0.1, 0.5
"""Of the latest run in the moving average, and of one that was quicker: the first runs are slow,
and what is run in a thread waits for it."""


class Pace:
    """How long the runs of one variant take, in seconds by number of rows, as seen so far."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def quick(self, rows: int) -> bool:
        return self._expected(rows) <= QUICK

    def saw(self, rows: int, seconds: float) -> None:
        # One run that the machine held up says nothing of the next; several do.
        seconds = min(seconds, 2.0 * QUICK)
        before = self._seconds.get(rows)
        if before is not None:
            seconds = before + (WEIGHT if seconds > before else QUICKER) * (seconds - before)
        self._seconds[rows] = seconds

    def _expected(self, rows: int) -> float:
        known = self._seconds.get(rows)
        if known is not None:
            return known
        fewer = max((count for count in self._seconds if count < rows), default=0)
        return self._seconds[fewer] * rows / fewer if fewer else math.inf
