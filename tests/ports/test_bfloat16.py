from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gearshift.ports import narrowed, widened

EVERY = np.arange(2**16, dtype="<u2")


def test_every_one_of_them_is_a_float32():
    assert np.array_equal(narrowed(widened(EVERY)), EVERY)
    assert widened(np.array([0x3F80, 0xC020, 0x7F80], np.uint16)).tolist() == [1.0, -2.5, math.inf]


@given(st.floats(-(2.0**127), 2.0**127, width=32))
def test_the_nearest_is_taken(value):
    bits = int(narrowed(np.array([value], np.float32))[0])
    found, below, above = widened(np.array([bits, bits - 1, bits + 1], np.int64).astype("<u2"))
    assert abs(float(found) - value) <= abs(float(below) - value) or math.isnan(below)
    assert abs(float(found) - value) <= abs(float(above) - value) or math.isnan(above)


def test_of_two_that_are_as_near_the_even_one():
    values = np.array([1.0, 1 + 2**-8, 1 + 2**-8 + 2**-20, 1 + 3 * 2**-8], np.float32)
    assert widened(narrowed(values)).tolist() == [1.0, 1.0, 1 + 2**-7, 1 + 2**-6]


def test_nan_stays_nan_whatever_its_bits():
    bits = np.array([0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF, 0xFF800001], np.uint32)
    found = widened(narrowed(bits.view(np.float32)))
    assert np.isnan(found).all()
    assert np.signbit(found).tolist() == [False, False, True, True]


def test_shapes_and_memory_in_any_order():
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert widened(narrowed(values.T)).tolist() == values.T.tolist()
    assert narrowed(np.float32(1.0)[...]).shape == ()
    assert narrowed(np.empty((0, 3), np.float32)).shape == (0, 3)
