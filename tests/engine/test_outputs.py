"""Answers that are not finite are found, whatever their size and type, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import make_model
from gearshift.core.catalog import Signature, TensorSpec
from gearshift.engine.outputs import FEW, HANDFUL, spoiled_rows, unfit_input

KINDS = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64}


def model(datatype: str, width: int):
    spec = TensorSpec("y", datatype, (width,))
    return make_model(signature=Signature((replace(spec, name="x"),), (spec,)))


@given(
    datatype=st.sampled_from(sorted(KINDS)),
    rows=st.integers(1, 5),
    width=st.sampled_from([1, 3, HANDFUL + 1, FEW + 1]),
    bad=st.sets(st.integers(0, 4)),
    value=st.sampled_from([np.nan, np.inf, -np.inf]),
    largest=st.booleans(),
)
def test_the_rows_that_are_not_finite(datatype, rows, width, bad, value, largest):
    kind = KINDS[datatype]
    array = np.full((rows, width), np.finfo(kind).max if largest else 1.0, kind)
    wrong = sorted(row for row in bad if row < rows)
    array[wrong, -1] = value
    found = spoiled_rows(model(datatype, width), {"y": array}, rows)
    assert ([] if found is None else np.flatnonzero(found).tolist()) == wrong
    assert unfit_input(model(datatype, width), {"x": array}) == ("x" if wrong else None)
    allowed = replace(model(datatype, width), finite=False)
    assert spoiled_rows(allowed, {"y": array}, rows) is None


@pytest.mark.parametrize("datatype", ["INT64", "BOOL"])
def test_whole_numbers_are_finite(datatype):
    array = np.ones((2, 3), np.int64)
    assert spoiled_rows(model(datatype, 3), {"y": array}, 2) is None
