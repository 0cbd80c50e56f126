"""Quality metrics and their 95 % intervals, in plain NumPy: higher is better everywhere.

Each metric takes labels [n], the outputs of a variant ([n] scores, or [n, k] probabilities
for `top1`) and row weights [n]. A weight says for how many held-out rows a row stands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from gearshift.compress.embeddings import ROUNDS, rank1, tar_at_far
from gearshift.compress.embeddings import Metric as EmbeddingMetric
from gearshift.core import intervals
from gearshift.core.card import Measurement

Values = npt.NDArray[np.float64]
Metric = Callable[[npt.NDArray[np.int64], npt.NDArray[np.float32], Values], float]

BOOTSTRAP_ROUNDS = 1_000


def average_precision(
    labels: npt.NDArray[np.int64], scores: npt.NDArray[np.float32], weights: Values
) -> float:
    """The area under the precision-recall steps; rows of equal score count as one step."""
    positive, selected = _cumulated(labels, scores, weights)
    return _average_precision(positive, selected)


def roc_auc(
    labels: npt.NDArray[np.int64], scores: npt.NDArray[np.float32], weights: Values
) -> float:
    """The chance that a positive row scores above a negative one; a tie counts one half."""
    positive, selected = _cumulated(labels, scores, weights)
    negative = selected - positive
    recall = np.concatenate(([0.0], positive / positive[-1]))
    false_alarms = np.concatenate(([0.0], negative / negative[-1]))
    return float(np.trapezoid(recall, false_alarms))


def recall_at_specificity(specificity: float) -> Metric:
    """The share of positives found by the lowest threshold that keeps `specificity`."""

    def metric(
        labels: npt.NDArray[np.int64], scores: npt.NDArray[np.float32], weights: Values
    ) -> float:
        positive, selected = _cumulated(labels, scores, weights)
        negative = selected - positive
        # A hair of tolerance: 1 - 0.999 is not exactly the share that was asked for.
        allowed = negative <= (1.0 - specificity + 1e-12) * negative[-1]
        return float((positive[allowed] / positive[-1]).max(initial=0.0))

    return metric


def top1(
    labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float32], weights: Values
) -> float:
    """The share of rows whose most probable class is the label."""
    return float(np.average(probabilities.argmax(axis=1) == labels, weights=weights))


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "average_precision": average_precision,
        "roc_auc": roc_auc,
        "recall_at_specificity_0.999": recall_at_specificity(0.999),
        "recall_at_specificity_0.95": recall_at_specificity(0.95),
        "top1": top1,
    }
)
"""Metrics of answers: labels [n] are classes."""
EMBEDDINGS: Mapping[str, EmbeddingMetric] = MappingProxyType(
    {"rank1": rank1, "tar_at_far_0.001": tar_at_far(0.001)}
)
"""Metrics of embeddings [n, d]: labels [n] say who or what is meant."""


def _cumulated(
    labels: npt.NDArray[np.int64], scores: npt.NDArray[np.float32], weights: Values
) -> tuple[Values, Values]:
    """Weight of positives and of all rows at or above each distinct score, highest first."""
    if not np.isfinite(scores).all():
        raise ValueError("scores hold NaN or infinite values")
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    return _at_ends(labels[order], weights[order], ends)


def _at_ends(
    labels: npt.NDArray[np.int64], weights: Values, ends: npt.NDArray[np.intp]
) -> tuple[Values, Values]:
    positive = np.cumsum(weights * labels)[ends]
    selected = np.cumsum(weights)[ends]
    if not 0.0 < positive[-1] < selected[-1]:
        raise ValueError("the labels hold one class only: neither recall nor precision is defined")
    return positive, selected


def _average_precision(positive: Values, selected: Values) -> float:
    precision = positive / np.maximum(selected, np.finfo(np.float64).tiny)
    return float(np.sum(np.diff(positive, prepend=0.0) * precision) / positive[-1])


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The score interval of a share (Wilson, 1927): honest near 0 and 1, unlike Wald's."""
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} successes of {n} is no share")
    return intervals.wilson(successes / n, n)


