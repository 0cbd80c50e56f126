"""A repository of one model whose answers tell whether they are right, and that takes a while."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 1024
ROUNDS = 12
"""Products with a matrix of WIDTH x WIDTH, all the same: some milliseconds on one core."""

MODEL = """\
metric = "average_precision"
max_batch_size = 8
default_class = "patient"

[classes.patient]

[classes.hurried]
budget_ms = 60

[[variants]]
name = "slow"
version = 1
executor = "onnx"
accuracy = 0.9

[[variants]]
name = "quick"
version = 2
executor = "onnx"
accuracy = 0.8
"""


def write(root: Path, model: str = "sums", slow: int = ROUNDS, quick: int = 1) -> None:
    """A model with x FP32 [n, 3] -> y FP32 [n, 1], each row's sum, by a way of `slow` products
    and by one of `quick`."""
    folder = root / model
    for name, rounds in (("slow", slow), ("quick", quick)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        onnx.save(_sums(rounds), folder / name / "model.onnx")
    (folder / "model.toml").write_text(MODEL)


def _sums(rounds: int) -> onnx.ModelProto:
    wide = np.ones((3, WIDTH), np.float32)
    same = np.eye(WIDTH, dtype=np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "wide"], ["h0"]),
        *(
            helper.make_node("MatMul", [f"h{turn}", "same"], [f"h{turn + 1}"])
            for turn in range(rounds)
        ),
        helper.make_node("ReduceMean", [f"h{rounds}"], ["y"], axes=[1], keepdims=1),
    ]
    graph = helper.make_graph(
        nodes,
        "sums",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(wide, "wide"), numpy_helper.from_array(same, "same")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
