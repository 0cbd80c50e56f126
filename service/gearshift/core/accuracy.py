"""Quality metrics of answers against labels, in plain Python, each row with a weight.

For judging a few thousand answers where they are received (the demo, feedback). The weight
says how many rows of the full data an example stands for. Higher is better in all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

Vector = Sequence[float]


def average_precision(answers: Sequence[Vector], labels: Sequence[int], weights: Vector) -> float:
    """Area under the precision-recall steps; `answers` are one score each, label 1 positive.

    Sum over thresholds of (recall gained) x precision; equal scores are one threshold.
    """
    positives = sum(w for label, w in zip(labels, weights, strict=True) if label == 1)
    if positives <= 0:
        return math.nan
    ranked = sorted(zip(answers, labels, weights, strict=True), key=lambda row: -row[0][0])
    area = hits = seen = 0.0
    for _, group in groupby(ranked, key=lambda row: row[0][0]):
        gained = 0.0
        for _, label, weight in group:
            seen += weight
            gained += weight if label == 1 else 0.0
        hits += gained
        area += gained / positives * (hits / seen) if seen else 0.0
    return area


def roc_auc(answers: Sequence[Vector], labels: Sequence[int], weights: Vector) -> float:
    """The chance that a positive scores above a negative; ties count one half."""
    rows = sorted(zip(answers, labels, weights, strict=True), key=lambda row: row[0][0])
    below = area = 0.0
    positives = negatives = 0.0
    for _, group in groupby(rows, key=lambda row: row[0][0]):
        tied = [0.0, 0.0]
        for _, label, weight in group:
            tied[label == 1] += weight
        area += tied[1] * (below + tied[0] / 2)
        below += tied[0]
        negatives += tied[0]
        positives += tied[1]
    return area / (positives * negatives) if positives and negatives else math.nan


def top1(answers: Sequence[Vector], labels: Sequence[int], weights: Vector) -> float:
    """The share of examples whose largest value stands at the label's index."""
    return share(
        [_largest(answer) == label for answer, label in zip(answers, labels, strict=True)], weights
    )


def share(flags: Sequence[bool], weights: Vector) -> float:
    """The weighted share of those that are true."""
    total = sum(weights)
    right = sum(weight for flag, weight in zip(flags, weights, strict=True) if flag)
    return right / total if total else math.nan


def threshold(allowed: float, scores: Vector, labels: Sequence[int], weights: Vector) -> float:
    """The lowest score from which on no more than the share `allowed` of the negatives is taken;
    infinite if even the highest takes more."""
    negatives = sum(w for label, w in zip(labels, weights, strict=True) if label != 1)
    # A hair of tolerance: 1 - 0.999 is not exactly the share that was asked for.
    most = (allowed + 1e-12) * negatives
    ranked = sorted(zip(scores, labels, weights, strict=True), key=lambda row: -row[0])
    lowest, taken = math.inf, 0.0
    for score, group in groupby(ranked, key=lambda row: row[0]):
        taken += sum(weight for _, label, weight in group if label != 1)
        if taken > most:
            break
        lowest = score
    return lowest


def _largest(answer: Vector) -> int:
    return max(range(len(answer)), key=answer.__getitem__)


METRICS: Mapping[str, Callable[[Sequence[Vector], Sequence[int], Vector], float]] = {
    "average_precision": average_precision,
    "roc_auc": roc_auc,
    "top1": top1,
}
"""By the name that model.toml gives as `metric`."""
