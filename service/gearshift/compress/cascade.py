"""Learning a cascade: from which confidence on does the first variant's answer count?

The less accurate variant answers every row; rows of which it is not sure go on to the more
accurate one (cascades by confidence: Wang and others, "Wisdom of Committees", 2022). The
threshold is the one that sends the fewest rows on while the whole stays within a given distance
of the second variant, which is the one with the least cost: the rest of the cost is fixed.

A threshold that was chosen by some rows looks better on them than it is. So what is stated is
cross-fitted: every row is answered with a threshold that was chosen by the other folds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gearshift.compress import metrics
from gearshift.compress.dataset import Labels
from gearshift.compress.metrics import Values

Outputs = npt.NDArray[np.float32]

FOLDS = 10
LADDER = np.concatenate(([0.0], np.geomspace(1e-4, 1.0, 20)))
"""Shares of rows that go on: the first that is enough is looked for, ..."""
REFINEMENTS = 5
"""... and then between it and the one before, halved so many times: to 2 % of the share."""
SHOWN = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """What two variants answered on the same held-out rows: outputs (rows, width), how sure the
    first one was (rows,), labels (rows,), and for how many rows each stands (rows,)."""

    metric: str
    labels: Labels
    weights: Values
    first: Outputs
    then: Outputs
    sure: Values

    def rows(self, chosen: npt.NDArray[np.bool_]) -> Pair:
        """The same for some of the rows."""
        return Pair(
            self.metric,
            self.labels[chosen],
            self.weights[chosen],
            self.first[chosen],
            self.then[chosen],
            self.sure[chosen],
        )

    def answered(self, thresholds: float | Values) -> Outputs:
        """What the cascade answers, with one threshold or one a row."""
        on = (self.sure < thresholds).reshape(-1, *[1] * (self.first.ndim - 1))
        return np.where(on, self.then, self.first)

    def share(self, thresholds: float | Values) -> float:
        """The share of rows that go on."""
        return float(np.average(self.sure < thresholds, weights=self.weights))

    def score(self, outputs: Outputs) -> float:
        """The metric of such answers."""
        return metrics.weighted_score(self.metric, self.labels, outputs, self.weights)


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """`threshold` was chosen by all rows, everything else is cross-fitted: the share that goes
    on, the metric, and what the cascade answered."""

    threshold: float
    escalated: float
    accuracy: float
    outputs: Outputs


class Step(NamedTuple):
    """One threshold on all rows, as it looks without cross-fitting."""

    threshold: float
    share: float
    accuracy: float


def learn(pair: Pair, within: float, *, seed: int = 0) -> Fit | None:
    """The cascade of `pair` that stays within `within` (in the metric's unit) of the second
    variant with the fewest rows going on; None if all of them would have to."""
    threshold = choose(pair, within)
    if threshold is None:
        return None
    thresholds = np.ones(len(pair.labels))
    for fold in _folds(pair.labels, seed):
        found = choose(pair.rows(~fold), within)
        thresholds[fold] = 1.0 if found is None else found
    outputs = pair.answered(thresholds)
    return Fit(threshold, pair.share(thresholds), pair.score(outputs), outputs)


def choose(pair: Pair, within: float) -> float | None:
    """The threshold that keeps the cascade within reach of the second variant on these very rows
    with the fewest of them going on; None if all would have to."""
    least = pair.score(pair.then) - within
    ranked = np.sort(pair.sure)

    def enough(share: float) -> bool:
        return pair.score(pair.answered(_threshold(ranked, share))) >= least

    before = 0.0
    for share in LADDER:
        # The whole ladder, because neither end says what lies between.
        if enough(share):
            after = float(share)
            break
        before = float(share)
    else:
        return None
    for _ in range(REFINEMENTS if after else 0):
        middle = (before + after) / 2.0
        before, after = (before, middle) if enough(middle) else (middle, after)
    return _threshold(ranked, after)


def curve(pair: Pair, shares: Sequence[float] = SHOWN) -> list[Step]:
    """The way from the first variant alone towards the second."""
    ranked = np.sort(pair.sure)
    thresholds = dict.fromkeys(_threshold(ranked, share) for share in shares)
    return [
        Step(threshold, pair.share(threshold), pair.score(pair.answered(threshold)))
        for threshold in thresholds
    ]


def _threshold(ranked: Values, share: float) -> float:
    """Below it are about such a share of the `ranked` confidences, never all."""
    rank = min(int(share * len(ranked)), len(ranked) - 1)
    return float(ranked[rank]) if rank else 0.0


def _folds(labels: Labels, seed: int) -> Iterator[npt.NDArray[np.bool_]]:
    """Which rows are in each fold; every class spread over all of them."""
    generator = np.random.default_rng(seed)
    number = np.empty(len(labels), np.int64)
    first = 0
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        number[rows] = (first + np.arange(len(rows))) % FOLDS
        first += len(rows)
    for fold in range(FOLDS):
        if (number == fold).any():
            yield number == fold
