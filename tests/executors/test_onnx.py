from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from tritonclient.utils import triton_to_np_dtype

from builders import make_model
from gearshift.core.artifact import Artifact
from gearshift.core.catalog import TensorSpec
from gearshift.engine.outputs import NUMPY
from gearshift.executors.onnx import DATATYPES, OnnxExecutor
from gearshift.ports import Worker
from onnx_models import artifact_at, identity, row_sum, save, tensor, wide_inside

GARMENT = Path(__file__).parents[2] / "model_repo" / "garment"

KINDS = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
}


@pytest.fixture
def executor():
    made = OnnxExecutor(["CPUExecutionProvider"])
    yield made
    made.close()


def test_every_datatype_is_known():
    assert set(KINDS) == set(DATATYPES.values())


@pytest.mark.parametrize("datatype", KINDS)
def test_signatures_of_every_datatype(executor, tmp_path, datatype):
    path = identity(tmp_path / "model.onnx", KINDS[datatype], "n", 28, 28)
    assert executor.inspect(artifact_at(path)).inputs == (TensorSpec("x", datatype, (28, 28)),)


@pytest.mark.parametrize("datatype", KINDS)
async def test_runs_of_every_datatype(executor, tmp_path, datatype):
    """Also of several rows at a time, and where they do not lie one after the other."""
    path = identity(tmp_path / "model.onnx", KINDS[datatype], "n", 3)
    signature = executor.inspect(artifact_at(path))
    model = make_model(signature=signature)
    variant = replace(model.variants[0], artifact=str(path))
    executor.load(model, variant)
    rows = np.array([[0, 1, 1], [1, 0, 1]]).astype(triton_to_np_dtype(datatype))
    for inputs in (rows, rows[:, ::-1], rows[:1]):
        answer = await executor.run(Worker(0, "cpu"), model, variant, {"x": inputs})
        assert answer["y"].tolist() == inputs.tolist()
        assert answer["y"].dtype == NUMPY[datatype]
        assert executor.run_here(model, variant, {"x": inputs})["y"].tolist() == inputs.tolist()


async def test_bf16_beside_others(executor, tmp_path):
    """What is computed in between is float32; numbers in and out are the nearest BF16."""
    path = save(
        tmp_path / "model.onnx",
        [
            helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["wide", "bias"], ["sum"]),
            helper.make_node("Cast", ["sum"], ["y"], to=TensorProto.BFLOAT16),
        ],
        [tensor("x", TensorProto.BFLOAT16, "n", 2), tensor("bias", TensorProto.FLOAT, "n", 2)],
        [tensor("y", TensorProto.BFLOAT16, "n", 2), tensor("sum", TensorProto.FLOAT, "n", 2)],
    )
    model = make_model(signature=executor.inspect(artifact_at(path)))
    variant = replace(model.variants[0], artifact=str(path))
    executor.load(model, variant)
    inputs = {
        "x": np.array([[1.0, -2.5]], np.float32),
        "bias": np.array([[2**-10, 4.0]], np.float32),
    }
    answer = await executor.run(Worker(0, "cpu"), model, variant, inputs)
    assert answer["sum"].tolist() == [[1 + 2**-10, 1.5]]
    assert answer["y"].tolist() == [[1.0, 1.5]]


@pytest.mark.parametrize(
    ("kind", "shape", "text"),
    [
        (TensorProto.FLOAT, (1, 3), "dynamic axis 0"),
        (TensorProto.FLOAT, (), "first dimension"),
        (TensorProto.FLOAT, ("n", "length"), "dimension 1 must be a fixed number"),
        (TensorProto.STRING, ("n", 3), r"type tensor\(string\); served are BF16, BOOL, FP16"),
    ],
)
def test_what_cannot_be_served_is_said(executor, tmp_path, kind, shape, text):
    path = identity(tmp_path / "model.onnx", kind, *shape)
    with pytest.raises(ValueError, match=text):
        executor.inspect(artifact_at(path))


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x09" * 100])
def test_a_corrupt_artifact_is_a_clear_error(executor, content):
    with pytest.raises(ValueError, match=r"cannot load it|first dimension|has type|no output"):
        executor.inspect(Artifact("model.onnx", content))


def test_a_missing_artifact_is_a_clear_error(executor, tmp_path):
    model = make_model()
    with pytest.raises(ValueError, match=r"model.onnx: cannot be read: no such file"):
        executor.load(model, replace(model.best, artifact=str(tmp_path / "model.onnx")))


def test_a_provider_that_is_not_installed_is_left_out_with_one_line(capsys):
    executor = OnnxExecutor(["TensorrtExecutionProvider", "CUDAExecutionProvider"])
    assert executor.devices == ("cpu",)
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 1
    assert "'cuda on gpu'" in lines[0]
    assert "it has cpu" in lines[0]


async def test_a_failing_run_raises_its_cause(executor, tmp_path):
    model = make_model()
    variant = replace(model.variants[0], artifact=str(row_sum(tmp_path / "model.onnx")))
    executor.load(model, variant)
    with pytest.raises(Exception, match="Invalid rank|dimensions"):
        await executor.run(Worker(0, "cpu"), model, variant, {"x": np.zeros((2, 5), np.float32)})


async def test_int8_is_as_accurate_as_its_card_on_every_processor(executor):
    """Fails on processors without VNNI if their inexact int8 products are let through."""
    model = make_model("garment", {"teacher-int8": 0.9})
    artifact = str(GARMENT / "teacher-int8" / "model.onnx")
    variant = replace(model.variants[0], artifact=artifact)
    executor.load(model, variant)
    with np.load(GARMENT / "samples.npz") as samples:
        pixels, labels = samples["inputs"][:512], samples["labels"][:512]
    inputs = {"pixels": pixels}
    answer = await executor.run(Worker(0, "cpu"), model, variant, inputs)
    card = json.loads((GARMENT / "teacher-int8" / "card.json").read_text())
    right = (answer["probabilities"].argmax(axis=1) == labels).mean()
    assert right == pytest.approx(card["accuracy"]["value"], abs=0.03)


def resident() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux's /proc")
async def test_what_runs_need_does_not_grow_with_what_is_loaded(executor, tmp_path):
    """Each of ten variants needs 16 MB on its way; an arena of its own would keep them."""
    names = [f"v{number}" for number in range(10)]
    model = make_model(accuracies=dict.fromkeys(names, 0.5))
    path = str(wide_inside(tmp_path / "model.onnx", 256 * 1024))
    for variant in model.variants:
        executor.load(model, replace(variant, artifact=path))
    before = resident()
    for name in names:
        await executor.run(
            Worker(0, "cpu"), model, model.by_name(name), {"x": np.ones((16, 3), np.float32)}
        )
    assert resident() - before < 80e6


def test_runs_that_need_more_than_they_may_fail_and_others_go_on(tmp_path):
    """In a process of its own: the arena is one for all of a process."""
    path = wide_inside(tmp_path / "model.onnx", 2_000_000)
    program = f"""
import numpy as np
from dataclasses import replace
from builders import make_model
from gearshift.engine.outputs import NUMPY
from gearshift.executors.onnx import OnnxExecutor
executor, model = OnnxExecutor(["CPUExecutionProvider"], run_bytes=100_000_000), make_model()
variant = replace(model.best, artifact={str(path)!r})
executor.load(model, variant)
for rows in (1, 64, 1):
    try:
        print(len(executor.run_here(model, variant, {{"x": np.ones((rows, 3), np.float32)}})["y"]))
    except Exception as error:
        print("failed")
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert ended.stdout.split() == ["1", "failed", "1"], ended.stderr
