"""Steps after a network, each beside what it is defined as."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gearshift.core.catalog import TensorSpec
from gearshift.steps import Labels, Normalize, Softmax, Threshold, largest

SCORES = TensorSpec("scores", "FP32", (4,))
ROWS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.just(4)),
    elements=st.floats(-1e4, 1e4, width=32),
)


@given(ROWS)
def test_softmax_sums_to_one_and_keeps_the_order(rows):
    found = Softmax(SCORES, "p").rows(rows)
    assert found.dtype == np.float32
    assert np.allclose(found.sum(axis=-1), 1.0, atol=1e-5)
    assert np.all(np.diff(np.take_along_axis(found, np.argsort(rows, axis=1), 1), axis=1) >= 0)


def test_softmax_of_what_is_known():
    found = Softmax(SCORES, "p").rows(np.log(np.array([[1, 2, 3, 4]], np.float32)))
    assert found[0].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=1e-6)


@given(ROWS)
def test_vectors_have_length_one_and_their_direction(rows):
    found = Normalize(SCORES, "v").rows(rows)
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    for vector, row, length in zip(found, rows, lengths, strict=True):
        assert np.allclose(vector * length, row, rtol=1e-4, atol=1e-6)
        if length > 1e-30:
            assert np.linalg.norm(vector.astype(np.float64)) == pytest.approx(1.0, abs=1e-5)


def test_a_vector_of_length_zero_stays():
    assert Normalize(SCORES, "v").rows(np.zeros((1, 4), np.float32)).tolist() == [[0, 0, 0, 0]]


def test_a_threshold_is_reached_by_what_is_as_large():
    step = Threshold(SCORES, "is", 0.5)
    assert step.makes == TensorSpec("is", "BOOL", (4,))
    assert step.rows(np.array([[0.4, 0.5, 0.6, np.nan]], np.float32)).tolist() == [
        [False, True, True, False]
    ]


def test_labels_of_the_largest():
    step = Labels(SCORES, "label", ["a", "b", "ä", "d"], 2)
    assert step.makes == TensorSpec("label", "BYTES", (2,))
    found = step.rows(np.array([[0, 1, 3, 2], [np.nan, 0, 0, -1]], np.float32))
    assert found.tolist() == [["ä".encode(), b"d"], [b"b", "ä".encode()]]


@given(ROWS, st.integers(1, 4))
def test_the_largest_come_first(rows, count):
    for row, places in zip(rows, largest(rows, count), strict=True):
        assert row[places].tolist() == sorted(row.tolist(), reverse=True)[:count]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Labels(SCORES, "l", ["a"], 1), "1 labels for output 'scores', which has 4"),
        (lambda: Labels(SCORES, "l", list("abcd"), 5), "top is 5, and there are 4 labels"),
        (lambda: Softmax(TensorSpec("t", "BYTES", (4,)), "p"), "is BYTES, and this step needs"),
        (lambda: Normalize(TensorSpec("t", "FP32", ()), "p"), "has no axis beside the rows"),
    ],
)
def test_what_does_not_fit_is_said(make, text):
    with pytest.raises(ValueError, match=text):
        make()
