"""Tiny ONNX artifacts for tests, made on the spot."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

OPSET = [helper.make_opsetid("", 17)]


def save(path: Path, nodes, inputs, outputs, initializers=()) -> Path:
    graph = helper.make_graph(list(nodes), "test", list(inputs), list(outputs), list(initializers))
    model = helper.make_model(graph, opset_imports=OPSET, ir_version=9)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def tensor(name: str, kind: int, *shape: int | str):
    return helper.make_tensor_value_info(name, kind, list(shape))


def row_sum(path: Path, scale: float = 1.0, width: int = 3) -> Path:
    """x FP32 [n, width] -> y FP32 [n, 1]: each row's sum times `scale`."""
    return save(
        path,
        [
            helper.make_node("ReduceSum", ["x", "axes"], ["s"], keepdims=1),
            helper.make_node("Mul", ["s", "scale"], ["y"]),
        ],
        [tensor("x", TensorProto.FLOAT, "n", width)],
        [tensor("y", TensorProto.FLOAT, "n", 1)],
        [
            helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
            helper.make_tensor("scale", TensorProto.FLOAT, [1], [scale]),
        ],
    )


def identity(path: Path, kind: int, *shape: int | str) -> Path:
    """x -> y of any type and shape."""
    return save(
        path,
        [helper.make_node("Identity", ["x"], ["y"])],
        [tensor("x", kind, *shape)],
        [tensor("y", kind, *shape)],
    )
