"""Requests for inference: what the parser reads, and what is remembered of a connection."""

from __future__ import annotations

import math

import numpy as np
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb

from builders import make_model
from fuzz.target import Feed, Target, require
from gearshift.core.catalog import Signature, TensorSpec
from gearshift.errors import RequestError, ending_of
from gearshift.rpc import codec
from gearshift.rpc.shapes import Shapes
from gearshift.rpc.shared_memory import SharedMemory

SIGNATURE = Signature(
    (TensorSpec("x", "FP32", (3,)), TensorSpec("t", "BYTES", (1,)), TensorSpec("n", "INT64", ())),
    (TensorSpec("y", "FP32", (1,)),),
)
PLAIN = Signature((TensorSpec("x", "FP32", (3,)),), (TensorSpec("y", "FP32", (1,)),))
EXPECTED = {"INVALID_ARGUMENT", "NOT_FOUND", "INTERNAL"}
"""INTERNAL is Triton's for a shared memory region that cannot be used."""


def _models() -> dict:
    return {
        "m": make_model("m", signature=PLAIN),
        "three": make_model("three", signature=SIGNATURE),
    }


def _infer() -> Feed:
    """Inputs are two messages, the second as on the same connection: what `Shapes` remembers of
    the first may only speed up what the parser says of the second."""
    models, memory = _models(), SharedMemory(allowed=True)

    def parsed(message: bytes):
        """What the parser and the codec say, or None with a status of the table."""
        try:
            told = pb.ModelInferRequest.FromString(message)
            model = models.get(told.model_name)
            if model is None:
                return None
            return (told, model, *codec.decode(told, model, math.inf, memory.of("")))
        except DecodeError:
            return None
        except RequestError as error:
            require(ending_of(error).status in EXPECTED, f"an unexpected status: {error!r}")
            return None

    def feed(data: bytes) -> None:
        size = int.from_bytes(data[:2], "big")
        shapes = Shapes()
        for message in (data[2 : 2 + size], data[2 + size :]):
            known = shapes.read(message, math.inf)
            read = parsed(message)
            if known is not None:
                require(read is not None, "remembered, but the parser refuses it")
                _same(known, read)
            if read is None:
                continue
            told, model, request, inputs, _ = read
            rows = {len(array) for array in inputs.values()}
            require(rows == {request.rows}, "rows of tensors differ from the request's")
            require(1 <= request.rows <= model.max_batch_size, "more rows than a batch takes")
            for spec in model.signature.inputs:
                require(inputs[spec.name].shape[1:] == spec.shape, "a shape that is not declared")
            if known is None:
                shapes.learn(message, told, model, request, inputs)

    return feed


def _same(known, read) -> None:
    model, request, wanted, request_id, inputs = known
    told, parsed_model, parsed_request, parsed_inputs, places = read
    require(model is parsed_model, "remembered as another model")
    require(request == parsed_request, f"remembered as {request}, read as {parsed_request}")
    require(wanted == tuple(output.name for output in told.outputs), "other outputs are wanted")
    require(request_id == told.id.encode(), "another id")
    require(not places, "places in shared memory are remembered")
    require(list(inputs) == list(parsed_inputs), "other tensors")
    for name, array in inputs.items():
        require(np.array_equal(array.view(np.uint8), parsed_inputs[name].view(np.uint8)), name)


def message(model: str = "m", raw: bool = True, **options) -> pb.ModelInferRequest:
    """A good request of two rows."""
    told = pb.ModelInferRequest(model_name=model, **options)
    values = np.arange(6, dtype=np.float32)
    x = told.inputs.add(name="x", datatype="FP32", shape=[2, 3])
    if raw:
        told.raw_input_contents.append(values.tobytes())
    else:
        x.contents.fp32_contents.extend(values.tolist())
    return told


def _three() -> pb.ModelInferRequest:
    told = message("three", id="é")
    told.inputs.add(name="t", datatype="BYTES", shape=[2, 1])
    told.raw_input_contents.append(b"\x01\x00\x00\x00a\x02\x00\x00\x00bc")
    told.inputs.add(name="n", datatype="INT64", shape=[2])
    told.raw_input_contents.append(bytes(16))
    return told


def _seeds() -> list[bytes]:
    budget = message(id="abc")
    budget.parameters["latency_budget_ms"].double_param = 5.0
    budget.outputs.add(name="y")
    shared = message()
    del shared.raw_input_contents[:]
    shared.inputs[0].parameters["shared_memory_region"].string_param = "r"
    shared.inputs[0].parameters["shared_memory_byte_size"].int64_param = 24
    told = [message(), budget, message(raw=False), _three(), shared, message(model_version="1")]
    again = message(id="defg")
    again.raw_input_contents[0] = bytes(24)
    pairs = [(each, each) for each in told] + [(message(id="q"), again)]
    return [
        len(first.SerializeToString()).to_bytes(2, "big")
        + first.SerializeToString()
        + second.SerializeToString()
        for first, second in pairs
    ]


TARGETS = (
    Target("infer-request", _infer, _seeds, words=(b"shared_memory_region", b"FP32", b"BYTES")),
)
