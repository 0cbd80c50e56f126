"""Influences are the derivatives of the metrics, and where a window changes they say so."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gearshift.core import accuracy, influence
from gearshift.core.window import change

ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 1), st.integers(1, 9)), min_size=2, max_size=30
).filter(lambda rows: len({label for _, label, _ in rows}) == 2)


def _vectors(scores: list[float]) -> list[tuple[float]]:
    return [(score,) for score in scores]


@settings(max_examples=50)
@pytest.mark.parametrize(
    ("metric", "influences"),
    [
        (accuracy.average_precision, influence.of_average_precision),
        (accuracy.roc_auc, influence.of_roc_area),
    ],
)
@given(rows=ROWS)
def test_an_influence_is_what_a_little_more_weight_changes(metric, influences, rows) -> None:
    scores, labels, weights = map(list, zip(*rows, strict=True))
    value = metric(_vectors(scores), labels, weights)
    found = influences(scores, labels, weights, value)
    assert sum(found) == pytest.approx(0, abs=1e-9)
    little = 1e-6
    for row, weight in enumerate(weights):
        more = [*weights[:row], weight * (1 + little), *weights[row + 1 :]]
        moved = metric(_vectors(scores), labels, more) - value
        assert found[row] == pytest.approx(moved / little, abs=1e-4)


@given(ROWS)
def test_influences_on_shares(rows: list[tuple[int, int, int]]) -> None:
    scores, labels, weights = zip(*rows, strict=True)
    flags = [score > 2 for score in scores]
    value = accuracy.share(flags, weights)
    assert sum(influence.of_share(flags, weights, value)) == pytest.approx(0, abs=1e-9)
    of_each = influence.of_each_share(flags, labels, weights)
    for kind in (0, 1):
        own = [each for each, label in zip(of_each, labels, strict=True) if label == kind]
        assert sum(own) == pytest.approx(0, abs=1e-9)


def _pulls(rng: random.Random, share: float, rows: int, middle: float) -> list[float]:
    return [(rng.random() < share) - middle for _ in range(rows)]


def test_a_change_is_found_where_it_is() -> None:
    for seed in range(20):
        rng = random.Random(seed)
        pulls = _pulls(rng, 0.95, 800, 0.9) + _pulls(rng, 0.7, 200, 0.9)
        assert change([0] * 1000, [1.0] * 1000, pulls) == pytest.approx(800, abs=60)


def test_labels_that_come_sorted_are_no_change() -> None:
    """First all positives and then all negatives, which pull the metric to other sides."""
    rng = random.Random(0)
    rows = [(1, 1.0 + rng.random()) for _ in range(300)] + [(0, -rng.random()) for _ in range(300)]
    strata, pulls = zip(*rows, strict=True)
    assert change(strata, [1.0] * 600, pulls) == 0
    mixed = rows[:]
    rng.shuffle(mixed)
    strata, pulls = zip(*mixed, strict=True)
    assert change(strata, [1.0] * 600, pulls) == 0


def test_a_window_of_equal_rows_or_of_few_has_no_change() -> None:
    assert change([0] * 500, [1.0] * 500, [0.0] * 500) == 0
    assert change([0] * 59, [1.0] * 59, [1.0] * 30 + [-1.0] * 29) == 0
    assert change([0] * 60, [1.0] * 60, [1.0] * 30 + [-1.0] * 30) == 30
