"""The split by time leaks nothing, and the samples stand for all held-out rows."""

from __future__ import annotations

import numpy as np
import pytest

from gearshift.compress import data, fraud_rows, metrics


def table(n: int, frauds: int) -> data.Table:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(n, 30)).astype(np.float32)
    features[:, fraud_rows.TIME] = np.sort(features[:, fraud_rows.TIME])
    labels = np.zeros(n, np.int64)
    labels[generator.choice(n, frauds, replace=False)] = 1
    return data.Table(features, labels)


def test_the_held_out_payments_come_after_the_others() -> None:
    payments = table(100, 10)
    split = fraud_rows.split_by_time(payments)
    assert (len(split.train.labels), len(split.test.labels), split.left_out) == (60, 40, 0)
    assert split.train.features[:, 0].max() <= split.test.features[:, 0].min()
    np.testing.assert_array_equal(split.test.labels, payments.labels[60:])


def test_a_held_out_twin_of_a_training_row_is_left_out() -> None:
    payments = table(100, 10)
    payments.features[59:61] = payments.features[60]
    split = fraud_rows.split_by_time(payments)
    assert (len(split.test.labels), split.left_out) == (39, 1)
    np.testing.assert_array_equal(split.test.labels, payments.labels[61:])


def test_payments_out_of_order_are_refused() -> None:
    payments = table(100, 10)
    payments.features[5, fraud_rows.TIME] = 99
    with pytest.raises(data.DataError, match="not in order of time"):
        fraud_rows.split_by_time(payments)


def test_the_samples_stand_for_all_held_out_rows() -> None:
    test = table(20_000, 50)
    generator = np.random.default_rng(1)
    scores = np.stack([generator.normal(size=20_000) + 2 * test.labels for _ in range(2)])
    scores = scores.astype(np.float32)

    inputs, labels, weights = fraud_rows.samples(test, scores)

    assert len(labels) == 2_000
    assert labels.sum() == 50
    assert (weights[labels == 1] == 1).all()
    assert weights.sum() == pytest.approx(20_000)
    assert (np.diff(inputs[:, fraud_rows.TIME]) >= 0).all()
    rows = np.flatnonzero(np.isin(test.features[:, 1], inputs[:, 1]))
    for variant in scores:
        all_rows = metrics.average_precision(test.labels, variant, np.ones(20_000))
        on_samples = metrics.average_precision(labels, variant[rows], weights)
        assert on_samples == pytest.approx(all_rows, rel=0.02)


def test_few_rows_are_all_samples() -> None:
    test = table(1_500, 20)
    _, labels, weights = fraud_rows.samples(test, np.zeros((1, 1_500), np.float32))
    assert len(labels) == 1_500
    assert (weights == 1).all()
