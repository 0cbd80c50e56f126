"""Tensors as the Open Inference Protocol carries them, from a client's point of view."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import (
    deserialize_bytes_tensor,
    np_to_triton_dtype,
    serialize_byte_tensor,
    triton_to_np_dtype,
)

from gearshift.ports import narrowed, widened
from gearshift.ports.bfloat16 import BITS

Array = npt.NDArray[Any]
Tensors = Mapping[str, Array]
"""Arrays by tensor name, each (rows, ...); BYTES as object arrays of `bytes`, BF16 as float32."""

TYPED = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where values are that do not come raw: MLServer sends them so."""


def request(
    model: str, version: str, inputs: Tensors, halves: Collection[str] = ()
) -> pb.ModelInferRequest:
    """All inputs raw. `halves` are those that go as BF16 though they are float32 here; arrays of a
    bfloat16 of others (ml_dtypes, as JAX has it) do so by themselves."""
    made = pb.ModelInferRequest(model_name=model, model_version=version)
    for name, array in inputs.items():
        if name in halves:
            datatype, raw = "BF16", narrowed(array).tobytes()
        elif array.dtype.name == "bfloat16":
            datatype, raw = "BF16", array.tobytes()
        elif array.dtype == np.dtype(object):
            datatype = "BYTES"
            raw = serialize_byte_tensor(array).item() if array.size else b""
        else:
            datatype, raw = np_to_triton_dtype(array.dtype), array.tobytes()
        made.inputs.add(name=name, datatype=datatype, shape=array.shape)
        made.raw_input_contents.append(raw)
    return made


def outputs(response: pb.ModelInferResponse) -> dict[str, Array]:
    """By name. ValueError if they are not what they say."""
    raw = response.raw_output_contents
    if raw and len(raw) != len(response.outputs):
        raise ValueError(f"it sent {len(raw)} buffers for {len(response.outputs)} outputs")
    return {
        output.name: _array(output, raw[index] if raw else None)
        for index, output in enumerate(response.outputs)
    }


def _array(output: Any, raw: bytes | None) -> Array:
    shape = tuple(output.shape)
    dtype = triton_to_np_dtype(output.datatype)
    if dtype is None or min(shape, default=0) < 0:
        raise ValueError(f"output {output.name!r} has type {output.datatype!r} and shape {shape}")
    if raw is None:
        field = TYPED.get(output.datatype, "")
        found = np.array(getattr(output.contents, field, ()), dtype)
    elif output.datatype == "BYTES":
        found = deserialize_bytes_tensor(raw)
    else:
        half = output.datatype == "BF16"
        travelling = BITS if half else np.dtype(dtype)
        if len(raw) != math.prod(shape) * travelling.itemsize:
            raise ValueError(f"output {output.name!r} of shape {shape} came as {len(raw)} bytes")
        found = np.frombuffer(raw, travelling)
        if half:
            found = widened(found)
    if found.size != math.prod(shape):
        raise ValueError(f"output {output.name!r} of shape {shape} came as {found.size} values")
    return found.reshape(shape)
