"""Which payments teach, decide and measure, and which are committed as samples."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gearshift.compress import data
from gearshift.compress.dataset import DataError, DataSets, Part, without_repeats
from gearshift.compress.publish import MAX_SAMPLES

INPUT = "features"
TRAINING_SHARE, LEARNED_SHARE = 0.45, 0.6
TIME = 0
"""The column that counts seconds from the first payment: every later payment lies outside what
training saw, so no variant looks at it."""
NEGATIVES_BY_RANK = 1_000
SAMPLE_SEED = 20130901

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]


def payments(cache: Path, report: data.Report) -> DataSets:
    """The payments by time: 45 % to learn from, 15 % to choose by, the last 40 % to measure on."""
    return split_by_time(data.fraud_table(cache, report))


def split_by_time(table: data.Table) -> DataSets:
    """Three parts in order of time; rows that an earlier part has, too, are left out of a later."""
    if (np.diff(table.features[:, TIME]) < 0).any():
        raise DataError("the payments are not in order of time: a split by row would leak")
    n = len(table.labels)
    cuts = [0, int(n * TRAINING_SHARE), int(n * LEARNED_SHARE), n]
    training, calibration, evaluation = without_repeats(
        *(
            Part({INPUT: table.features[start:end]}, table.labels[start:end])
            for start, end in pairwise(cuts)
        )
    )
    origin = data.FRAUD_ORIGIN
    return DataSets(
        name=origin.name,
        source=origin.source,
        licence=origin.licence,
        training=training,
        calibration=calibration,
        evaluation=evaluation,
    )


def samples(test: Part, outputs: Floats) -> tuple[Rows, npt.NDArray[np.float64]]:
    """Rows that stand for all held-out rows, in order of time, and how many each stands for.

    All frauds and the negatives that any variant ranks highest decide the precision, so they
    are all there with weight 1; the rest is drawn at random and weighted up. `outputs` is
    [variants, n, 1].
    """
    scores = outputs.reshape(len(outputs), len(test))
    negatives = np.flatnonzero(test.labels == 0)
    # The best rank that any variant gives a negative: 0 is the highest score.
    ranks = np.argsort(np.argsort(-scores[:, negatives], axis=1), axis=1).min(axis=0)
    by_rank = np.argsort(ranks, kind="stable")
    frauds = np.flatnonzero(test.labels == 1)
    top, others = by_rank[:NEGATIVES_BY_RANK], by_rank[NEGATIVES_BY_RANK:]
    room = MAX_SAMPLES - len(frauds) - len(top)
    drawn = np.random.default_rng(SAMPLE_SEED).choice(others, min(room, len(others)), replace=False)
    rows = np.concatenate([frauds, negatives[top], negatives[drawn]])
    weights = np.ones(len(rows))
    weights[len(frauds) + len(top) :] = len(others) / max(len(drawn), 1)
    order = np.argsort(rows)
    return rows[order], weights[order]
