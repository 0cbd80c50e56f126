"""What a variant is worth now, from labelled rows: pure, time is the order of the rows.

`estimate` makes a value with its interval of a window of rows, `shrunk` what routing goes by,
`fallen` and `verdict` what people and canaries are told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from gearshift.core import accuracy, influence, intervals
from gearshift.core.window import change

WINDOW = 2_000
"""Labelled rows of a variant that are looked at, the newest."""

LEAST_LABELS = 30
LEAST_OF_EACH = 10
"""Without so many rows, and of scores so many positive and negative ones, there is no estimate."""

CERTAIN = 3.0
"""Standard errors. Estimates are looked at again with every label, and the most extreme of many
looks is further out than 1.96: whatever acts upon one waits until it is so clear."""

CHANGED = 4.0
"""Standard errors between the older and the newer part of a window before the older is dropped."""

CANARY_LABELS = 300
"""No verdict about a canary with fewer."""

MARGIN = 0.02
"""How far below its card's interval a canary may be and still count as no worse."""

_RECALL = "recall_at_specificity_"


class Kind(StrEnum):
    """What an answer is to its metric: the class that it names, or a score."""

    CLASS = "class"
    SCORE = "score"


class Labelled(NamedTuple):
    """One row: the class that was answered or its score, what was true, and how many rows it
    stands for (positive and finite)."""

    answer: float
    label: int
    weight: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """The metric over `labels` rows, with its 95 % interval and its standard error (that of a
    normal distribution with as wide an interval)."""

    value: float
    low: float
    high: float
    labels: int

    @property
    def error(self) -> float:
        return (self.high - self.low) / (2 * intervals.Z95)

    def error_towards(self, other: float) -> float:
        """The standard error on the side of `other`. An interval may reach much further to one
        side: rows that nobody looked into can only make an average precision worse, and whether a
        value is surely below another depends on how far up it reaches."""
        reach = self.high - self.value if other > self.value else self.value - self.low
        return reach / intervals.Z95


class Verdict(StrEnum):
    """What is known about a canary."""

    UNDECIDED = "undecided"
    PROMOTED = "promoted"
    WITHDRAWN = "withdrawn"


def kind_of(metric: str) -> Kind | None:
    """What answers are to a metric; None if labels of single rows do not say how good they are
    (metrics of embeddings, which compare rows with each other)."""
    if metric == "top1":
        return Kind.CLASS
    if metric in ("roc_auc", "average_precision") or _allowed(metric) is not None:
        return Kind.SCORE
    return None


def estimate(metric: str, rows: Sequence[Labelled]) -> Estimate | None:
    """The metric over the newest of `rows`: all of them, or those after the last change in them.

    Rows in the order in which their labels came, the oldest first. None with too few of them, or
    for a metric that `kind_of` does not know. Depends on nothing but the rows: whoever reads the
    same ones, after a restart or elsewhere, finds the same.
    """
    judge = _judge(metric)
    judge = _judge(metric)
    if judge is None or not _enough(metric, rows):
        return None
    strata, weights, influences, whole, _ = judge(rows)
    cut = change(strata, weights, influences)
    older, newer = rows[:cut], rows[cut:]
    if not (_enough(metric, older) and _enough(metric, newer)):
        return whole
    before, after = judge(older), judge(newer)
    apart = CHANGED * math.hypot(before.chance, after.chance)
    if abs(after.estimate.value - before.estimate.value) <= apart:
        return whole
    return estimate(metric, newer)


def shrunk(card: float, live: float, error: float) -> float:
    """What routing goes by: the card's accuracy moved towards the live one by positive-part
    shrinkage (after James and Stein, 1961).

    With d the difference and `error` (s) the live value's standard error it moves by
    d t / (t + s^2), t = max(0, d^2 - (3 s)^2): nothing while the difference may be chance, nearly
    all of the way once it cannot be.
    """
    difference = live - card
    beyond = max(0.0, difference**2 - (CERTAIN * error) ** 2)
    return card + difference * beyond / (beyond + error**2) if beyond else card


def below_all(floors: Iterable[float], card: float, used: float) -> bool:
    """Whether an accuracy of `used` is below every floor above 0 that the card's reaches, and
    there is one."""
    reached = [floor for floor in floors if 0.0 < floor <= card]
    return bool(reached) and used < min(reached)


def fallen(card_low: float, live: Estimate) -> bool:
    """The live value is below the card's interval, and certainly so."""
    return live.value + CERTAIN * live.error_towards(card_low) < card_low


def verdict(card_low: float, live: Estimate | None) -> Verdict:
    """What is known about a canary, from its live accuracy and the low end of its card's interval.

    Withdrawn once it has fallen. Promoted once it is certainly not below its card's interval by
    more than MARGIN; or, where the window is full and cannot get more certain, if its value is
    not below that interval by more than a standard error. Both are asked anew with every label:
    three standard errors and 300 labels keep the chance of ever being wrong at about a percent.
    """
    if live is None or live.labels < CANARY_LABELS:
        return Verdict.UNDECIDED
    if fallen(card_low, live):
        return Verdict.WITHDRAWN
    least = card_low - MARGIN
    certain = live.value - CERTAIN * live.error_towards(least) > least
    full = live.labels >= WINDOW and live.value + live.error_towards(card_low) >= card_low
    return Verdict.PROMOTED if certain or full else Verdict.UNDECIDED


