from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import serialize_byte_tensor

from builders import make_model
from gearshift.core.catalog import Signature, TensorSpec
from gearshift.core.request import Ticket
from gearshift.core.router import Reason
from gearshift.engine import Answer, Run
from gearshift.errors import InvalidInput
from gearshift.rpc import answers, codec
from gearshift.rpc.answers import AnswerWriter, Integer, varint
from gearshift.rpc.datatypes import CONTENTS, DATATYPES, from_raw, from_typed, to_buffer, to_raw
from gearshift.rpc.shared_memory import SharedMemory

TWO = make_model(
    signature=Signature(
        inputs=(TensorSpec("a", "FP32", (2,)), TensorSpec("b", "UINT8", (2, 2))),
        outputs=(TensorSpec("y", "FP32", (1,)), TensorSpec("z", "INT64", ())),
    ),
    max_batch_size=4,
)
NUMERIC = [name for name in DATATYPES if name != "BYTES"]


def write(writer, message, answer, places=None):
    wanted = tuple(output.name for output in message.outputs)
    written = writer.write(message.id.encode(), wanted, answer, places or {})
    return pb.ModelInferResponse.FromString(written)


def encode(message, model, answer):
    return write(AnswerWriter(model), message, answer)


def message(rows=2, **changes):
    """A sound request for TWO; `changes` replace its parts."""
    made = pb.ModelInferRequest(model_name="m", id="7")
    made.inputs.add(name="a", datatype="FP32", shape=[rows, 2])
    made.inputs.add(name="b", datatype="UINT8", shape=[rows, 2, 2])
    made.raw_input_contents.append(np.arange(rows * 2, dtype=np.float32).tobytes())
    made.raw_input_contents.append(bytes(range(rows * 4)))
    for name, value in changes.items():
        getattr(made, name).append(value)
    return made


def refused(made) -> str:
    with pytest.raises(InvalidInput) as caught:
        codec.decode(made, TWO, math.inf, SharedMemory())
    return str(caught.value)


def test_a_sound_request_is_read():
    request, inputs, places = codec.decode(message(3), TWO, 0.5, SharedMemory())
    assert not places
    assert (request.model, request.rows, request.version, request.remaining) == ("m", 3, "", 0.5)
    assert inputs["a"].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert inputs["b"].shape == (3, 2, 2)
    assert inputs["b"].dtype == np.uint8


def test_raw_contents_are_not_copied():
    made = message()
    _, inputs, _ = codec.decode(made, TWO, math.inf, SharedMemory())
    assert not inputs["a"].flags.owndata
    assert not inputs["a"].flags.writeable


def test_the_order_of_inputs_is_the_callers():
    made = message()
    made.inputs.reverse()
    made.raw_input_contents.reverse()
    assert codec.decode(made, TWO, math.inf, SharedMemory())[1]["a"].tolist() == [[0, 1], [2, 3]]


def broken(change):
    made = message()
    change(made)
    return made


def set_shape(index, *shape):
    def change(made):
        made.inputs[index].ClearField("shape")
        made.inputs[index].shape.extend(shape)

    return change


def drop_input(made):
    del made.inputs[1]
    del made.raw_input_contents[1]


def extra_input(made):
    made.inputs.add(name="c", datatype="FP32", shape=[2, 2])
    made.raw_input_contents.append(b"")


def twice(made):
    made.inputs[1].CopyFrom(made.inputs[0])
    made.raw_input_contents[1] = made.raw_input_contents[0]


def clear(made):
    made.ClearField("inputs")
    made.ClearField("raw_input_contents")


def typed_and_raw(made):
    made.inputs[0].contents.fp32_contents.extend([1, 2, 3, 4])