def bootstrap(
    metric: Metric,
    labels: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float32],
    *,
    rounds: int = BOOTSTRAP_ROUNDS,
    seed: int = 0,
) -> tuple[float, float]:
    """The percentile interval of `metric` over resampled rows (Efron, 1979).

    Drawing rows with replacement is the same as weighting each by how often it was drawn, so
    the rows are sorted once, not once a round.
    """
    generator = np.random.default_rng(seed)
    order = np.argsort(-scores, kind="stable")
    labels, scores = labels[order], scores[order]
    n = len(labels)
    values = []
    for _ in range(rounds):
        drawn = np.bincount(generator.integers(0, n, n), minlength=n).astype(np.float64)
        if 0 < drawn @ labels < n:
            values.append(metric(labels, scores, drawn))
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def paired_difference(
    name: str,
    labels: npt.NDArray[np.int64],
    one: npt.NDArray[np.float32],
    other: npt.NDArray[np.float32],
    *,
    weights: Values | None = None,
    rounds: int = BOOTSTRAP_ROUNDS,
    seed: int = 0,
) -> tuple[float, float, float]:
    """How much better `one` is than `other` on the same rows: value, low, high.

    Both are measured on the same drawn rows in every round of the bootstrap (Efron, 1979), so
    what makes rows hard for both cancels out.
    """
    metric, generator, n = METRICS[name], np.random.default_rng(seed), len(labels)
    stands_for = np.ones(n) if weights is None else weights
    # Ranked once: to sort what is sorted takes no time.
    ranked = []
    for scores in (_scores(name, outputs, n) for outputs in (one, other)):
        order = np.argsort(-scores, kind="stable") if scores.ndim == 1 else np.arange(n)
        ranked.append((labels[order], scores[order], order))

    def difference(drawn: Values) -> float:
        counted = drawn * stands_for
        first, second = (metric(true, scores, counted[order]) for true, scores, order in ranked)
        return first - second

    drawn = (
        np.bincount(generator.integers(0, n, n), minlength=n).astype(np.float64)
        for _ in range(rounds)
    )
    values = [difference(times) for times in drawn if times @ labels > 0]
    low, high = np.quantile(values, (0.025, 0.975))
    return difference(np.ones(n)), float(low), float(high)


def _scores(name: str, outputs: npt.NDArray[np.float32], n: int) -> npt.NDArray[np.float32]:
    """The outputs as the metric takes them: a row of probabilities, or one score a row."""
    return outputs if name == "top1" else outputs.reshape(n)


def corrected_interval(values: Values, test_share: float) -> tuple[float, float]:
    """The mean's interval over repeated cross-validation (Nadeau and Bengio, 2003).

    The folds share training rows, so the naive standard error is far too small: the variance
    is multiplied by 1/k + test/train instead of 1/k. Student's t with k - 1 degrees.
    """
    from scipy.stats import t

    k = len(values)
    if k < 2 or not 0.0 < test_share < 1.0:
        raise ValueError(f"{k} folds with a test share of {test_share} give no interval")
    factor = 1.0 / k + test_share / (1.0 - test_share)
    half = float(t.ppf(0.975, k - 1)) * math.sqrt(factor * float(np.var(values, ddof=1)))
    mean = float(np.mean(values))
    return mean - half, min(1.0, mean + half)


def score(name: str, labels: npt.NDArray[np.int64], outputs: npt.NDArray[np.float32]) -> float:
    """The value of `name` alone: what choices are made by."""
    n = len(labels)
    if name in EMBEDDINGS:
        return EMBEDDINGS[name](labels, outputs, rounds=1).value
    return weighted_score(name, labels, outputs, np.ones(n))


def weighted_score(
    name: str, labels: npt.NDArray[np.int64], outputs: npt.NDArray[np.float32], weights: Values
) -> float:
    """The same for rows that stand for several: not for embeddings."""
    return METRICS[name](labels, _scores(name, outputs, len(labels)), weights)


def known() -> tuple[str, ...]:
    """The name of every metric that a recipe and a card may have."""
    return (*METRICS, *EMBEDDINGS)


def shown(name: str) -> str:
    """The metric's name as words."""
    return name.replace("_", " ")


def measure(
    name: str, labels: npt.NDArray[np.int64], outputs: npt.NDArray[np.float32]
) -> Measurement:
    """Measure `name` on held-out rows: Wilson for shares of rows, bootstrap for the others."""
    if name in EMBEDDINGS:
        found = EMBEDDINGS[name](labels, outputs)
        method = f"percentile bootstrap over people, {ROUNDS} rounds, seed 0; n counts trials"
        return Measurement(
            metric=name,
            value=found.value,
            n=found.n,
            low=found.low,
            high=found.high,
            method=method,
        )
    metric = METRICS[name]
    n = len(labels)
    scores = _scores(name, outputs, n)
    value = metric(labels, scores, np.ones(n))
    if name == "top1":
        low, high = wilson(round(value * n), n)
        method = "Wilson score interval"
    else:
        low, high = bootstrap(metric, labels, scores)
        method = f"percentile bootstrap over rows, {BOOTSTRAP_ROUNDS} rounds, seed 0"
    return Measurement(metric=name, value=value, n=n, low=low, high=high, method=method)
