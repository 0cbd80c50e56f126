"""What is compared of a row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gearshift.core.catalog import TensorSpec
from gearshift.drift.features import MOST_TAKEN, MOST_VALUES, Features


def features(*shape: int, datatype: str = "FP32") -> Features:
    return Features(TensorSpec("x", datatype, shape))


def test_a_small_row_is_its_values_by_place():
    assert features(3).names == ("x[0]", "x[1]", "x[2]")
    assert features(2, 2).names == ("x[0,0]", "x[0,1]", "x[1,0]", "x[1,1]")
    assert features().names == ("x",)
    rows = np.arange(8, dtype=np.int64).reshape(2, 2, 2)
    assert features(2, 2).of(rows).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert features().of(np.array([True, False])).tolist() == [[1.0], [0.0]]
    assert len(features(MOST_VALUES).names) == MOST_VALUES


def test_a_large_row_is_a_few_statistics():
    large = features(10, 20)
    told = ("mean", "deviation", "least", "greatest", "zeros", "centre 0", "centre 1")
    assert large.names == tuple(f"x {each}" for each in told)
    rows = np.zeros((3, 10, 20), np.uint8)
    rows[0, 2, 5] = rows[0, 4, 5] = 200  # between rows 2 and 4
    rows[1] = 7
    found = dict(zip(large.names, large.of(rows).T.tolist(), strict=True))
    assert found["x mean"] == [2.0, 7.0, 0.0]
    assert found["x deviation"] == [pytest.approx(np.std([200, 200] + [0] * 198)), 0.0, 0.0]
    assert found["x least"] == [0.0, 7.0, 0.0]
    assert found["x greatest"] == [200.0, 7.0, 0.0]
    assert found["x zeros"] == [0.99, 0.0, 1.0]
    assert found["x centre 0"] == pytest.approx([0.35, 0.5, 0.5])
    assert found["x centre 1"] == pytest.approx([0.275, 0.5, 0.5])


@pytest.mark.parametrize("shape", [(65,), (40_000,), (224, 224, 3), (3, 224, 224), (2, 3, 4, 5)])
def test_a_row_is_thinned_to_a_bounded_size_and_copied(shape):
    large = features(*shape)
    rows = np.random.default_rng(3).random((4, *shape)).astype(np.float32)
    taken = np.stack([large.taken(row) for row in rows])
    assert taken[0].size <= MOST_TAKEN
    assert taken[0].size > MOST_TAKEN / 8 or taken[0].size == rows[0].size
    assert not np.shares_memory(large.taken(rows[0]), rows)
    assert large.of_taken(taken).tolist() == large.of(rows).tolist()
    assert large.of(rows).shape == (4, len(large.names))
    mean = large.names.index("x mean")
    assert large.of(rows)[:, mean] == pytest.approx(rows.reshape(4, -1).mean(axis=1), abs=0.05)


@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float16, np.float64, np.int8, np.uint64]),
        st.sampled_from([(2, 5), (2, 70), (3, 9, 9), (1, 100, 50), (4,)]),
    )
)
def test_no_value_breaks_it(rows):
    made = features(*rows.shape[1:])
    taken = np.stack([made.taken(row) for row in rows])
    found = made.of_taken(taken)
    assert found.dtype == np.float64
    assert found.shape == (len(rows), len(made.names))
    small = rows.size // len(rows) <= MOST_VALUES
    finite = np.abs(taken.reshape(len(rows), -1).astype(np.float64)).max(axis=1) < 1e100
    if small:
        assert np.array_equal(found.ravel(), rows.astype(np.float64).ravel(), equal_nan=True)
    else:
        assert np.isfinite(found[finite]).all()
        centres = found[finite][:, 5:]
        assert ((centres >= 0) & (centres <= 1)).all()