def no_data(made):
    made.ClearField("raw_input_contents")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (clear, r"no inputs; model 'm' takes a FP32 \[rows, 2\], b UINT8 \[rows, 2, 2\]"),
        (drop_input, "input 'b' is missing"),
        (extra_input, "no input 'c'"),
        (twice, "input 'a' is given twice"),
        (lambda m: setattr(m.inputs[0], "name", "A"), "no input 'A'; it takes a FP32"),
        (lambda m: setattr(m.inputs[0], "datatype", "FP64"), "is FP64, expected FP32"),
        (lambda m: setattr(m.inputs[0], "datatype", ""), "is untyped, expected FP32"),
        (lambda m: setattr(m.inputs[0], "datatype", "BYTES"), "is BYTES, expected FP32"),
        (set_shape(0, 2, 3), r"shape \[2, 3\], expected \[rows, 2\]"),
        (set_shape(0, 4), r"shape \[4\], expected"),
        (set_shape(0, 2, 2, 1), "expected"),
        (set_shape(0), "expected"),
        (set_shape(0, 0, 2), "has 0 rows.*takes 1 to 4"),
        (set_shape(0, -1, 2), "has -1 rows"),
        (set_shape(0, 5, 2), "has 5 rows.*takes 1 to 4"),
        (set_shape(0, 3, 2), r"16 bytes of raw contents, but shape \[3, 2\] of FP32 takes 24"),
        (set_shape(1, 1, 2, 2), "has 1 rows, the input before it 2"),
        (typed_and_raw, "give one of the two"),
        (no_data, "has no data"),
        (lambda m: m.raw_input_contents.append(b"x"), "3 raw_input_contents for 2 inputs"),
        (lambda m: m.outputs.add(name="w"), "no output 'w'; it has y, z"),
        (lambda m: (m.outputs.add(name="y"), m.outputs.add(name="y")), "requested twice"),
        (lambda m: m.parameters["x"].SetInParent(), "parameter x has no value"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(change, text):
    import re

    told = refused(broken(change))
    assert re.search(text, told), told


@pytest.mark.parametrize(
    ("place", "name"), [("inputs", "classification"), ("inputs", "bogus"), ("outputs", "bogus")]
)
def test_tensor_extensions_that_are_not_served_are_refused(name, place):
    made = message()
    if place == "outputs":
        made.outputs.add(name="y")
    getattr(made, place)[0].parameters[name].int64_param = 1
    assert name in refused(made)


def test_parameters_of_every_kind():
    made = message()
    made.parameters["b"].bool_param = True
    made.parameters["i"].int64_param = -5
    made.parameters["u"].uint64_param = 5
    made.parameters["d"].double_param = 0.5
    made.parameters["s"].string_param = "x"
    assert codec.parameters_of(made) == {"b": True, "i": -5, "u": 5, "d": 0.5, "s": "x"}


def answer(rows=2, budget=0.25, first=0, reason=Reason.LOAD, service_class="default"):
    """The rows from `first` on of a batch of six."""
    run = Run(
        TWO.variants[1],
        outputs={
            "y": np.arange(6, dtype=np.float32).reshape(6, 1),
            "z": np.arange(10, 16, dtype=np.int64),
        },
        rows=6,
        begun=7.0015,
        finished=7.0035,
    )
    ticket = Ticket(
        id=1,
        model="m",
        service_class=service_class,
        arrival=7.0,
        deadline=7.0 + budget,
        floor=0.0,
        rows=rows,
    )
    return Answer(run, ticket, reason, first)


def test_the_response_says_who_answered_and_why():
    response = encode(message(), TWO, answer())
    assert (response.model_name, response.model_version, response.id) == ("m", "2", "7")
    told = {
        name: getattr(p, p.WhichOneof("parameter_choice"))
        for name, p in response.parameters.items()
    }
    assert told == {
        "variant": "small",
        "accuracy": 0.8,
        "service_class": "default",
        "queue_us": 1500,
        "compute_us": 2000,
        "budget_us": 250_000,
        "batch_size": 6,
        "reason": "load",
    }
    kinds = {n: p.WhichOneof("parameter_choice") for n, p in response.parameters.items()}
    assert kinds["queue_us"] == kinds["batch_size"] == "int64_param"
    assert [(o.name, o.datatype, list(o.shape)) for o in response.outputs] == [
        ("y", "FP32", [2, 1]),
        ("z", "INT64", [2]),
    ]
    assert np.frombuffer(response.raw_output_contents[1], np.int64).tolist() == [10, 11]


def test_only_the_wanted_outputs_in_the_wanted_order():
    made = message()
    made.outputs.add(name="z")
    response = encode(made, TWO, answer())
    assert [o.name for o in response.outputs] == ["z"]
    assert len(response.raw_output_contents) == 1


def test_an_unlimited_budget_is_not_told():
    assert "budget_us" not in encode(message(), TWO, answer(budget=math.inf)).parameters


def test_each_member_of_a_batch_gets_its_own_rows():
    writer, first = AnswerWriter(TWO), answer(rows=2)
    for row, rows in ((0, 2), (2, 3), (5, 1)):
        ticket = replace(first.ticket, rows=rows)
        response = write(writer, message(), Answer(first.run, ticket, first.reason, row))
        y, z = response.raw_output_contents
        assert np.frombuffer(y, np.float32).tolist() == list(range(row, row + rows))
        assert np.frombuffer(z, np.int64).tolist() == list(range(10 + row, 10 + row + rows))
        assert [list(output.shape) for output in response.outputs] == [[rows, 1], [rows]]


def test_large_outputs_are_those_of_their_rows_too(monkeypatch):
    monkeypatch.setattr(answers, "LARGE", 1)
    test_each_member_of_a_batch_gets_its_own_rows()


@pytest.mark.parametrize("name", NUMERIC)
@given(data=st.data())
def test_raw_contents_round_trip(name, data):
    datatype = DATATYPES[name]
    array = data.draw(hnp.arrays(datatype.numpy, hnp.array_shapes(max_dims=3, max_side=4)))
    back = from_raw(array.tobytes(), datatype, array.shape, "x")
    assert to_raw(back, datatype) == array.tobytes()
    assert to_buffer(back, datatype).tobytes() == array.tobytes()
    assert back.shape == array.shape
    assert back.dtype == ("f4" if name == "BF16" else datatype.numpy)


@pytest.mark.parametrize("name", [n for n in NUMERIC if DATATYPES[n].typed])
@given(data=st.data())
def test_typed_contents_round_trip(name, data):
    datatype = DATATYPES[name]
    array = data.draw(
        hnp.arrays(datatype.numpy, 4, elements=hnp.from_dtype(datatype.numpy, allow_nan=False))
    )
    contents = pb.InferTensorContents()
    getattr(contents, datatype.typed).extend(array.tolist())
    back = from_typed(contents, datatype, (2, 2), "x")
    assert back.dtype == datatype.numpy
    assert back.tolist() == array.reshape(2, 2).tolist()


@given(st.lists(st.binary(max_size=9), min_size=4, max_size=4))
def test_bytes_round_trip_like_the_stock_client_writes_them(elements):
    array = np.array(elements, dtype=object).reshape(2, 2)
    array.reshape(-1)[:] = elements
    raw = serialize_byte_tensor(array).item()
    datatype = DATATYPES["BYTES"]
    assert from_raw(raw, datatype, (2, 2), "x").reshape(-1).tolist() == elements
    assert to_raw(array, datatype) == raw
    contents = pb.InferTensorContents(bytes_contents=elements)
    assert from_typed(contents, datatype, (2, 2), "x").reshape(-1).tolist() == elements


@given(st.binary(max_size=40), st.integers(1, 4))
def test_any_bytes_are_read_or_refused(data, count):
    try:
        array = from_raw(data, DATATYPES["BYTES"], (count,), "x")
    except InvalidInput as error:
        assert "BYTES" in str(error) or "bytes after" in str(error)
    else:
        assert to_raw(array, DATATYPES["BYTES"]) == data


@pytest.mark.parametrize(
    ("name", "field", "values", "text"),
    [
        ("FP16", "fp32_contents", [1.0], "raw_input_contents only"),
        ("FP32", "fp64_contents", [1.0], "FP32 travels in fp32_contents, not in fp64_contents"),
        ("FP32", "fp32_contents", [1.0, 2.0], "2 values in fp32_contents, but shape"),
        ("UINT8", "uint_contents", [256], r"outside UINT8 \(0 to 255\)"),
        ("INT8", "int_contents", [-129], "outside INT8"),
    ],
)
def test_wrong_typed_contents_are_refused(name, field, values, text):
    contents = pb.InferTensorContents()
    getattr(contents, field).extend(values)
    with pytest.raises(InvalidInput, match=text):
        from_typed(contents, DATATYPES[name], (1,), "x")


def test_every_field_of_the_typed_contents_is_known():
    assert sorted(f.name for f in pb.InferTensorContents.DESCRIPTOR.fields) == CONTENTS


@given(st.integers(-5, 2**63 - 1), st.sampled_from(["queue_us", "batch_size"]))
def test_numbers_are_written_as_protobuf_writes_them(value, name):
    read = pb.ModelInferResponse.FromString(Integer(name)(value))
    assert read.parameters[name].int64_param == max(0, value)
    if value > 0:
        expected = pb.ModelInferResponse()
        expected.parameters[name].int64_param = value
        assert Integer(name)(value) == expected.SerializeToString()


@given(st.integers(0, 2**70))
def test_a_varint_is_the_number_in_sevens(value):
    found = varint(value)
    assert sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(found)) == value
    assert [byte >= 0x80 for byte in found] == [True] * (len(found) - 1) + [False]


def test_one_writer_writes_different_answers():
    """What is kept from one answer must not show in the next."""
    writer = AnswerWriter(TWO)
    for made in (answer(), answer(reason=Reason.PINNED, service_class="other", rows=1)):
        read = write(writer, message(), made)
        assert read.parameters["reason"].string_param == made.reason.value
        assert read.parameters["service_class"].string_param == made.ticket.service_class
        assert list(read.outputs[0].shape) == [made.ticket.rows, 1]
