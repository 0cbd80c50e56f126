"""The split by time leaks nothing, and the samples stand for all held-out rows."""

from __future__ import annotations

import numpy as np
import pytest

from gearshift.compress import data, metrics
from gearshift.compress.dataset import DataError, Part
from gearshift.compress.families import fraud_data


def table(n: int, frauds: int) -> data.Table:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(n, 30)).astype(np.float32)
    features[:, fraud_data.TIME] = np.sort(features[:, fraud_data.TIME])
    labels = np.zeros(n, np.int64)
    labels[generator.choice(n, frauds, replace=False)] = 1
    return data.Table(features, labels)


def test_each_part_comes_after_the_one_before() -> None:
    payments = table(100, 10)
    split = fraud_data.split_by_time(payments)
    parts = [split.training, split.calibration, split.evaluation]
    assert [len(part) for part in parts] == [45, 15, 40]
    times = [part.inputs["features"][:, fraud_data.TIME] for part in parts]
    assert times[0].max() <= times[1].min()
    assert times[1].max() <= times[2].min()
    np.testing.assert_array_equal(split.evaluation.labels, payments.labels[60:])


def test_a_later_twin_of_an_earlier_row_is_left_out() -> None:
    payments = table(100, 10)
    payments.features[59:61] = payments.features[60]
    split = fraud_data.split_by_time(payments)
    assert len(split.evaluation) == 39
    np.testing.assert_array_equal(split.evaluation.labels, payments.labels[61:])


def test_payments_out_of_order_are_refused() -> None:
    payments = table(100, 10)
    payments.features[5, fraud_data.TIME] = 99
    with pytest.raises(DataError, match="not in order of time"):
        fraud_data.split_by_time(payments)


def test_the_samples_stand_for_all_held_out_rows() -> None:
    test = table(20_000, 50)
    generator = np.random.default_rng(1)
    scores = np.stack([generator.normal(size=20_000) + 2 * test.labels for _ in range(2)])
    scores = scores.astype(np.float32)

    chosen, weights = fraud_data.samples(
        Part({"features": test.features}, test.labels), scores[:, :, np.newaxis]
    )
    inputs, labels = test.features[chosen], test.labels[chosen]

    assert len(labels) == 2_000
    assert labels.sum() == 50
    assert (weights[labels == 1] == 1).all()
    assert weights.sum() == pytest.approx(20_000)
    assert (np.diff(inputs[:, fraud_data.TIME]) >= 0).all()
    rows = np.flatnonzero(np.isin(test.features[:, 1], inputs[:, 1]))
    for variant in scores:
        all_rows = metrics.average_precision(test.labels, variant, np.ones(20_000))
        on_samples = metrics.average_precision(labels, variant[rows], weights)
        assert on_samples == pytest.approx(all_rows, rel=0.02)


def test_few_rows_are_all_samples() -> None:
    test = table(1_500, 20)
    part = Part({"features": test.features}, test.labels)
    rows, weights = fraud_data.samples(part, np.zeros((1, 1_500, 1), np.float32))
    assert rows.tolist() == list(range(1_500))
    assert (weights == 1).all()
