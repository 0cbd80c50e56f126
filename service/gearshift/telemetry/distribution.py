"""How often a value fell where: the counts behind a histogram, cheap to add to."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

SECONDS = (
    *(50e-6, 100e-6, 250e-6, 500e-6),
    *(1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3),
    *(1.0, 2.5, 5.0, 10.0),
)
"""Durations from what one row of a small model takes to what nobody waits for."""

MICROSECONDS = tuple(round(bound * 1e6, 6) for bound in SECONDS)

SLACK = (
    *(-10.0, -1.0, -0.1, -0.025, -0.01, -0.005, -0.001),
    *(0.0, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 10.0),
)
"""Seconds left at the end: how late the late ones were, and how much room the others had."""

ROWS = tuple(2**exponent for exponent in range(11))
"""Batch sizes, up to the largest that a model may declare."""


class Distribution:
    """Counts per bucket and the sum of all values.

    One thread adds and another may read at the same time: a reader takes one copy of the
    counts and derives the rest from it, so its buckets always agree with their total.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """Count `value` into the first bucket whose bound is not below it."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    def add_all(self, values: Sequence[float]) -> None:
        """Count each of `values`."""
        bounds, counts = self.bounds, self.counts
        for value in values:
            counts[bisect_left(bounds, value)] += 1
        self.total += sum(values)

    @property
    def count(self) -> int:
        """How many values were added."""
        return sum(self.counts)

    def cumulative(self) -> list[int]:
        """Values up to each bound, and last all of them."""
        return list(accumulate(tuple(self.counts)))


def twins(seconds: Distribution, microseconds: Distribution, values: Sequence[float]) -> None:
    """Count `values`, in seconds, into both: their bounds are the same durations, so that each
    value is looked for once."""
    bounds, counts, others = seconds.bounds, seconds.counts, microseconds.counts
    for value in values:
        place = bisect_left(bounds, value)
        counts[place] += 1
        others[place] += 1
    total = sum(values)
    seconds.total += total
    microseconds.total += total * 1e6
