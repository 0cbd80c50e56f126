"""The classification extension, as stock clients ask for it."""

from __future__ import annotations

import numpy as np
import pytest
import tritonclient.grpc as triton
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tritonclient.utils import InferenceServerException

from gearshift.rpc.classes import classes


def test_the_largest_first_and_of_equals_the_first():
    rows = np.array([[0.25, 0.5, 0.125, 0.5], [3.0, 2.0, np.nan, 7.0]], np.float32)
    assert classes(rows, 3).tolist() == [
        [b"0.500000:1", b"0.500000:3", b"0.250000:0"],
        [b"7.000000:3", b"3.000000:0", b"2.000000:1"],
    ]
    assert classes(np.array([[[5], [9]]], np.int32), 1).tolist() == [[b"9.000000:1"]]


@given(
    arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 9))), st.integers(1, 9)
)
def test_they_are_the_largest(rows, count):
    count = min(count, rows.shape[1])
    for row, texts in zip(rows, classes(rows, count), strict=True):
        indices = [int(text.split(b":")[1]) for text in texts]
        assert len(set(indices)) == count
        ranks = np.where(np.isnan(row), -np.inf, row)
        rest = np.delete(ranks, indices)
        assert all(ranks[index] >= other for index in indices for other in rest)
        assert sorted(ranks[indices], reverse=True) == list(ranks[indices])


def ask(client, wanted, rows=2):
    given_ = triton.InferInput("x", [rows, 3], "FP32")
    given_.set_data_from_numpy(np.arange(3 * rows, dtype=np.float32).reshape(rows, 3))
    return client.infer("m", [given_], outputs=wanted)


def test_a_stock_client_gets_them(client):
    answer = ask(client, [triton.InferRequestedOutput("y", class_count=5)])
    assert answer.as_numpy("y").tolist() == [[b"3.000000:0"], [b"12.000000:0"]]
    assert answer.get_response().outputs[0].datatype == "BYTES"
    # The next one, on the same connection, asks for the output itself.
    plain = ask(client, [triton.InferRequestedOutput("y")])
    assert plain.as_numpy("y").tolist() == [[3.0], [12.0]]


def test_what_is_no_number_of_classes(client):
    wanted = triton.InferRequestedOutput("y", class_count=1)
    wanted._output.parameters["classification"].int64_param = -1
    with pytest.raises(InferenceServerException, match="a whole number from 1, got -1"):
        ask(client, [wanted])


def test_inputs_have_none(client):
    given_ = triton.InferInput("x", [1, 3], "FP32")
    given_.set_data_from_numpy(np.zeros((1, 3), np.float32))
    given_._input.parameters["classification"].int64_param = 1
    with pytest.raises(InferenceServerException, match="unknown parameter 'classification'"):
        client.infer("m", [given_])
