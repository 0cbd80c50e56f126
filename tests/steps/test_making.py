"""Rows made one by one: whose mistake it is, what is not made at all, and what is checked first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from builders import make_model
from gearshift.core.catalog import Signature, TensorSpec
from gearshift.errors import Cancelled, InvalidInput
from gearshift.steps import check, made
from written import Written, column

BOTH = Signature(
    (TensorSpec("x", "FP32", (3,)), TensorSpec("own", "FP32", (1,))),
    (TensorSpec("y", "FP32", (1,)),),
)
MODEL = replace(make_model(signature=BOTH), before=(Written(most_bytes=10),))


def test_what_no_step_makes_goes_on_as_it_came():
    own = np.ones((2, 1), np.float32)
    found, seconds = made(MODEL, {"written": column(b"1 2 3", b"4 5 6"), "own": own}, lambda: True)
    assert found["x"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert found["x"].dtype == np.float32
    assert found["own"] is own
    assert set(found) == {"x", "own"}
    assert seconds >= 0


def test_callers_see_what_the_steps_take_and_the_rest():
    assert [spec.name for spec in MODEL.wire.inputs] == ["written", "own"]
    assert MODEL.expects({"own"}) == BOTH.inputs
    assert MODEL.expects({"own", "written"}) == MODEL.wire.inputs


def test_a_mistake_names_its_row():
    with pytest.raises(InvalidInput, match=r"input 'written', row 1: is no three numbers"):
        made(MODEL, {"written": column(b"1 2 3", b"1 2")}, lambda: True)


def test_a_row_of_too_many_bytes_is_found_before_any_is_read():
    check(MODEL, {"written": column(b"1" * 10)})
    with pytest.raises(InvalidInput, match="row 1: has 11 bytes; at most 10 are read"):
        check(MODEL, {"written": column(b"?", b"1" * 11)})


def test_nothing_more_is_made_for_nobody():
    asked = iter([True, True, False])
    step = Written()
    model = replace(MODEL, before=(step,))
    with pytest.raises(Cancelled):
        made(model, {"written": column(*[b"1 2 3"] * 9)}, lambda: next(asked))
    assert len(step.read) == 2
