"""How much each labelled row moves a metric: its influence, the derivative by its weight.

    influence of row i = weight_i x d(metric) / d(weight_i)

The influences of a window sum up to 0, their squares to the metric's variance (the infinitesimal
jackknife, Jaeckel 1972), weights and all. And they say where a window changes: the rows of a part
in which the model does worse pull down. All are of one pass over the sorted rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

Numbers = Sequence[float]


def of_share(flags: Sequence[bool], weights: Numbers, share: float) -> list[float]:
    """Of the weighted share of true flags."""
    total = sum(weights)
    return [w * (flag - share) / total for flag, w in zip(flags, weights, strict=True)]


def of_each_share(flags: Sequence[bool], labels: Sequence[int], weights: Numbers) -> list[float]:
    """Of the share of true flags among the positive rows, and of that among the negative ones."""
    positives, negatives = _totals(labels, weights)
    totals = (negatives, positives)
    true = [0.0, 0.0]
    for flag, label, weight in zip(flags, labels, weights, strict=True):
        true[label == 1] += weight * flag
    return [
        weight * (flag - true[label == 1] / totals[label == 1]) / totals[label == 1]
        for flag, label, weight in zip(flags, labels, weights, strict=True)
    ]


def of_roc_area(
    scores: Numbers, labels: Sequence[int], weights: Numbers, area: float
) -> list[float]:
    """Of the area under the ROC curve: a positive row counts by the share of negatives below it,
    a negative one by the share of positives above it."""
    positives, negatives = _totals(labels, weights)
    found = [0.0] * len(scores)
    below = [0.0, 0.0]
    for tied in _groups(scores, descending=False):
        here = [0.0, 0.0]
        for row in tied:
            here[labels[row] == 1] += weights[row]
        negatives_below = (below[0] + here[0] / 2) / negatives
        positives_above = 1 - (below[1] + here[1] / 2) / positives
        for row in tied:
            if labels[row] == 1:
                found[row] = weights[row] * (negatives_below - area) / positives
            else:
                found[row] = weights[row] * (positives_above - area) / negatives
        below[0] += here[0]
        below[1] += here[1]
    return found


def of_average_precision(
    scores: Numbers, labels: Sequence[int], weights: Numbers, value: float
) -> list[float]:
    """Of average precision: a row changes the precision at every threshold at or below it, and a
    positive one besides adds the precision at its own."""
    positives, _ = _totals(labels, weights)
    groups = list(_groups(scores, descending=True))
    steps: list[tuple[float, float, float]] = []
    hits = seen = 0.0
    for tied in groups:
        gained = sum(weights[row] for row in tied if labels[row] == 1)
        hits += gained
        seen += sum(weights[row] for row in tied)
        steps.append((gained, hits, seen))
    found = [0.0] * len(scores)
    gain = loss = 0.0
    for tied, (gained, hits, seen) in zip(reversed(groups), reversed(steps), strict=True):
        gain += gained / seen
        loss += gained * hits / seen**2
        for row in tied:
            moved = hits / seen - value + gain - loss if labels[row] == 1 else -loss
            found[row] = weights[row] * moved / positives
    return found


def variance(influences: Numbers) -> float:
    """The metric's variance, from the influences of independent rows."""
    return sum(each * each for each in influences)


def _totals(labels: Sequence[int], weights: Numbers) -> tuple[float, float]:
    positives = sum(w for label, w in zip(labels, weights, strict=True) if label == 1)
    return positives, sum(weights) - positives


def _groups(scores: Numbers, *, descending: bool) -> list[list[int]]:
    """Row numbers by score; equal scores are one group."""
    order = sorted(range(len(scores)), key=scores.__getitem__, reverse=descending)
    return [list(rows) for _, rows in groupby(order, key=scores.__getitem__)]
