"""95 % intervals of quality metrics, from their value and how much stands behind it. Pure.

Sizes may be fractions: weighted rows count as many as Kish's effective sample size says. All
intervals contain the value and stay within 0 and 1, and none is empty because nothing went
wrong so far.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

Z95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution: both tails hold 5 %."""

_HALVINGS = 50

Interval = tuple[float, float]


def effective_size(weights: Iterable[float]) -> float:
    """How many rows of equal weight tell as much: (sum w)^2 / sum w^2 (Kish, 1965)."""
    total = squares = 0.0
    for weight in weights:
        total += weight
        squares += weight * weight
    return total * total / squares if squares else 0.0


def wilson(share: float, n: float) -> Interval:
    """The score interval of a share of `n` rows (Wilson, 1927): honest near 0 and 1."""
    spread = Z95**2 / n
    centre = (share + spread / 2) / (1 + spread)
    half = Z95 * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def roc_area(area: float, positives: float, negatives: float) -> Interval:
    """Of the area under the ROC curve: those areas from which `area` is not 1.96 standard errors
    away, by the variance of Hanley and McNeil (1982).

    Their variance is taken at the bound, not at the value (Newcombe 2006, method 5), as Wilson's
    is: at a value of 1 theirs would be 0, however few rows there are.
    """
    both = (positives + negatives) / 2 - 1

    def reach(true: float) -> float:
        shape = 1 + max(0.0, both) * ((1 - true) / (2 - true) + true / (1 + true))
        return Z95 * math.sqrt(true * (1 - true) * shape / (positives * negatives))

    def bound(end: float) -> float:
        """Between `end`, where nothing is in reach, and the area itself."""
        outside, inside = end, area
        for _ in range(_HALVINGS):
            middle = (outside + inside) / 2
            if abs(area - middle) <= reach(middle):
                inside = middle
            else:
                outside = middle
        return inside

    return bound(0.0), bound(1.0)


def average_precision(value: float, positives: float, variance: float = 0.0) -> Interval:
    """Of average precision: the logit interval of Boyd, Eng and Page (2013), by the number of
    positives.

    `variance` is the jackknife's, which knows about weights: where it is larger than theirs (a
    few negatives that stand for many make precision uncertain) it counts instead.
    """
    # At 0 and 1 the logit is infinite: half a positive is taken for found or missed.
    inner = min(max(value, 0.5 / positives), 1 - 0.5 / positives) if positives > 1 else 0.5
    spread = inner * (1 - inner)
    error = math.sqrt(max(spread / positives, variance)) / spread
    middle = math.log(inner / (1 - inner))
    # tanh and not exp, which overflows.
    low, high = (0.5 + math.tanh((middle + Z95 * side * error) / 2) / 2 for side in (-1, 1))
    return min(low, value), max(high, value)


def combined(value: float, *parts: Interval) -> Interval:
    """Of a value that is uncertain for several independent reasons, from its interval for each:
    the distances add up in squares (MOVER, Zou and Donner 2008)."""
    low = math.sqrt(sum((value - part[0]) ** 2 for part in parts))
    high = math.sqrt(sum((part[1] - value) ** 2 for part in parts))
    return max(0.0, value - low), min(1.0, value + high)
