"""Held-out samples as cells."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from builders import make_model
from gearshift.core.catalog import Model, Signature, TensorSpec
from gearshift.drift import reference as module
from gearshift.drift.reference import LEAST_SAMPLES, NotWatchedError, read, scale_of


def with_samples(path: Path, *specs: TensorSpec, **arrays) -> Model:
    """A model with such inputs and such samples."""
    np.savez(path, **arrays)
    signature = Signature(specs or (TensorSpec("x", "FP32", (2,)),), ())
    return dataclasses.replace(make_model(signature=signature), samples=str(path))


def test_many_values_lie_in_cells_of_equal_weight():
    values = np.random.default_rng(4).permutation(np.arange(1000.0))
    scale = scale_of(values, np.ones(1000), 10)
    assert scale.shares == pytest.approx([0.1] * 10 + [0.0])
    assert not scale.exact
    found = scale.cells_of(np.array([-1e9, 99.0, 99.5, 998.0, 1e9, -np.inf, np.inf, np.nan]))
    assert found.tolist() == [0, 0, 1, 9, 9, 0, 9, 10]


def test_weights_move_the_cells():
    values = np.arange(1000.0)
    weights = np.where(values < 100, 81.0, 1.0)
    scale = scale_of(values, weights, 10)
    assert (scale.marks < 100).sum() == 9
    assert scale.shares == pytest.approx([0.1] * 10 + [0.0], abs=0.01)


def test_few_values_have_a_cell_each_and_others_one_more():
    scale = scale_of(np.array([3.0, 1.0, 1.0, np.nan, 7.0]), np.array([1.0, 1, 1, 1, 4]), 10)
    assert scale.exact
    assert scale.marks.tolist() == [1.0, 3.0, 7.0]
    assert scale.shares == pytest.approx([0.25, 0.125, 0.5, 0.0, 0.125])
    found = scale.cells_of(np.array([1.0, 3.0, 7.0, 2.0, 0.0, 9.0, np.inf, np.nan]))
    assert found.tolist() == [0, 1, 2, 3, 3, 3, 3, 4]


def test_a_feature_that_is_never_known_has_two_cells():
    scale = scale_of(np.full(9, np.nan), np.ones(9), 10)
    assert scale.shares == (0.0, 1.0)
    assert scale.cells_of(np.array([1.0, np.nan])).tolist() == [0, 1]


@given(
    hnp.arrays(
        np.float64,
        st.integers(1, 200),
        elements=st.one_of(st.sampled_from([0.0, 1.0, np.nan]), st.floats(width=32)),
    ),
    st.integers(2, 10),
    st.randoms(use_true_random=False),
)
def test_every_value_has_one_cell_and_the_shares_are_the_weights(values, most, random):
    weights = np.array([random.uniform(0.1, 5.0) for _ in values])
    scale = scale_of(values, weights, most)
    found = scale.cells_of(values)
    assert len(scale.marks) <= most
    assert len(scale.shares) == scale.cells <= most + 2
    assert sum(scale.shares) == pytest.approx(1.0)
    for cell, share in enumerate(scale.shares):
        assert share == pytest.approx(weights[found == cell].sum() / weights.sum())
    # Ascending: a greater value never lies in an earlier cell.
    if not scale.exact:
        order = np.argsort(values)
        assert (np.diff(found[order]) >= 0).all()


def test_the_reference_of_a_model(tmp_path):
    rng = np.random.default_rng(5)
    inputs = rng.normal(size=(400, 2)).astype(np.float32)
    inputs[:, 1] = rng.integers(0, 3, 400)
    labels, weights = np.zeros(400, np.int64), np.r_[np.full(100, 3.0), np.full(300, 1e-9)]
    found = read(with_samples(tmp_path / "s.npz", inputs=inputs, labels=labels, weights=weights))
    assert found.tensor == "x"
    assert found.size == pytest.approx(100)
    assert [scale.exact for scale in found.scales] == [False, True]
    rows = found.cells_of(np.array([[-1e9, 1.0], [1e9, 5.0]], np.float32))
    assert rows.tolist() == [[0, 1], [9, 3]]
    assert rows.dtype == np.uint8


def test_without_weights_all_rows_count_alike_and_few_rows_make_few_cells(tmp_path):
    inputs = np.random.default_rng(6).normal(size=(60, 2)).astype(np.float32)
    found = read(with_samples(tmp_path / "s.npz", inputs=inputs, labels=np.zeros(60)))
    assert found.size == pytest.approx(60)
    assert len(found.scales[0].marks) == 5


ROWS = np.zeros((LEAST_SAMPLES, 2), np.float32)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"inputs": ROWS[1:]}, "worth 49 rows; at least 50"),
        ({"inputs": ROWS, "weights": np.r_[np.ones(9), np.zeros(41)]}, "worth 9 rows"),
        ({"inputs": ROWS, "weights": np.ones(9)}, "do not fit"),
        ({"inputs": ROWS[:, :1]}, "do not fit"),
        ({"inputs": ROWS, "weights": np.zeros(50)}, "not all 0"),
        ({"inputs": ROWS, "weights": np.full(50, np.nan)}, "at least 0"),
        ({"inputs": ROWS, "weights": -np.ones(50)}, "at least 0"),
        ({"labels": ROWS}, "has no .*inputs"),
        ({"inputs": np.array([None, {}])}, "holds Python objects"),
    ],
)
def test_samples_that_cannot_be_compared_with_are_told(tmp_path, arrays, said):
    with pytest.raises(NotWatchedError, match=said):
        read(with_samples(tmp_path / "s.npz", **arrays))


def test_models_that_cannot_be_watched_are_told(tmp_path, monkeypatch):
    spec, text = TensorSpec("x", "FP32", (2,)), TensorSpec("t", "BYTES", (1,))
    path = tmp_path / "s.npz"
    good = with_samples(path, spec, inputs=ROWS, labels=ROWS)
    assert read(good)
    with pytest.raises(NotWatchedError, match="no samples.npz"):
        read(dataclasses.replace(good, samples=None))
    with pytest.raises(NotWatchedError, match="several inputs"):
        read(with_samples(path, spec, text, inputs=ROWS, labels=ROWS))
    with pytest.raises(NotWatchedError, match="only numbers"):
        read(with_samples(path, text, inputs=ROWS, labels=ROWS))
    with pytest.raises(NotWatchedError, match="cannot be read: no such file"):
        read(dataclasses.replace(good, samples=str(tmp_path / "none.npz")))
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    with pytest.raises(NotWatchedError, match="more than the 100 that are read"):
        read(good)
    path.write_bytes(b"PK\x03\x04 what is this")
    with pytest.raises(NotWatchedError, match="is not a file of numpy.savez"):
        read(good)
