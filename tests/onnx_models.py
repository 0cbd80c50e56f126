"""Tiny ONNX artifacts for tests, made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gearshift.core.artifact import Artifact

OPSET = [helper.make_opsetid("", 17)]

TWO_VARIANTS = """
metric = "top1"
max_batch_size = 4
default_class = "default"

[classes.default]
budget_ms = 1000

[[variants]]
name = "large"
version = 1
executor = "onnx"
accuracy = 0.9

[[variants]]
name = "small"
version = 2
executor = "onnx"
accuracy = 0.8
"""
"""A model.toml for two such artifacts."""


def artifact_at(path: Path) -> Artifact:
    """As it is read, without files beside it."""
    return Artifact(str(path), path.read_bytes())


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


def wide_inside(path: Path, width: int) -> Path:
    """x FP32 [n, 3] -> y FP32 [n, 1], by way of `width` numbers a row."""
    weights = np.ones((3, width), np.float32)
    return save(
        path,
        [
            helper.make_node("MatMul", ["x", "weights"], ["inside"]),
            helper.make_node("ReduceMax", ["inside"], ["y"], axes=[1], keepdims=1),
        ],
        [tensor("x", TensorProto.FLOAT, "n", 3)],
        [tensor("y", TensorProto.FLOAT, "n", 1)],
        [numpy_helper.from_array(weights, "weights")],
    )


def identity(path: Path, kind: int, *shape: int | str) -> Path:
    """x -> y of any type and shape."""
    return save(
        path,
        [helper.make_node("Identity", ["x"], ["y"])],
        [tensor("x", kind, *shape)],
        [tensor("y", kind, *shape)],
    )


def blobs(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of three classes around centres of their own: float32 [n, 8], int64 [n]."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, n)
    centres = np.random.default_rng(99).normal(size=(3, 8)) * 2.5
    rows = centres[labels] + generator.normal(size=(n, 8))
    return rows.astype(np.float32), labels.astype(np.int64)


def classifier(path: Path, hidden: int = 32, weight: float = 1.0) -> Path:
    """x FP32 [n, 8] -> probabilities [n, 3]: random features, a fitted head. For `blobs`.

    `weight` scales the random layer up and the head down: the same answers in other ranges.
    """
    generator = np.random.default_rng(5)
    first = generator.normal(size=(8, hidden)).astype(np.float32)
    rows, labels = blobs(400, seed=1)
    features = np.maximum(rows @ first, 0)
    head = np.linalg.lstsq(features, np.eye(3)[labels] * 4, rcond=None)[0].astype(np.float32)
    return save(
        path,
        [
            helper.make_node("MatMul", ["x", "w1"], ["h"], name="hidden"),
            helper.make_node("Relu", ["h"], ["a"], name="active"),
            helper.make_node("MatMul", ["a", "w2"], ["logits"], name="head"),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1, name="answer"),
        ],
        [tensor("x", TensorProto.FLOAT, "n", 8)],
        [tensor("probabilities", TensorProto.FLOAT, "n", 3)],
        [
            numpy_helper.from_array(first * weight, "w1"),
            numpy_helper.from_array(head / weight, "w2"),
        ],
    )


def weighty(path: Path, scale: float, mebibytes: int = 16) -> Path:
    """x FP32 [n, 3] -> y FP32 [n, 1]: each row's sum times `scale`, by way of weights of so many
    MiB."""
    wide = 256 * mebibytes
    first = np.zeros((3, 1024), np.float32)
    first[:, 0] = scale
    second = np.zeros((1024, wide), np.float32)
    second[0] = 1.0
    return save(
        path,
        [
            helper.make_node("MatMul", ["x", "first"], ["inside"]),
            helper.make_node("MatMul", ["inside", "second"], ["wide"]),
            helper.make_node("ReduceMean", ["wide"], ["y"], axes=[1], keepdims=1),
        ],
        [tensor("x", TensorProto.FLOAT, "n", 3)],
        [tensor("y", TensorProto.FLOAT, "n", 1)],
        [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")],
    )
