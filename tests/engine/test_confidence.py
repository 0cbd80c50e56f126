"""How sure answers are: bounds, what each kind of output gives, and what has no confidence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from builders import make_model
from gearshift.core.catalog import Signature, TensorSpec
from gearshift.engine.confidence import check_confidence, confidence

INPUTS = (TensorSpec("x", "FP32", (3,)),)


def model_of(metric, *shape, datatype="FP32"):
    signature = Signature(INPUTS, (TensorSpec("y", datatype, shape), TensorSpec("z", "FP32", (7,))))
    return replace(make_model(signature=signature), metric=metric)


def sure(model, rows, dtype=np.float32):
    return confidence({"y": np.array(rows, dtype), "z": np.zeros((len(rows), 7))}, model)


def test_of_probabilities_the_largest():
    found = sure(model_of("top1", 3), [[0.2, 0.7, 0.1], [0.34, 0.33, 0.33]])
    assert found == pytest.approx([0.7, 0.34])
    assert found.shape == (2,)


def test_of_logits_the_largest_softmax():
    found = sure(model_of("top1", 2), [[0.0, 0.0], [2.0, 0.0], [5000.0, -5000.0]])
    assert found == pytest.approx([0.5, 1 / (1 + np.exp(-2.0)), 1.0])


def test_of_one_score_the_likelier_side():
    for metric in ("average_precision", "roc_auc"):
        assert sure(model_of(metric, 1), [[0.1], [0.5], [0.8]]) == pytest.approx([0.9, 0.5, 0.8])
    assert sure(model_of("roc_auc"), [0.1, 0.8]) == pytest.approx([0.9, 0.8])


def test_a_score_beyond_the_ends_is_sure_and_nan_is_not():
    assert sure(model_of("roc_auc", 1), [[-3.0], [7.0], [np.nan]]) == pytest.approx([1, 1, 0])
    assert sure(model_of("top1", 2), [[np.nan, 0.5]]) == pytest.approx([0])


VALUES = st.floats(-1e4, 1e4, width=32)


@given(arrays(np.float32, st.tuples(st.integers(1, 6), st.just(4)), elements=VALUES))
def test_between_an_even_draw_and_one_and_no_neighbour_matters(rows):
    model = model_of("top1", 4)
    found = sure(model, rows)
    assert ((found >= 0.25 - 1e-3) & (found <= 1.0)).all()
    alone = [sure(model, rows[i : i + 1])[0] for i in range(len(rows))]
    assert found.tolist() == alone


@pytest.mark.parametrize(
    ("model", "part"),
    [
        (model_of("rank1", 192), "'rank1' do not say how sure"),
        (model_of("top1", 1), "needs a value for each class"),
        (model_of("roc_auc", 2), "needs one score"),
        (model_of("top1", 3, datatype="INT64"), "'y' is INT64 [3]"),
    ],
)
def test_what_has_no_confidence(model, part):
    with pytest.raises(ValueError, match="cascade") as caught:
        check_confidence(model.metric, model.signature)
    assert part in str(caught.value)
