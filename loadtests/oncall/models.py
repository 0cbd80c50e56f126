"""A repository for the faults: `kinds`, whose variants can break, fall and drift, and `slow`, which
takes as long as its input says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FEATURES = 8
CLASSES = 3
SAMPLES = 2_000

ROUNDS = 8_000.0
"""Rounds of `slow` in its samples: tens of milliseconds."""
FOR_EVER = 4e9
"""As many take hours."""

Constants = dict[str, np.ndarray[Any, Any]]

KINDS = """\
metric = "top1"
max_batch_size = 16
default_class = "realtime"

[classes.realtime]
budget_ms = 2000
weight = 1.0

[classes.strict]
budget_ms = 2000
min_accuracy = 0.9

[[variants]]
name = "large"
version = 1
executor = "onnx"
accuracy = 0.97

[[variants]]
name = "small"
version = 2
executor = "onnx"
accuracy = 0.8
"""

SLOW = """\
metric = "top1"
max_batch_size = 1
default_class = "tight"

[classes.tight]
budget_ms = 1000

[classes.patient]
late = "serve"

[[variants]]
name = "loop"
version = 1
executor = "onnx"
accuracy = 0.9
"""


def rows(count: int, seed: int) -> np.ndarray[Any, Any]:
    """Inputs of `kinds`: float32 (count, FEATURES)."""
    return np.random.default_rng(seed).normal(size=(count, FEATURES)).astype(np.float32)


def make(repository: Path) -> None:
    """Both models."""
    kinds, slow = repository / "kinds", repository / "slow"
    kinds.mkdir(parents=True)
    slow.mkdir()
    (kinds / "model.toml").write_text(KINDS)
    (slow / "model.toml").write_text(SLOW)
    _classifier(kinds / "large" / "model.onnx", hidden=256)
    _classifier(kinds / "small" / "model.onnx", hidden=4)
    _loop(slow / "loop" / "model.onnx")
    labels = np.zeros(SAMPLES, np.int64)
    np.savez(kinds / "samples.npz", inputs=rows(SAMPLES, seed=1), labels=labels)
    np.savez(
        slow / "samples.npz",
        inputs=np.full((SAMPLES, 1), ROUNDS, np.float32),
        labels=labels,
    )


def make_broken(path: Path) -> Path:
    """An artifact with the inputs and outputs of `kinds` that loads and raises at every run: it
    looks up a row that is not there."""
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["greatest"], axes=[1], keepdims=0),
        helper.make_node("Cast", ["greatest"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Abs", ["whole"], ["positive"]),
        helper.make_node("Add", ["positive", "far"], ["index"]),
        helper.make_node("Gather", ["table", "index"], ["y"], axis=0),
    ]
    table = np.full((4, CLASSES), 1 / CLASSES, np.float32)
    constants: Constants = {"table": table, "far": np.array(1_000, np.int64)}
    return _save(path, nodes, FEATURES, CLASSES, constants)


def _classifier(path: Path, hidden: int) -> None:
    random = np.random.default_rng(5)
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"]),
        helper.make_node("Relu", ["h"], ["a"]),
        helper.make_node("MatMul", ["a", "w2"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["y"], axis=1),
    ]
    constants = {
        "w1": random.normal(size=(FEATURES, hidden)).astype(np.float32),
        "w2": random.normal(size=(hidden, CLASSES)).astype(np.float32),
    }
    _save(path, nodes, FEATURES, CLASSES, constants)


def _loop(path: Path) -> None:
    """As many rounds as x says, one after another."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["on"], ["on_out"]),
            helper.make_node("MatMul", ["state", "turn"], ["state_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [1, 16]),
        ],
        [
            helper.make_tensor_value_info("on_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state_out", TensorProto.FLOAT, [1, 16]),
        ],
        [numpy_helper.from_array(np.eye(16, dtype=np.float32)[::-1].copy(), "turn")],
    )
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["rounds"], to=TensorProto.INT64),
        helper.make_node("Loop", ["rounds", "", "start"], ["end"], body=body),
        helper.make_node("ReduceMean", ["end"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["x", "nothing"], ["zero"]),
        helper.make_node("Add", ["zero", "mean"], ["one"]),
        helper.make_node("Concat", ["one", "zero"], ["y"], axis=1),
    ]
    constants = {
        "start": np.ones((1, 16), np.float32),
        "nothing": np.zeros((1, 1), np.float32),
    }
    _save(path, nodes, 1, 2, constants)


def _save(
    path: Path,
    nodes: Sequence[Any],
    features: int,
    classes: int,
    constants: Constants,
) -> Path:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", features])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", classes])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path
