"""Floating point of 16 bits for devices that compute in it, and weights of 16 bits for any."""

from __future__ import annotations

import onnx
from onnx import helper, numpy_helper

from gearshift.compress.graph_file import IR_VERSION, ExportError
from gearshift.ports import narrowed

SMALLEST = 64
"""Tensors of fewer numbers stay as they are: casting them costs more than it saves."""


def to_fp16(content: bytes) -> bytes:
    """The whole graph in float16; inputs and outputs keep their types.

    On a GPU this is what runs; ONNX Runtime's CPU kernels cast back and forth, so there it
    measures the accuracy and not the speed.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    try:
        model = convert_float_to_float16(onnx.load_from_string(content), keep_io_types=True)
    except Exception as error:
        raise ExportError(f"the graph cannot be converted to float16: {error}") from error
    model.ir_version = IR_VERSION
    return bytes(model.SerializeToString())


def to_bf16_weights(content: bytes) -> bytes:
    """Weights stored in bfloat16 and cast to float32 as the graph is loaded.

    ONNX Runtime has no bfloat16 kernels for CPUs and few for GPUs, so the arithmetic stays in
    float32: the file is half as large, the speed the same, the accuracy that of the rounding.
    """
    model = onnx.load_from_string(content)
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        large = len(numpy_helper.to_array(tensor).reshape(-1)) >= SMALLEST
        if tensor.data_type != onnx.TensorProto.FLOAT or not large:
            continue
        name = tensor.name
        values = numpy_helper.to_array(tensor)
        stored = helper.make_tensor(
            f"{name}_bf16",
            onnx.TensorProto.BFLOAT16,
            values.shape,
            narrowed(values).tobytes(),
            raw=True,
        )
        tensor.CopyFrom(stored)
        casts.append(helper.make_node("Cast", [stored.name], [name], to=onnx.TensorProto.FLOAT))
    for index, cast in enumerate(casts):
        graph.node.insert(index, cast)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
