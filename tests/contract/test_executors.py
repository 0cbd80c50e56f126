"""What every executor must do, the fake one included."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import onnx_models
import real_triton
import torch_models
from builders import ONE_VECTOR, make_model
from gearshift.artifacts import read_again
from gearshift.errors import ExecutorUnavailable
from gearshift.executors.fake import FakeExecutor
from gearshift.executors.isolated import IsolatedExecutor
from gearshift.executors.onnx import OnnxExecutor
from gearshift.executors.pytorch import TorchExecutor, installed
from gearshift.executors.remote import RemoteExecutor
from gearshift.ports import ByDevice, Worker
from grpc_bench import GrpcBench

WORKERS = [Worker(0, "cpu"), Worker(1, "cpu")]


MADE = {
    "fake": lambda: FakeExecutor(ONE_VECTOR, lambda variant, rows: 0.0),
    "onnx": lambda: OnnxExecutor(["CPUExecutionProvider"]),
    # As on a GPU, but for whose memory it is.
    "onnx bound": lambda: OnnxExecutor(["cpu"], memory={"CPUExecutionProvider": "cpu"}),
    "onnx openvino": lambda: OnnxExecutor(["openvino"]),
    "isolated": lambda: IsolatedExecutor(len(WORKERS), ["CPUExecutionProvider"]),
    "torch": lambda: TorchExecutor("cpu"),
    "torch isolated": lambda: IsolatedExecutor(len(WORKERS), ["CPUExecutionProvider"]),
    "gearshift remote": lambda: RemoteExecutor(Path(tempfile.mkdtemp())),
    "triton remote": lambda: RemoteExecutor(Path(tempfile.mkdtemp())),
}

OPENVINO = "OpenVINOExecutionProvider" in onnxruntime.get_available_providers()


def marks(kind: str):
    """Where what it needs is not installed here."""
    if "torch" in kind:
        return pytest.mark.skipif(not installed(), reason="PyTorch is not installed")
    if "openvino" in kind:
        return pytest.mark.skipif(not OPENVINO, reason="ONNX Runtime has no OpenVINO here")
    return real_triton.marked if "triton" in kind else ()


KINDS = [pytest.param(kind, marks=marks(kind)) for kind in MADE]


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def made(kind):
    """One for all tests: processes take a while to start."""
    executor = MADE[kind]()
    yield executor
    executor.close()


@pytest.fixture
def executor(made, model):
    """With nothing loaded."""
    yield made
    for generation in (1, 2):
        for variant in model.variants:
            made.unload(replace(model, generation=generation), variant)


@pytest.fixture(scope="module")
def artifact(kind, tmp_path_factory):
    """That of both variants, which sum each row; and its executor."""
    folder = tmp_path_factory.mktemp("artifact") / "m" / "large"
    if "triton" in kind:
        folder.mkdir(parents=True)
        with real_triton.served() as address:
            (folder / "remote.toml").write_text(f'servers = ["{address}"]\nmodel = "sum"\n')
            yield "triton", folder / "remote.toml"
    elif "remote" in kind:
        bench = GrpcBench()
        folder.mkdir(parents=True)
        (folder / "remote.toml").write_text(f'servers = ["{bench.address}"]\n')
        yield "triton", folder / "remote.toml"
        bench.stop()
    elif "torch" in kind:
        yield "torch", torch_models.row_sum(folder / "model.pt2")
    else:
        yield "onnx", onnx_models.row_sum(folder / "model.onnx")


@pytest.fixture
def model(artifact):
    executor, path = artifact
    model = make_model()
    variants = (replace(v, executor=executor, artifact=str(path)) for v in model.variants)
    return replace(model, variants=tuple(variants))


def rows(*values: float):
    return {"x": np.array([[value] * 3 for value in values], np.float32)}


async def test_it_names_its_device_and_itself(kind, executor):
    assert executor.devices == ("remote" if "remote" in kind else "cpu",)
    assert executor.identity


async def test_inspect_tells_the_signature(executor, model):
    assert executor.inspect(read_again(model.variants[0])) == ONE_VECTOR


RUNS = {
    "fake": "fake",
    "gearshift remote": "remote",
    "triton remote": "remote",
    "onnx openvino": "openvino",
}


async def test_it_tells_where_a_variant_lies(kind, executor, model):
    variant = model.variants[0]
    assert not executor.placed(model, variant)
    executor.load(model, variant)
    (placed,) = executor.placed(model, variant)
    assert placed.device in executor.devices
    assert placed.runs == RUNS.get(kind, "torch" if "torch" in kind else "cpu")
    assert not placed.lacking
    # Others know of no bytes; the program sums, and has no parameters.
    assert (placed.size > 0) == (kind.startswith("onnx") or kind == "isolated")
    executor.unload(model, variant)
    assert not executor.placed(model, variant)


async def test_it_can_be_had_on_one_device_and_be_gone_from_there(executor, model):
    if not isinstance(executor, ByDevice):
        pytest.skip("it has variants on all of its devices, or on none")
    variant, (device,) = model.variants[0], executor.all_devices()
    executor.load_on(model, variant, device)
    (placed,) = executor.placed(model, variant)
    assert placed.device == device
    outputs = await executor.run(WORKERS[0], model, variant, rows(2))
    assert outputs["y"].tolist() == [[6.0]]
    executor.unload_from(model, variant, device)
    assert not executor.placed(model, variant)
    with pytest.raises(Exception, match="not loaded"):
        await executor.run(WORKERS[0], model, variant, rows(2))
    executor.unload_from(model, variant, device)


async def test_each_row_gets_its_own_answer_at_any_batch_size(executor, model):
    for variant in model.variants:
        executor.load(model, variant)
    for size in (1, 3, 8):
        values = np.arange(size, dtype=float)
        outputs = await executor.run(WORKERS[0], model, model.variants[0], rows(*values))
        assert set(outputs) == {"y"}
        assert outputs["y"].dtype == np.float32
        assert outputs["y"].tolist() == [[3 * v] for v in values]


async def test_workers_run_side_by_side_without_mixing(executor, model):
    executor.load(model, model.variants[0])

    async def many(worker: Worker):
        for value in range(50):
            outputs = await executor.run(
                worker, model, model.variants[0], rows(value + 100 * worker.id)
            )
            assert outputs["y"].tolist() == [[3.0 * (value + 100 * worker.id)]]

    await asyncio.gather(*(many(worker) for worker in WORKERS))


async def test_what_is_not_loaded_does_not_run(executor, model):
    with pytest.raises(Exception, match="not loaded"):
        await executor.run(WORKERS[0], model, model.variants[0], rows(1))


async def test_after_close_nothing_is_loaded(kind, model):
    executor = MADE[kind]()
    executor.load(model, model.variants[0])
    await executor.run(WORKERS[0], model, model.variants[0], rows(1))
    executor.close()
    executor.close()
    with pytest.raises(Exception, match="not loaded"):
        await executor.run(WORKERS[0], model, model.variants[0], rows(1))


async def test_a_run_on_the_callers_thread(executor, model):
    executor.load(model, model.variants[0])
    if not executor.runs_here:
        with pytest.raises(ExecutorUnavailable, match="the caller's"):
            executor.run_here(model, model.variants[0], rows(1.0))
        return
    outputs = executor.run_here(model, model.variants[0], rows(1.0, 2.0))
    assert outputs["y"].tolist() == [[3.0], [6.0]]
    with pytest.raises(Exception, match="not loaded"):
        executor.run_here(model, model.variants[1], rows(1.0))


async def test_two_generations_of_a_model_are_loaded_side_by_side(executor, model):
    newer = replace(model, generation=2)
    for each in (model, newer):
        executor.load(each, each.variants[0])
    executor.unload(model, model.variants[0])
    outputs = await executor.run(WORKERS[0], newer, newer.variants[0], rows(2.0))
    assert outputs["y"].tolist() == [[6.0]]
    with pytest.raises(Exception, match="not loaded"):
        await executor.run(WORKERS[0], model, model.variants[0], rows(1.0))
    executor.unload(model, model.variants[0])


async def test_a_worker_that_was_replaced_runs_again(executor, model):
    executor.load(model, model.variants[0])
    for value in (1.0, 2.0):
        outputs = await executor.run(WORKERS[0], model, model.variants[0], rows(value))
        assert outputs["y"].tolist() == [[3 * value]]
        await executor.replace(WORKERS[0])
    async with asyncio.timeout(10):
        while executor.stuck:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
