"""A request of a known shape is read exactly as protobuf and the codec would read it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from builders import make_model
from gearshift.core.catalog import Signature, TensorSpec
from gearshift.errors import RequestError
from gearshift.rpc import codec, shapes
from gearshift.rpc.shapes import Shapes, layout_of, model_of
from gearshift.rpc.shared_memory import SharedMemory

TWO = make_model(
    signature=Signature(
        inputs=(TensorSpec("a", "FP32", (2,)), TensorSpec("b", "UINT8", (3,))),
        outputs=(TensorSpec("y", "FP32", (1,)), TensorSpec("z", "INT64", ())),
    ),
    max_batch_size=4,
)
IDS = st.text(max_size=150) | st.text("ab", max_size=5)


def made(request_id="7", rows=1, fill=1, outputs=(), **parameters) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name="m", id=request_id)
    message.inputs.add(name="a", datatype="FP32", shape=[rows, 2])
    message.inputs.add(name="b", datatype="UINT8", shape=[rows, 3])
    for name in outputs:
        message.outputs.add(name=name)
    for name, value in parameters.items():
        message.parameters[name].double_param = value
    message.raw_input_contents.append(bytes([fill]) * 8 * rows)
    message.raw_input_contents.append(bytes([fill + 1]) * 3 * rows)
    return message


def parsed(data: bytes, remaining=math.inf):
    """As a request of which nothing is known is read; None if it is refused."""
    try:
        message = pb.ModelInferRequest.FromString(data)
        if message.model_name != "m":
            return None
        request, inputs, places = codec.decode(message, TWO, remaining, SharedMemory())
    except (DecodeError, RequestError):
        return None
    assert not places
    wanted = tuple(output.name for output in message.outputs)
    return TWO, request, wanted, message.id.encode(), told(inputs)


def told(inputs):
    return {name: (a.dtype, a.shape, a.tobytes()) for name, a in inputs.items()}


def learn(known: Shapes, message: pb.ModelInferRequest) -> bytes:
    data = message.SerializeToString()
    request, inputs, _ = codec.decode(message, TWO, 0.5, SharedMemory())
    known.learn(data, message, TWO, request, inputs)
    return data


def read(known: Shapes, data: bytes, remaining=math.inf):
    found = known.read(data, remaining)
    return found and (*found[:4], told(found[4]))


@given(
    first=st.builds(made, IDS, st.integers(1, 4), st.integers(0, 200)),
    request_id=IDS,
    fill=st.integers(0, 200),
    remaining=st.sampled_from([0.25, math.inf]),
)
def test_another_id_and_other_numbers_are_read_without_parsing(first, request_id, fill, remaining):
    known = Shapes()
    learn(known, first)
    again = made(request_id, first.inputs[0].shape[0], fill).SerializeToString()
    found = read(known, again, remaining)
    plain = len(request_id.encode()) <= shapes.LONGEST_ID and request_id.isascii()
    if bool(request_id) == bool(first.id) and plain and len(first.id.encode()) <= 127:
        assert found is not None
    if found is not None:
        assert found == parsed(again, remaining)


def test_no_single_byte_is_overlooked():
    known = Shapes()
    data = learn(known, made("id", outputs=("z",), min_accuracy=0.5))
    for at in range(len(data)):
        for value in (0, 1, 0x7F, 0xFF, data[at] ^ 1):
            other = data[:at] + bytes((value,)) + data[at + 1 :]
            found = read(known, other)
            if found is not None:
                assert found == parsed(other)


@st.composite
def changed(draw):
    """The bytes of a request with some of them changed, left out or put in."""
    data = bytearray(made("id", outputs=("z",)).SerializeToString())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data) - 1))
        kind = draw(st.sampled_from(["change", "drop", "insert"]))
        if kind != "insert":
            del data[at]
        if kind != "drop":
            data.insert(at, draw(st.integers(0, 255)))
    return bytes(data)


@given(st.one_of(changed(), st.binary(max_size=100)))
def test_whatever_comes_is_never_read_as_anything_else(data):
    known = Shapes()
    for message in (made("id", outputs=("z",)), made("", outputs=("z",)), made("xyz", rows=2)):
        learn(known, message)
    found = read(known, data)
    if found is not None:
        assert found == parsed(data)


@given(
    st.one_of(
        changed(), st.binary(max_size=60), st.builds(made).map(lambda m: m.SerializeToString())
    )
)
def test_a_layout_is_that_which_protobuf_finds(data):
    layout = layout_of(data)
    try:
        message = pb.ModelInferRequest.FromString(data)
    except DecodeError:
        return
    if layout is not None:
        assert [data[a:b] for a, b in layout.raws] == list(message.raw_input_contents)
        at = layout.id_at
        assert (data[at + 1 : at + 1 + data[at]] if at else b"") == message.id.encode()


def test_the_rest_of_what_it_says_must_be_the_same():
    known = Shapes()
    learn(known, made(min_accuracy=0.5))
    for other in (made(), made(min_accuracy=0.25), made(rows=2), made(outputs=("y",))):
        assert read(known, other.SerializeToString()) is None
    _, request, *_ = read(known, made("9", min_accuracy=0.5).SerializeToString())
    assert (request.parameters, request.remaining) == ({"min_accuracy": 0.5}, math.inf)


def shared(message):
    message.inputs[0].parameters["shared_memory_region"].string_param = "r"


def typed(message):
    del message.raw_input_contents[:]
    message.inputs[0].contents.fp32_contents.extend([0.0, 1.0])
    message.inputs[1].contents.uint_contents.extend([0, 1, 2])


def wanted_there(message):
    message.outputs.add(name="y").parameters["shared_memory_region"].string_param = "r"


def verbose(message):
    for number in range(100):
        message.parameters[f"{number}"].int64_param = 1


def lengthy(message):
    message.parameters["service_class"].string_param = "x" * shapes.MOST_BYTES


@pytest.mark.parametrize("change", [shared, typed, wanted_there, verbose, lengthy])
def test_what_is_of_this_moment_only_or_too_large_is_not_remembered(change):
    """What a name in shared memory stands for may change from one request to the next."""
    known, message = Shapes(), made()
    request, inputs, _ = codec.decode(message, TWO, math.inf, SharedMemory())
    change(message)
    data = message.SerializeToString()
    known.learn(data, message, TWO, request, inputs)
    assert read(known, data) is None


def test_bytes_differ_in_length_and_are_parsed():
    model = make_model(
        signature=Signature((TensorSpec("t", "BYTES", ()),), (TensorSpec("y", "FP32", ()),)),
    )
    message = pb.ModelInferRequest(model_name="m")
    message.inputs.add(name="t", datatype="BYTES", shape=[1])
    message.raw_input_contents.append(b"\x01\x00\x00\x00a")
    request, inputs, _ = codec.decode(message, model, math.inf, SharedMemory())
    known, data = Shapes(), message.SerializeToString()
    known.learn(data, message, model, request, inputs)
    assert known.read(data, math.inf) is None


def test_only_the_last_few_are_kept():
    known = Shapes()
    told_apart = [made(min_accuracy=n / 100) for n in range(shapes.MOST_KEPT + 3)]
    sent = [learn(known, message) for message in told_apart]
    for data in sent[3:]:
        assert read(known, data) == parsed(data)
    assert [read(known, data) for data in sent[:3]] == [None] * 3
    # Who asks again goes to the front: the one that has not been asked for longest is let go.
    read(known, sent[3])
    learn(known, made(min_accuracy=0.99))
    assert read(known, sent[3]) is not None
    assert read(known, sent[4]) is None


def test_the_tensors_lie_as_numbers_should_and_are_not_to_be_written():
    known = Shapes()
    learn(known, made("1"))
    for request_id in ("", "1", "12", "123", "1234"):
        found = known.read(made(request_id).SerializeToString(), math.inf)
        if found is not None:
            (a, b) = found[4].values()
            assert a.flags.aligned
            assert not a.flags.writeable
            assert np.array_equal(b, np.full((1, 3), 2))


@given(st.text(), st.text(max_size=3))
def test_the_name_of_the_model_is_read_without_protobuf(name, request_id):
    message = pb.ModelInferRequest(model_name=name, id=request_id)
    assert model_of(message.SerializeToString()) == name


@given(st.binary(max_size=20))
def test_what_is_no_message_names_no_model_or_some(data):
    assert isinstance(model_of(data), str)