class _Judged(NamedTuple):
    """Strata, weights and influences of the rows, and the estimate of them all. `chance` is its
    standard error from which rows came: two parts of one window differ by that alone, and not by
    what was looked into in neither of them."""

    strata: Sequence[int]
    weights: Sequence[float]
    influences: Sequence[float]
    estimate: Estimate
    chance: float


def _judge(metric: str) -> Callable[[Sequence[Labelled]], _Judged] | None:
    allowed = _allowed(metric)
    if allowed is not None:
        return lambda rows: _recall(rows, allowed)
    return {
        "top1": _top1,
        "roc_auc": _roc_auc,
        "average_precision": _average_precision,
    }.get(metric)


def _allowed(metric: str) -> float | None:
    """The share of false alarms that recall_at_specificity_<share> allows."""
    if not metric.startswith(_RECALL):
        return None
    try:
        specificity = float(metric.removeprefix(_RECALL))
    except ValueError:
        return None
    return 1 - specificity if 0 < specificity < 1 else None


def _enough(metric: str, rows: Sequence[Labelled]) -> bool:
    if len(rows) < LEAST_LABELS:
        return False
    if kind_of(metric) is Kind.CLASS:
        return True
    positives = sum(row.label for row in rows)
    return min(positives, len(rows) - positives) >= LEAST_OF_EACH


def _top1(rows: Sequence[Labelled]) -> _Judged:
    flags = [row.answer == row.label for row in rows]
    weights = [row.weight for row in rows]
    value = accuracy.share(flags, weights)
    influences = influence.of_share(flags, weights, value)
    size = intervals.effective_size(weights)
    spread = influence.variance(influences)
    if spread:
        by_spread = value * (1 - value) / spread
        # Which rows were labelled may go with whether they were right, and then the rows tell
        # more, or less, than their number. With few of one kind that cannot be seen yet.
        rare = min(sum(flags), len(flags) - sum(flags)) < LEAST_OF_EACH
        size = min(size, by_spread) if rare else by_spread
    low, high = intervals.wilson(value, size)
    found = Estimate(value, low, high, len(rows))
    return _Judged([0] * len(rows), weights, influences, found, found.error)


def _roc_auc(rows: Sequence[Labelled]) -> _Judged:
    scores, labels, weights = zip(*rows, strict=True)
    value = accuracy.roc_auc([(score,) for score in scores], labels, weights)
    positives, negatives = _sizes(rows)
    low, high = intervals.roc_area(value, positives, negatives)
    influences = influence.of_roc_area(scores, labels, weights, value)
    found = Estimate(value, low, high, len(rows))
    return _Judged(labels, weights, influences, found, found.error)


def _average_precision(rows: Sequence[Labelled]) -> _Judged:
    """Where a few negatives stand for many, the best scores may have none above them only because
    it was not looked into: one negative row above all others is within what may be."""
    scores, labels, weights = zip(*rows, strict=True)
    value = _precision(rows)
    influences = influence.of_average_precision(scores, labels, weights, value)
    positives, _ = _sizes(rows)
    drawn = intervals.average_precision(value, positives, influence.variance(influences))
    negatives = [row.weight for row in rows if row.label != 1]
    unseen = Labelled(math.inf, 0, sum(negatives) / len(negatives))
    low, high = intervals.combined(value, drawn, (_precision([*rows, unseen]), value))
    chance = Estimate(value, *drawn, len(rows)).error
    return _Judged(labels, weights, influences, Estimate(value, low, high, len(rows)), chance)


def _precision(rows: Sequence[Labelled]) -> float:
    scores, labels, weights = zip(*rows, strict=True)
    return accuracy.average_precision([(score,) for score in scores], labels, weights)


def _recall(rows: Sequence[Labelled], allowed: float) -> _Judged:
    """Two things are uncertain: which share of the positives lies above the threshold, and where
    the threshold lies, for any share of negatives above it that may really be `allowed`."""
    scores, labels, weights = zip(*rows, strict=True)
    positives, negatives = _sizes(rows)
    bounds = (allowed, *intervals.wilson(allowed, negatives))
    at, *others = (accuracy.threshold(share, scores, labels, weights) for share in bounds)
    value, lower, upper = (
        accuracy.share(
            [row.answer >= least for row in rows if row.label == 1],
            [row.weight for row in rows if row.label == 1],
        )
        for least in (at, *others)
    )
    low, high = intervals.combined(value, intervals.wilson(value, positives), (lower, upper))
    # Shares of both kinds above one threshold: a change is seen in either.
    influences = influence.of_each_share([score >= at for score in scores], labels, weights)
    found = Estimate(value, low, high, len(rows))
    return _Judged(labels, weights, influences, found, found.error)


def _sizes(rows: Sequence[Labelled]) -> tuple[float, float]:
    """Effective numbers of positive and negative rows."""
    return (
        intervals.effective_size(row.weight for row in rows if row.label == 1),
        intervals.effective_size(row.weight for row in rows if row.label != 1),
    )
