"""Metrics against scikit-learn, intervals against published and computed values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from gearshift.compress import metrics
from gearshift.core import intervals


@st.composite
def ranked(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of both classes, scores with many ties, whole-number weights."""
    n = draw(st.integers(2, 40))
    labels = np.array(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    labels[:2] = (0, 1)
    scores = np.array(draw(st.lists(st.integers(0, 8), min_size=n, max_size=n)), np.float32)
    weights = np.array(draw(st.lists(st.integers(1, 5), min_size=n, max_size=n)), np.float64)
    return labels, scores, weights


@settings(max_examples=100)
@given(ranked())
def test_ranking_metrics_agree_with_scikit_learn(
    case: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    labels, scores, weights = case
    assert metrics.average_precision(labels, scores, weights) == pytest.approx(
        average_precision_score(labels, scores, sample_weight=weights)
    )
    assert metrics.roc_auc(labels, scores, weights) == pytest.approx(
        roc_auc_score(labels, scores, sample_weight=weights)
    )


@settings(max_examples=50)
@given(ranked())
def test_a_weight_is_a_number_of_equal_rows(
    case: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    labels, scores, weights = case
    repeats = weights.astype(int)
    long_labels, long_scores = np.repeat(labels, repeats), np.repeat(scores, repeats)
    for metric in (
        metrics.average_precision,
        metrics.roc_auc,
        metrics.recall_at_specificity(0.7),
    ):
        assert metric(labels, scores, weights) == pytest.approx(
            metric(long_labels, long_scores, np.ones(len(long_labels)))
        )


def test_recall_counts_only_thresholds_that_keep_the_specificity() -> None:
    labels = np.array([1, 0, 1, 1, 0, 0, 0])
    scores = np.array([9, 8, 7, 6, 5, 4, 3], np.float32)
    weights = np.ones(7)
    assert metrics.recall_at_specificity(1.0)(labels, scores, weights) == pytest.approx(1 / 3)
    assert metrics.recall_at_specificity(0.75)(labels, scores, weights) == 1.0
    assert metrics.recall_at_specificity(1.0)(labels, -scores, weights) == 0.0


def test_top1_is_a_weighted_share() -> None:
    labels = np.array([0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], np.float32)
    assert metrics.top1(labels, probabilities, np.ones(3)) == pytest.approx(2 / 3)
    assert metrics.top1(labels, probabilities, np.array([1.0, 3.0, 1.0])) == pytest.approx(0.4)


def test_a_broken_score_or_a_single_class_is_an_error() -> None:
    ones = np.ones(2)
    with pytest.raises(ValueError, match="NaN"):
        metrics.roc_auc(np.array([0, 1]), np.array([np.nan, 1], np.float32), ones)
    for labels in ([0, 0], [1, 1]):
        with pytest.raises(ValueError, match="one class only"):
            metrics.average_precision(np.array(labels), np.array([1, 2], np.float32), ones)


def test_wilson_gives_the_textbook_interval() -> None:
    # Newcombe (1998), table I: 81 of 263 and 0 of 20.
    assert metrics.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert metrics.wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    low, high = metrics.wilson(20, 20)
    assert (low, high) == pytest.approx((1 - 0.1611, 1.0), abs=5e-5)
    for impossible in ((1, 0), (5, 4), (-1, 4)):
        with pytest.raises(ValueError, match="is no share"):
            metrics.wilson(*impossible)


def test_the_bootstrap_agrees_with_theory_and_with_itself() -> None:
    labels = np.tile([0, 1], 200)
    right = np.arange(400) % 10 != 0
    outputs = np.zeros((400, 2), np.float32)
    outputs[np.arange(400), np.where(right, labels, 1 - labels)] = 1.0
    # A share has a known spread: the bootstrap of its mean must find it.
    scores = (outputs.argmax(axis=1) == labels).astype(np.float32)

    def share(_: np.ndarray, values: np.ndarray, weights: np.ndarray) -> float:
        return float(np.average(values, weights=weights))

    low, high = metrics.bootstrap(share, labels, scores, rounds=800)
    half = intervals.Z95 * math.sqrt(0.9 * 0.1 / 400)
    assert (low, high) == pytest.approx((0.9 - half, 0.9 + half), abs=0.005)
    assert metrics.bootstrap(share, labels, scores, rounds=800) == (low, high)


def test_the_corrected_interval_is_wider_than_the_naive_one() -> None:
    values = np.array([0.90, 0.92, 0.94, 0.96])
    low, high = metrics.corrected_interval(values, 0.2)
    # t(0.975, 3) = 3.1824; variance 1/1500; factor 1/4 + 0.25.
    half = 3.18245 * math.sqrt(0.5 / 1500)
    assert (low, high) == pytest.approx((0.93 - half, 0.93 + half), abs=1e-4)
    assert metrics.corrected_interval(np.array([0.99, 1.0]), 0.2)[1] == 1.0
    with pytest.raises(ValueError, match="give no interval"):
        metrics.corrected_interval(values[:1], 0.2)


def test_a_measurement_names_its_method() -> None:
    labels = np.array([0, 1] * 10)
    outputs = np.stack([1.0 - labels, labels], axis=1).astype(np.float32)
    found = metrics.measure("top1", labels, outputs)
    assert (found.value, found.n, found.high) == (1.0, 20, 1.0)
    assert found.low == pytest.approx(metrics.wilson(20, 20)[0])
    assert "Wilson" in found.method
    ranked_found = metrics.measure("roc_auc", labels, outputs[:, 1:])
    assert (ranked_found.value, ranked_found.low) == (1.0, 1.0)
    assert "bootstrap" in ranked_found.method


def test_a_paired_difference_is_narrower_than_the_intervals_and_changes_sign() -> None:
    generator = np.random.default_rng(2)
    labels = (generator.random(2_000) < 0.1).astype(np.int64)
    noise = generator.normal(size=2_000)
    one = (labels * 2.0 + noise).astype(np.float32)
    other = (one + 0.3 * generator.normal(size=2_000)).astype(np.float32)
    value, low, high = metrics.paired_difference("roc_auc", labels, one, other)
    assert low <= value <= high
    single = metrics.measure("roc_auc", labels, one)
    assert high - low < 0.6 * (single.high - single.low)
    back = metrics.paired_difference("roc_auc", labels, other, one)
    assert back == pytest.approx((-value, -high, -low))
    same = metrics.paired_difference("roc_auc", labels, one, one)
    assert same == (0.0, 0.0, 0.0)
