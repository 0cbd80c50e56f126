"""Inference over gRPC, right and wrong, as data.

The models: `sum` adds the three FP32 of each row up, versions 1 and 2, batches to 8; `slow` does
the same in half a second, `levels` with two levels of priority; `NAME` of each datatype gives back
what it gets.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from conformance.case import Case, inference, named, streamed

SERVICE = "inference.GRPCInferenceService"
INFER, STREAM = f"{SERVICE}/ModelInfer", f"{SERVICE}/ModelStreamInfer"
LARGE = 8
ROW = struct.pack("<3f", 1.0, 2.0, 3.0)

CONTENTS = {
    "BOOL": ("bool_contents", [True, False, True], np.bool_),
    "UINT8": ("uint_contents", [0, 7, 255], np.uint8),
    "UINT16": ("uint_contents", [0, 7, 65_535], np.uint16),
    "UINT32": ("uint_contents", [0, 7, 2**32 - 1], np.uint32),
    "UINT64": ("uint64_contents", [0, 7, 2**64 - 1], np.uint64),
    "INT8": ("int_contents", [-128, 7, 127], np.int8),
    "INT16": ("int_contents", [-32_768, 7, 32_767], np.int16),
    "INT32": ("int_contents", [-(2**31), 7, 2**31 - 1], np.int32),
    "INT64": ("int64_contents", [-(2**63), 7, 2**63 - 1], np.int64),
    "FP32": ("fp32_contents", [-1.5, 0.0, 2.5], np.float32),
    "FP64": ("fp64_contents", [-1.5, 0.0, 2.5], np.float64),
    "BYTES": ("bytes_contents", [b"", b"a", b"\xff\x00"], np.object_),
}
DATATYPES = (*CONTENTS, "FP16", "BF16")


def infer(model: str = "sum", rows: int = 1, **about: Any) -> pb.ModelInferRequest:
    """A right request for `sum`, but for what is said about it."""
    request = pb.ModelInferRequest(
        model_name=model,
        model_version=about.get("version", ""),
        id=about.get("id", ""),
    )
    if about.get("inputs", True):
        datatype = about.get("datatype", "FP32")
        shape = about.get("shape", [rows, 3])
        request.inputs.add(name=about.get("name", "x"), datatype=datatype, shape=shape)
    for name in about.get("outputs", ()):
        request.outputs.add(name=name)
    for name, (kind, value) in about.get("parameters", {}).items():
        setattr(request.parameters[name], kind, value)
    raw = about.get("raw", ROW * rows)
    if raw is not None:
        request.raw_input_contents.append(raw)
    return request


def typed(datatype: str, *, raw: bool) -> pb.ModelInferRequest:
    """One row of three values for the model of that datatype."""
    field, values, kind = CONTENTS.get(datatype, ("fp32_contents", [-1.5, 0.0, 2.5], np.float16))
    request = pb.ModelInferRequest(model_name=datatype)
    tensor = request.inputs.add(name="x", datatype=datatype, shape=[1, 3])
    if not raw:
        getattr(tensor.contents, field).extend(values)
    elif datatype == "BYTES":
        parts = [struct.pack("<I", len(value)) + value for value in values]
        request.raw_input_contents.append(b"".join(parts))
    elif datatype == "BF16":
        # The upper halves of float32.
        halves = [struct.pack("<f", value)[2:] for value in values]
        request.raw_input_contents.append(b"".join(halves))
    else:
        request.raw_input_contents.append(np.array(values, kind).tobytes())
    return request


def asked(name: str, request: pb.ModelInferRequest, **more: Any) -> Case:
    look = more.pop("look", named if request.id else inference)
    return Case(f"infer: {name}", INFER, [request], pb.ModelInferResponse, look, **more)


def _stream(name: str, *requests: pb.ModelInferRequest, **more: Any) -> Case:
    return Case(
        f"stream: {name}",
        STREAM,
        requests,
        pb.ModelStreamInferResponse,
        streamed,
        stream=True,
        **more,
    )


def inference_cases() -> Iterator[Case]:
    yield from _right()
    yield from _datatypes()
    yield from _wrong()
    yield from _parameters()
    yield from _streams()


def _right() -> Iterator[Case]:
    yield asked("one row", infer())
    yield asked("a batch", infer(rows=8))
    yield asked("an id", infer(id="mine"))
    yield asked("no id, but is there one?", infer(), look=lambda answer: bool(answer.id))
    yield asked("a long id", infer(id="i" * 5_000))
    yield asked("version 1", infer(version="1"))
    yield asked("version 2", infer(version="2"))
    yield asked("the output named", infer(outputs=["y"]))
    yield asked("one of two outputs", infer("two", outputs=["z"]))
    yield asked("two outputs, other order", infer("two", outputs=["z", "y"]))
    yield asked("the same output twice", infer("two", outputs=["y", "y"]))
    yield asked("both outputs", infer("two"))
    yield asked("gzip", infer(rows=8), compression="gzip")
    yield asked("deflate", infer(rows=8), compression="deflate")
    yield asked("a deadline far away", infer(), timeout=5.0)
    yield asked(
        "a large message", infer("wide", shape=[LARGE, 524_288], raw=bytes(4 * 524_288 * LARGE))
    )
    yield asked("a deadline shorter than the run", infer("slow"), timeout=0.1)
    yield asked("the caller leaves", infer("slow"), leaves=0.1)
    yield asked("NaN and infinity", infer(raw=struct.pack("<3f", math.nan, math.inf, 1.0)))


def _datatypes() -> Iterator[Case]:
    for datatype in DATATYPES:
        yield asked(f"{datatype} raw", typed(datatype, raw=True))
        yield asked(f"{datatype} typed", typed(datatype, raw=False))
    wrong = typed("INT32", raw=False)
    wrong.inputs[0].contents.fp32_contents.append(1.0)
    yield asked("contents of two types", wrong)
    wrong = typed("INT8", raw=False)
    wrong.inputs[0].contents.int_contents[0] = 1_000
    yield asked("INT8 out of range", wrong)


def _wrong() -> Iterator[Case]:
    yield asked("unknown model", infer("nobody"))
    yield asked("no model name", infer(""))
    yield asked("unknown version", infer(version="9"))
    yield asked("version abc", infer(version="abc"))
    yield asked("version -1", infer(version="-1"))
    yield asked("version 01", infer(version="01"))
    yield asked("wrong input name", infer(name="z"))
    yield asked("wrong datatype", infer(datatype="FP64", raw=ROW * 2))
    yield asked("no such datatype", infer(datatype="FP8"))
    yield asked("wrong shape", infer(shape=[1, 4]))
    yield asked("too few dimensions", infer(shape=[3]))
    yield asked("too many dimensions", infer(shape=[1, 3, 1]))
    yield asked("a dimension below 0", infer(shape=[-1, 3]))
    yield asked("more rows than allowed", infer(rows=9))
    yield asked("no rows", infer(rows=0, raw=b""))
    yield asked("too few bytes", infer(raw=ROW[:-1]))
    yield asked("too many bytes", infer(raw=ROW + b"\0"))
    yield asked("no data", infer(raw=None))
    yield asked("no inputs", infer(inputs=False, raw=None))
    yield asked("raw contents of no input", infer(inputs=False))
    both = infer()
    both.inputs[0].contents.fp32_contents.extend([1.0, 2.0, 3.0])
    yield asked("raw and typed contents", both)
    few = infer(raw=None)
    few.inputs[0].contents.fp32_contents.extend([1.0, 2.0])
    yield asked("too few typed values", few)
    twice = infer()
    twice.inputs.add().CopyFrom(twice.inputs[0])
    twice.raw_input_contents.append(ROW)
    yield asked("an input twice", twice)
    more = infer()
    more.raw_input_contents.append(ROW)
    yield asked("one raw contents too many", more)
    yield asked("unknown output", infer(outputs=["z"]))
    cut = typed("BYTES", raw=True)
    cut.raw_input_contents[0] = struct.pack("<I", 99) + b"a"
    yield asked("BYTES cut short", cut)
    cut = typed("BYTES", raw=True)
    cut.raw_input_contents[0] = struct.pack("<I", 1) + b"a"
    yield asked("BYTES with elements missing", cut)


def _parameters() -> Iterator[Case]:
    for name, kind, value in (
        ("priority", "int64_param", 1),
        ("priority", "uint64_param", 1),
        ("priority", "uint64_param", 9),
        ("priority", "string_param", "high"),
        ("timeout", "int64_param", 5_000_000),
        ("timeout", "string_param", "soon"),
        ("timeout", "int64_param", -1),
        ("sequence_id", "int64_param", 3),
        ("sequence_id", "string_param", "three"),
        ("sequence_start", "bool_param", True),
        ("binary_data_output", "bool_param", True),
        ("triton_enable_empty_final_response", "bool_param", True),
        ("triton_unknown", "bool_param", True),
        ("latency_budget_ms", "int64_param", 2_000),
        ("min_accuracy", "double_param", 0.5),
        ("nobody_knows", "int64_param", 1),
    ):
        text = value if isinstance(value, str) else f"{value}"
        request = infer(parameters={name: (kind, value)})
        yield asked(f"parameter {name} = {text} ({kind.removesuffix('_param')})", request)
    # Two levels, the second is the default.
    for level in (0, 1, 2, 3):
        request = infer("levels", parameters={"priority": ("uint64_param", level)})
        yield asked(f"priority {level} of 2", request)
    tensor = infer()
    tensor.inputs[0].parameters["nobody_knows"].int64_param = 1
    yield asked("an unknown parameter of an input", tensor)
    tensor = infer(outputs=["y"])
    tensor.outputs[0].parameters["classification"].int64_param = 1
    yield asked("classification of an output", tensor)


def _streams() -> Iterator[Case]:
    yield _stream("one request", infer(id="1"))
    yield _stream("three requests", *(infer(id=str(number)) for number in range(3)))
    yield _stream("no request")
    yield _stream(
        "an error between two answers", infer(id="1"), infer("nobody", id="2"), infer(id="3")
    )
    yield _stream("an error of a shape", infer(shape=[1, 4], id="1"))
    strict = (("triton_grpc_error", "true"),)
    yield _stream("an error, strictly", infer("nobody", id="1"), metadata=strict)
    wanted = {"triton_enable_empty_final_response": ("bool_param", True)}
    yield _stream("an empty final response wanted", infer(id="1", parameters=wanted))
    yield _stream("gzip", infer(id="1", rows=8), compression="gzip")
