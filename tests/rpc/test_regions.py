"""The registered regions by themselves: what may be opened, and every offset and size."""

from __future__ import annotations

import errno
import math
import os
import struct
from multiprocessing.shared_memory import SharedMemory as Object
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from builders import make_model
from gearshift.core.catalog import Signature, TensorSpec
from gearshift.core.request import Ticket
from gearshift.core.router import Reason
from gearshift.engine import Answer, Run
from gearshift.errors import (
    InvalidInput,
    RegionExists,
    RegionNotFound,
    RegionUnusable,
    TooManyRegions,
)
from gearshift.rpc import codec, shared_memory
from gearshift.rpc.answers import AnswerWriter
from gearshift.rpc.shared_memory import Region, SharedMemory

SIZE = 100
EDGES = (-(2**63), -1, 0, 1, SIZE - 1, SIZE, SIZE + 1, 2**31, 2**32, 2**63 - 1)
NUMBERS = st.one_of(st.sampled_from(EDGES), st.integers(-5, SIZE + 5))

MIXED = make_model(
    signature=Signature(
        inputs=(TensorSpec("a", "FP32", (2,)), TensorSpec("t", "BYTES", ())),
        outputs=(TensorSpec("y", "FP32", (2,)), TensorSpec("s", "BYTES", ())),
    ),
    max_batch_size=4,
)


@pytest.fixture(scope="module")
def made():
    """An object of SIZE bytes that are all different."""
    made = Object(f"gearshift-{uuid4().hex}", create=True, size=SIZE)
    made.buf[:] = bytes(range(SIZE))
    yield made
    made.close()
    made.unlink()


@pytest.fixture
def memory(made):
    memory = SharedMemory()
    memory.register("r", made.name, 0, SIZE)
    return memory


def parameters(region="r", byte_size=None, offset=None):
    """As the stock client sets them."""
    tensor = pb.ModelInferRequest.InferInputTensor()
    if region is not None:
        tensor.parameters["shared_memory_region"].string_param = region
    if byte_size is not None:
        tensor.parameters["shared_memory_byte_size"].int64_param = byte_size
    if offset is not None:
        tensor.parameters["shared_memory_offset"].int64_param = offset
    return tensor.parameters


# --- registering -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        ".",
        "..",
        "/..",
        "a/b",
        "//a",
        "a\0b",
        "x" * 256,
        "gearshift-does-not-exist",
    ],
)
def test_a_key_names_an_object_and_nothing_else(key):
    memory = SharedMemory()
    with pytest.raises(RegionUnusable) as caught:
        memory.register("r", key, 0, 1)
    assert repr(key[:200])[1:5] in str(caught.value)
    assert not memory.named(Region, "")


def test_files_elsewhere_and_semaphores_are_out_of_reach(tmp_path):
    """All of these exist and could be opened."""
    outside = tmp_path / "secret"
    name = f"gearshift-{uuid4().hex}"
    folder = f"{shared_memory.FOLDER}/{name}"
    os.mkdir(folder)
    paths = [outside, f"{folder}/inside", f"{shared_memory.FOLDER}/sem.{name}"]
    keys = [f"../..{outside}", f"/../..{outside}", f"{name}/inside", f"sem.{name}", f"/sem.{name}"]
    try:
        for path in paths:
            with open(path, "wb") as file:
                file.write(b"x" * 10)
        for key in keys:
            assert os.path.getsize(f"{shared_memory.FOLDER}/{key}") == 10
            with pytest.raises(RegionUnusable, match="is not the key|is a semaphore"):
                SharedMemory().register("r", key, 0, 1)
    finally:
        for path in paths[1:]:
            os.unlink(path)
        os.rmdir(folder)


def test_a_link_a_folder_and_a_pipe_are_no_objects(tmp_path):
    target = tmp_path / "secret"
    target.write_bytes(b"x" * 10)
    names = [f"gearshift-{uuid4().hex}" for _ in range(3)]
    paths = [f"{shared_memory.FOLDER}/{name}" for name in names]
    os.symlink(target, paths[0])
    os.mkdir(paths[1])
    os.mkfifo(paths[2])
    try:
        for name in names:
            with pytest.raises(RegionUnusable):
                SharedMemory().register("r", name, 0, 1)
    finally:
        os.unlink(paths[0])
        os.rmdir(paths[1])
        os.unlink(paths[2])


@given(offset=st.one_of(NUMBERS, st.just(2**64 - 1)), byte_size=st.one_of(NUMBERS, st.just(2**64)))
def test_a_region_lies_inside_its_object(made, offset, byte_size):
    memory = SharedMemory()
    if offset >= 0 and byte_size >= 1 and offset + byte_size <= SIZE:
        memory.register("r", made.name, offset, byte_size)
        (region,) = memory.named(Region, "r")
        assert region.read(0, byte_size) == bytes(range(SIZE))[offset : offset + byte_size]
    else:
        with pytest.raises(InvalidInput, match="the object has 100"):
            memory.register("r", made.name, offset, byte_size)
        assert not memory.named(Region, "")


