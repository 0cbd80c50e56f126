"""Where a window of labelled rows may change, and its older part no longer tell about the newest.

Adaptive windowing (ADWIN, Bifet and Gavalda 2007): at every split, the newer rows are compared
with the older. Here it compares influences (`gearshift.core.influence`) and not right or wrong,
so that it works for any metric in one pass, and compares only rows of one stratum with each
other: labels often come sorted, all frauds first, and that alone is no change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

LEAST_PART = 30
"""Rows on each side of a split."""

SPLITS = 64
"""At most about so many splits are tried in one look, evenly spread."""

SUSPICIOUS = 3.0
"""Standard errors between both parts. One of so many splits is often further out than 1.96."""


def change(strata: Sequence[int], weights: Sequence[float], influences: Sequence[float]) -> int:
    """The first row after the clearest change, 0 where nothing looks like one. Rows in the order
    in which their labels came, the oldest first; `strata` are 0 or 1.

    It is a suspicion only: influences tell in which direction the metric goes, not how far. Who
    asks compares the metric itself on both sides.
    """
    rows = len(weights)
    step = max(1, (rows - 2 * LEAST_PART) // SPLITS)
    sides = [_Stratum(strata, weights, influences, which) for which in sorted(set(strata))]
    clearest, found = SUSPICIOUS, 0
    for row in range(rows - LEAST_PART + 1):
        if row >= LEAST_PART and (row - LEAST_PART) % step == 0:
            errors = _errors_apart(sides)
            if errors > clearest:
                clearest, found = errors, row
        for side in sides:
            if side.which == strata[row]:
                side.enter(row)
    return found


def _errors_apart(sides: Sequence[_Stratum]) -> float:
    """By how many standard errors the parts differ; 0 where a kind of row is in one part only."""
    if any(side.one_sided for side in sides):
        return 0.0
    spread = sum(side.variance for side in sides)
    return abs(sum(side.difference for side in sides)) / math.sqrt(spread) if spread else 0.0


class _Stratum:
    """The rows of one stratum, those up to here and those after."""

    def __init__(
        self,
        strata: Sequence[int],
        weights: Sequence[float],
        influences: Sequence[float],
        which: int,
    ) -> None:
        self.which = which
        rows = [row for row, stratum in enumerate(strata) if stratum == which]
        self._weights = weights
        self._total = sum(weights[row] for row in rows)
        # Centred within the stratum, so that its share of the rows does not count.
        middle = sum(influences[row] for row in rows) / self._total
        self._pull = {row: influences[row] - weights[row] * middle for row in rows}
        self._squares = sum(weights[row] ** 2 for row in rows)
        self._spread = self._total**2 * sum(p * p for p in self._pull.values()) / self._squares
        self._older = self._older_squares = self._older_pull = 0.0

    def enter(self, row: int) -> None:
        """One more row belongs to the older part."""
        weight = self._weights[row]
        self._older += weight
        self._older_squares += weight * weight
        self._older_pull += self._pull[row]

    @property
    def _newer(self) -> float:
        return self._total - self._older

    @property
    def one_sided(self) -> bool:
        """All rows, but for rounding, are in one part."""
        return min(self._older, self._newer) <= 1e-9 * self._total

    @property
    def difference(self) -> float:
        """The newer part's mean minus the older's, in the metric's unit."""
        return -self._total * self._older_pull * (1 / self._newer + 1 / self._older)

    @property
    def variance(self) -> float:
        """Of the difference, if there is no change."""
        newer = max(0.0, self._squares - self._older_squares) / self._newer**2
        return self._spread * (newer + self._older_squares / self._older**2)
