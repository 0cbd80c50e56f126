"""Intervals hold the value, are never empty, and hold the truth as often as they say."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from gearshift.compress import metrics
from gearshift.core import intervals
from gearshift.core.live import Estimate, Labelled, estimate

unit = st.floats(0, 1)
sizes = st.floats(1, 1e6)


def test_wilson_is_the_one_that_cards_are_made_with() -> None:
    assert intervals.wilson(45 / 50, 50) == pytest.approx(metrics.wilson(45, 50))


@given(unit, sizes, sizes, st.floats(0, 1))
def test_an_interval_holds_its_value_and_is_never_empty(
    value: float, n: float, m: float, variance: float
) -> None:
    for low, high in (
        intervals.wilson(value, n),
        intervals.roc_area(value, n, m),
        intervals.average_precision(value, n, variance),
    ):
        assert 0 <= low <= value + 1e-12
        assert value - 1e-12 <= high <= 1
        assert low < high


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=50))
def test_effective_size(weights: list[float]) -> None:
    size = intervals.effective_size(weights)
    assert 1 - 1e-9 <= size <= len(weights) + 1e-9
    assert intervals.effective_size([3.0] * len(weights)) == pytest.approx(len(weights))


def test_hanley_and_mcneil_as_they_published_it() -> None:
    """Their example: an area of 0.893, 51 abnormal and 58 normal cases, standard error 0.032."""
    low, high = intervals.roc_area(0.893, 51, 58)
    assert (high - low) / (2 * intervals.Z95) == pytest.approx(0.032, abs=0.002)
    # There is more room below than above.
    assert 0.893 - low > high - 0.893


def _covered(metric: str, truth: float, draw, trials: int = 300) -> float:  # type: ignore[no-untyped-def]
    found: list[Estimate] = []
    for seed in range(trials):
        judged = estimate(metric, draw(random.Random(seed)))
        assert judged is not None
        found.append(judged)
    return sum(each.low <= truth <= each.high for each in found) / trials


SHIFT = 1.5


def _row(rng: random.Random, positive: bool, weight: float = 1.0) -> Labelled:
    return Labelled(rng.gauss(SHIFT if positive else 0.0, 1.0), int(positive), weight)


def _true_average_precision(prevalence: float) -> float:
    """Of two normal distributions, by integration over the threshold."""
    steps = [SHIFT + 6 - 12 * k / 20_000 for k in range(20_000)]
    recall, alarms = norm.sf([s - SHIFT for s in steps]), norm.sf(steps)
    area = before = 0.0
    for found, false in zip(recall, alarms, strict=True):
        hits = prevalence * found
        area += (found - before) * hits / (hits + (1 - prevalence) * false)
        before = found
    return float(area)


def test_shares_are_covered_with_and_without_weights() -> None:
    def even(rng: random.Random) -> list[Labelled]:
        return [Labelled(0 if rng.random() < 0.97 else 1, 0, 1.0) for _ in range(150)]

    def looked_into(rng: random.Random) -> list[Labelled]:
        """Wrong answers are looked into ten times as often."""
        rows: list[Labelled] = []
        while len(rows) < 300:
            right = rng.random() < 0.97
            if rng.random() < (0.1 if right else 1.0):
                rows.append(Labelled(0 if right else 1, 0, 10.0 if right else 1.0))
        return rows

    assert 0.92 <= _covered("top1", 0.97, even) <= 0.99
    assert 0.92 <= _covered("top1", 0.97, looked_into) <= 0.99


def test_the_roc_area_is_covered() -> None:
    def draw(rng: random.Random) -> list[Labelled]:
        return [_row(rng, n % 5 == 0) for n in range(150)]

    assert _covered("roc_auc", float(norm.cdf(SHIFT / math.sqrt(2))), draw) >= 0.92


def test_average_precision_is_covered_where_few_negatives_stand_for_many() -> None:
    def draw(rng: random.Random) -> list[Labelled]:
        """All positives and one in forty of the negatives."""
        return [_row(rng, n % 2 == 0, 1.0 if n % 2 == 0 else 40.0) for n in range(1_000)]

    assert _covered("average_precision", _true_average_precision(1 / 41), draw, 150) >= 0.9


def test_recall_at_a_specificity_is_covered() -> None:
    truth = float(norm.sf(norm.ppf(0.95) - SHIFT))

    def draw(rng: random.Random) -> list[Labelled]:
        return [_row(rng, n % 3 == 0) for n in range(300)]

    assert _covered("recall_at_specificity_0.95", truth, draw) >= 0.92