def test_a_key_may_begin_with_a_slash(made):
    SharedMemory().register("r", f"/{made.name}", 0, SIZE)


def test_names_and_their_number_have_a_limit(made):
    memory = SharedMemory(most=2)
    memory.register("r", made.name, 0, 1)
    with pytest.raises(RegionExists, match="unregister it first"):
        memory.register("r", made.name, 0, 1)
    for name in ("", "x" * 256):
        with pytest.raises(InvalidInput, match="1 to 255 characters"):
            memory.register(name, made.name, 0, 1)
    memory.register("second", made.name, 0, 1)
    with pytest.raises(TooManyRegions, match="2 shared memory regions"):
        memory.register("third", made.name, 0, 1)
    memory.unregister(Region, "r")
    memory.register("third", made.name, 0, 1)


def test_files_are_closed_with_their_last_user(memory, made):
    (region,) = memory.named(Region, "r")
    file = region._file
    place = memory.place(parameters(byte_size=4), "x")
    memory.unregister(Region, "")
    with pytest.raises(RegionNotFound):
        memory.named(Region, "r")
    del region
    assert place.read() == bytes(range(4))
    del place
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(file)


def test_files_of_refused_regions_are_closed(made):
    before = len(os.listdir("/proc/self/fd"))
    memory = SharedMemory()
    for _ in range(50):
        with pytest.raises(InvalidInput):
            memory.register("r", made.name, 0, SIZE + 1)
    assert len(os.listdir("/proc/self/fd")) <= before


# --- tensors in a region ---------------------------------------------------------------


@given(start=st.integers(0, SIZE - 1), offset=NUMBERS, byte_size=NUMBERS, data=st.data())
def test_a_tensor_lies_inside_its_region(made, start, offset, byte_size, data):
    size = data.draw(st.integers(1, SIZE - start))
    memory = SharedMemory()
    memory.register("r", made.name, start, size)
    asked = parameters(byte_size=byte_size, offset=offset)
    if offset >= 0 and byte_size >= 0 and offset + byte_size <= size:
        expected = bytes(range(SIZE))[start + offset :][:byte_size]
        assert memory.place(asked, "x").read() == expected
    else:
        with pytest.raises(InvalidInput, match="^x: "):
            memory.place(asked, "x")


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (parameters(region=None, byte_size=4), "byte_size without shared_memory_region"),
        (parameters(region=None, offset=4), "offset without shared_memory_region"),
        (parameters(), "region without shared_memory_byte_size"),
        (parameters(byte_size=-1), "byte_size is -1"),
        (parameters(byte_size=1, offset=-1), "offset is -1"),
        (parameters(byte_size=1, offset=SIZE), r"1 bytes from offset 100 on, but .* has 100"),
    ],
)
def test_what_is_wrong_with_a_place_is_said(memory, asked, text):
    with pytest.raises(InvalidInput, match=text):
        memory.place(asked, "input 'a'")


@pytest.mark.parametrize(
    "name", ["shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"]
)
@pytest.mark.parametrize("value", [True, 4.0, "4", None])
def test_parameters_of_a_wrong_type_are_refused(memory, name, value):
    asked = parameters(byte_size=1, offset=0)
    if name == "shared_memory_region" and value == "4":
        value = None
    asked[name].Clear()
    field = {bool: "bool_param", float: "double_param", str: "string_param"}.get(type(value))
    if field:
        setattr(asked[name], field, value)
    with pytest.raises(InvalidInput, match=name):
        memory.place(asked, "x")


def test_unsigned_numbers_are_numbers(memory):
    asked = parameters()
    asked["shared_memory_byte_size"].uint64_param = 2
    asked["shared_memory_offset"].uint64_param = 3
    assert memory.place(asked, "x").read() == b"\3\4"
    asked["shared_memory_offset"].uint64_param = 2**64 - 1
    with pytest.raises(InvalidInput, match="18446744073709551615"):
        memory.place(asked, "x")


def test_an_unknown_region_is_not_found(memory):
    with pytest.raises(RegionNotFound, match="input 'a': no shared memory region 'nope'"):
        memory.place(parameters("nope", 4), "input 'a'")


def test_an_input_has_a_limit(memory, monkeypatch):
    monkeypatch.setattr(shared_memory, "LARGEST_INPUT", 10)
    assert len(memory.place(parameters(byte_size=10), "x").read()) == 10
    with pytest.raises(InvalidInput, match="at most 10"):
        memory.place(parameters(byte_size=11), "x").read()


