"""Which payments teach, which measure, and which are committed as samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gearshift.compress import data
from gearshift.compress.evaluate import unseen
from gearshift.compress.publish import MAX_SAMPLES

TRAINING_SHARE = 0.6
TIME = 0
"""The column that counts seconds from the first payment: every later payment lies outside what
training saw, so no variant looks at it."""
NEGATIVES_BY_RANK = 1_000
SAMPLE_SEED = 20130901

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Split:
    """Training and held-out rows by time; the held-out ones without twins of training rows."""

    train: data.Table
    test: data.Table
    left_out: int


def split_by_time(table: data.Table) -> Split:
    """The first 60 % of the payments to learn from, the rest to be measured on."""
    if (np.diff(table.features[:, TIME]) < 0).any():
        raise data.DataError("the payments are not in order of time: a split by row would leak")
    cut = int(len(table.labels) * TRAINING_SHARE)
    train = data.Table(table.features[:cut], table.labels[:cut])
    later = table.features[cut:]
    kept = unseen(later, train.features)
    test = data.Table(later[kept], table.labels[cut:][kept])
    return Split(train, test, int((~kept).sum()))


def samples(
    test: data.Table, scores: npt.NDArray[np.float32]
) -> tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Rows that stand for all held-out rows: inputs, labels, and how many each stands for.

    All frauds and the negatives that any variant ranks highest decide the precision, so they
    are all there with weight 1; the rest is drawn at random and weighted up. `scores` is
    [variants, n].
    """
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
    order = np.argsort(rows)  # Back in order of time, so that labels do not come in blocks.
    return test.features[rows][order], test.labels[rows][order], weights[order]
