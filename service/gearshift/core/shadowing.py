"""Accuracy from shadow runs: how often a variant agrees with the most accurate one, corrected by
the labels for what that one gets wrong itself.

Prediction-powered inference (Angelopoulos, Bates, Fannjiang, Jordan and Zrnic, 2023), in the form
that tunes how far the agreement is trusted (PPI++, Angelopoulos, Duchi and Zrnic, 2023):

    estimate = mean over labelled(right) + trust x (mean over unlabelled(agrees)
                                                    - mean over labelled(agrees))

It is unbiased whatever the reference is worth, and its interval is never much wider than that of
the labels alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gearshift.core.intervals import Z95
from gearshift.core.live import LEAST_LABELS, Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadows:
    """Shadowed rows of one variant. `unlabelled` and `unlabelled_agree` count rows without a
    label; the four others are weights of those with one, by whether both variants agree and
    whether this one is right. `labels` counts rows, `squares` sums their squared weights."""

    unlabelled: int
    unlabelled_agree: int
    agree_right: float
    agree_wrong: float
    differ_right: float
    differ_wrong: float
    labels: int
    squares: float


def accuracy(shadows: Shadows) -> Estimate | None:
    """The share of all shadowed rows that the variant gets right, with a 95 % interval; None with
    fewer than LEAST_LABELS rows of either kind."""
    if shadows.labels < LEAST_LABELS or shadows.unlabelled < LEAST_LABELS:
        return None
    cells = (
        (1.0, 1.0, shadows.agree_right),
        (1.0, 0.0, shadows.agree_wrong),
        (0.0, 1.0, shadows.differ_right),
        (0.0, 0.0, shadows.differ_wrong),
    )
    total = sum(weight for _, _, weight in cells)
    size = total * total / shadows.squares
    agrees = sum(agree * weight for agree, _, weight in cells) / total
    right = sum(good * weight for _, good, weight in cells) / total
    # Half a row more in each cell: what has not happened yet is not impossible.
    shares = [(a, r, (w / total * size + 0.5) / (size + 2)) for a, r, w in cells]
    mean_a = sum(a * share for a, _, share in shares)
    mean_r = sum(r * share for _, r, share in shares)
    var_a = mean_a * (1 - mean_a)
    both = sum(a * r * share for a, r, share in shares) - mean_a * mean_r
    trust = both / (var_a * (1 + size / shadows.unlabelled))
    of_labelled = mean_r * (1 - mean_r) - 2 * trust * both + trust**2 * var_a
    variance = of_labelled / size + trust**2 * var_a / shadows.unlabelled
    unlabelled = shadows.unlabelled_agree / shadows.unlabelled
    value = min(1.0, max(0.0, right + trust * (unlabelled - agrees)))
    half = Z95 * math.sqrt(variance)
    return Estimate(value, max(0.0, value - half), min(1.0, value + half), shadows.labels)