def test_an_object_that_became_shorter_ends_a_request_not_the_server():
    made = Object(f"gearshift-{uuid4().hex}", create=True, size=8192)
    try:
        memory = SharedMemory()
        memory.register("r", made.name, 4096, 4096)
        place = memory.place(parameters(byte_size=4096), "x")
        for left in (4097, 4096, 10, 0):
            os.truncate(f"{shared_memory.FOLDER}/{made.name}", left)
            for use in (place.read, lambda: place.write(bytes(4096))):
                with pytest.raises(InvalidInput, match=f"object has {left} bytes now"):
                    use()
            assert os.path.getsize(f"{shared_memory.FOLDER}/{made.name}") == left
    finally:
        made.close()
        made.unlink()


def test_a_full_file_system_ends_a_request_not_the_server(memory, monkeypatch):
    place = memory.place(parameters(byte_size=10), "x")

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Region, "write", full)
    with pytest.raises(InvalidInput, match="cannot be written \\(No space left"):
        place.write(bytes(10))
    monkeypatch.setattr(Region, "write", lambda *arguments: 3)
    with pytest.raises(InvalidInput, match="3 of 10 bytes fitted"):
        place.write(bytes(10))


# --- requests and answers --------------------------------------------------------------


def test_inputs_in_memory_and_in_the_message_keep_their_order(made):
    """Raw contents are those of the inputs that are not in shared memory."""
    memory = SharedMemory()
    memory.register("r", made.name, 0, SIZE)
    request = pb.ModelInferRequest(model_name="m")
    request.inputs.add(name="a", datatype="FP32", shape=[2, 2])
    request.inputs.add(name="t", datatype="BYTES", shape=[2])
    for name, value in parameters(byte_size=16, offset=8).items():
        request.inputs[0].parameters[name].CopyFrom(value)
    texts = struct.pack("<I", 1) + b"u" + struct.pack("<I", 2) + b"vw"
    request.raw_input_contents.append(texts)
    _, inputs, _ = codec.decode(request, MIXED, math.inf, memory)
    assert inputs["a"].tobytes() == bytes(range(8, 24))
    assert inputs["t"].tolist() == [b"u", b"vw"]

    request.raw_input_contents.append(b"")
    with pytest.raises(InvalidInput, match="2 raw_input_contents for 1 inputs"):
        codec.decode(request, MIXED, math.inf, memory)
    del request.raw_input_contents[:]
    request.inputs[1].contents.bytes_contents.extend([b"u", b"vw"])
    assert codec.decode(request, MIXED, math.inf, memory)[1]["t"].tolist() == [b"u", b"vw"]

    request.inputs[0].contents.fp32_contents.append(1.0)
    with pytest.raises(InvalidInput, match="contents beside shared memory"):
        codec.decode(request, MIXED, math.inf, memory)


@pytest.mark.parametrize("byte_size", [0, 15, 17])
def test_an_inputs_size_is_that_of_its_shape(memory, byte_size):
    request = pb.ModelInferRequest(model_name="m")
    request.inputs.add(name="a", datatype="FP32", shape=[2, 2])
    for name, value in parameters(byte_size=byte_size).items():
        request.inputs[0].parameters[name].CopyFrom(value)
    with pytest.raises(InvalidInput, match=rf"is {byte_size}, but shape \[2, 2\] of FP32 takes 16"):
        codec.decode(request, MIXED, math.inf, memory)


def test_outputs_in_memory_keep_their_entry_and_bytes_theirs(made):
    memory = SharedMemory()
    memory.register("r", made.name, 0, SIZE)
    places = {"s": memory.place(parameters(byte_size=20), "output 's'")}
    outputs = {
        "y": np.arange(4, dtype=np.float32).reshape(2, 2),
        "s": np.array([b"one", b""], dtype=object),
    }
    run = Run(MIXED.variants[0], outputs, rows=2, begun=1.0, finished=1.0)
    ticket = Ticket(
        id=1,
        model="m",
        service_class="default",
        arrival=1.0,
        deadline=math.inf,
        floor=0.0,
        rows=2,
    )
    answer = Answer(run, ticket, Reason.MOST_ACCURATE, 0)
    wanted = ("s", "y")
    writer = AnswerWriter(MIXED)
    response = pb.ModelInferResponse.FromString(writer.write(b"7", wanted, answer, places))
    assert [output.name for output in response.outputs] == ["s", "y"]
    assert list(response.outputs[0].shape) == [2]
    assert response.raw_output_contents[0] == b""
    assert response.raw_output_contents[1] == outputs["y"].tobytes()
    assert bytes(made.buf[:11]) == struct.pack("<I", 3) + b"one" + struct.pack("<I", 0)

    short = {"s": memory.place(parameters(byte_size=10), "output 's'")}
    with pytest.raises(InvalidInput, match="output 's' takes 11 bytes, but its .* is 10"):
        writer.write(b"7", wanted, answer, short)
    made.buf[:] = bytes(range(SIZE))
