"""ONNX Runtime on several devices, as far as it can be seen without them.

Sessions are real ones of the processor that say they were begun with the providers asked for, and
the memory of a GPU is that of the processor: all of our own code runs as it would there.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto
from structlog.testing import capture_logs

from builders import ONE_VECTOR, make_model
from gearshift.core.catalog import Signature, TensorSpec
from gearshift.errors import ExecutorUnavailable
from gearshift.executors.gpus import Gpu
from gearshift.executors.onnx import OnnxExecutor, executor, session
from gearshift.executors.onnx.binding import Bound, plan
from gearshift.executors.onnx.session import SMALLEST
from gearshift.ports import Placed, Worker
from onnx_models import identity, row_sum

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
DML = "DmlExecutionProvider"
MEMORY = {CUDA: "cpu", TENSORRT: "cpu"}

real = ort.InferenceSession


class Machine:
    """Which GPUs it has, and how they are: `broken` maps a provider, or (provider, device), to what
    becomes of sessions with it; `only_models` leaves the smallest one alone, with which providers
    are tried."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, installed: list[str], gpus: int) -> None:
        self.broken: dict[str | tuple[str, str], str] = {}
        self.only_models = False
        self.begun: list[Mapping[str, Mapping[str, str]]] = []
        self.running = self.most_running = 0
        there = tuple(Gpu(number, "Made up", 2**33) for number in range(gpus))
        monkeypatch.setattr(ort, "get_available_providers", lambda: [*installed, CPU])
        monkeypatch.setattr(session.ort, "InferenceSession", self._session)
        monkeypatch.setattr(executor, "gpus", lambda: there)

    def _session(self, content, options, providers, enable_fallback):
        assert enable_fallback == 0
        wanted = dict(providers)
        assert next(reversed(wanted)) == CPU
        if content != SMALLEST:
            self.begun.append(wanted)
        got = []
        for name, given_ in wanted.items():
            fate = self.broken.get(name) or self.broken.get((name, given_.get("device_id", "")))
            if fate is None or (self.only_models and content == SMALLEST):
                got.append(name)
            elif fate != "left out":
                raise RuntimeError(fate)
        made = real(content, options, providers=[CPU])
        made.get_providers = lambda: got  # type: ignore[method-assign]
        if DML in got:
            made.run = self._watched(made.run)  # type: ignore[method-assign]
        return made

    def _watched(self, run):
        def watched(*given_):
            self.running += 1
            self.most_running = max(self.most_running, self.running)
            threading.Event().wait(0.001)
            try:
                return run(*given_)
            finally:
                self.running -= 1

        return watched


@pytest.fixture
def two_gpus(monkeypatch):
    return Machine(monkeypatch, [TENSORRT, CUDA], 2)


@pytest.fixture
def model(tmp_path):
    model = make_model(max_batch_size=8)
    path = str(row_sum(tmp_path / "model.onnx"))
    return replace(model, variants=tuple(replace(v, artifact=path) for v in model.variants))


def made(*providers, **options):
    return OnnxExecutor(providers, memory=MEMORY, **options)


async def answer(made_, worker, model, rows=1):
    inputs = {"x": np.arange(3 * rows, dtype=np.float32).reshape(rows, 3)}
    outputs = await made_.run(worker, model, model.variants[0], inputs)
    assert outputs["y"].tolist() == inputs["x"].sum(axis=1, keepdims=True).tolist()


async def test_a_variant_runs_on_every_device(two_gpus, model, tmp_path):
    found = made("cuda", "cpu")
    assert found.devices == ("gpu0", "gpu1", "cpu")
    found.load(model, model.variants[0])
    assert [dict(each)[CUDA]["device_id"] for each in two_gpus.begun[:2]] == ["0", "1"]
    for number, device in enumerate(found.devices):
        for rows in (1, 3, 8, 2):
            await answer(found, Worker(number, device), model, rows)
    size = len(row_sum(tmp_path / "again.onnx").read_bytes())
    placed = {each.device: each for each in found.placed(model, model.variants[0])}
    # Bound were batches of 1, 4, 8 and 2 rows of three numbers in and one out.
    bound = (1 + 4 + 8 + 2) * 4 * 4
    assert placed == {
        "gpu0": Placed("gpu0", "cuda", size + bound),
        "gpu1": Placed("gpu1", "cuda", size + bound),
        "cpu": Placed("cpu", "cpu", size),
    }
    found.unload(model, model.variants[0])
    assert found.placed(model, model.variants[0]) == ()
    found.close()


def test_the_arena_is_made_before_providers_are_tried(two_gpus, monkeypatch):
    """The first size counts, for all of the process."""
    made_with: list[int] = []
    monkeypatch.setattr(executor, "register_arena", made_with.append)
    monkeypatch.setattr(executor, "starts", lambda chain: made_with.append(-1) or [])
    made("cuda", run_bytes=1000)
    assert made_with == [1000, -1, -1]


def test_profiles_of_other_gpus_are_of_other_hardware(two_gpus):
    assert made("cuda").identity == (
        f"onnxruntime {ort.__version__} gpu0 (Made up, 8192 MiB): {CUDA}"
        " arena_extend_strategy=kSameAsRequested cudnn_conv_algo_search=HEURISTIC device_id=0"
        f" use_tf32=1; gpu1 (Made up, 8192 MiB): {CUDA} arena_extend_strategy=kSameAsRequested"
        " cudnn_conv_algo_search=HEURISTIC device_id=1 use_tf32=1;"
    )
    assert made("cpu").identity == f"onnxruntime {ort.__version__} {CPU}"


@pytest.mark.parametrize("fate", ["left out", "cuDNN is missing"])
async def test_a_provider_that_does_not_start_is_found_out_at_once(two_gpus, model, fate):
    two_gpus.broken[TENSORRT] = fate
    with capture_logs() as logs:
        found = made("tensorrt", "cuda")
    (told,) = logs
    assert told["missing"] == {f"tensorrt on gpu{n}": "it does not start here" for n in (0, 1)}
    assert told["using"] == {"gpu0": ("cuda",), "gpu1": ("cuda",)}
    found.load(model, model.variants[0])
    await answer(found, Worker(0, "gpu1"), model)
    assert [(p.device, p.runs, p.lacking) for p in found.placed(model, model.variants[0])] == [
        ("gpu0", "cuda", ("tensorrt",)),
        ("gpu1", "cuda", ("tensorrt",)),
    ]


async def test_where_no_gpu_starts_the_processor_serves_and_it_is_told(two_gpus, model):
    two_gpus.broken[CUDA] = "no driver"
    found = made("cuda")
    assert found.devices == ("cpu",)
    found.load(model, model.variants[0])
    await answer(found, Worker(0, "cpu"), model)
    assert {(p.device, p.runs, p.lacking) for p in found.placed(model, model.variants[0])} == {
        ("cpu", "cpu", ()),
        ("gpu0", "", ("cuda",)),
        ("gpu1", "", ("cuda",)),
    }


@pytest.mark.parametrize("fate", ["left out", "an operator that it does not know"])
async def test_a_variant_that_one_provider_does_not_take_runs_on_the_next(two_gpus, model, fate):
    two_gpus.only_models, two_gpus.broken = True, {TENSORRT: fate}
    found = made("tensorrt", "cuda")
    with capture_logs() as logs:
        found.load(model, model.variants[0])
    assert [(each["device"], each["missing"]) for each in logs] == [
        ("gpu0", ["tensorrt"]),
        ("gpu1", ["tensorrt"]),
    ]
    await answer(found, Worker(0, "gpu0"), model)
    assert {(p.runs, p.lacking) for p in found.placed(model, model.variants[0])} == {
        ("cuda", ("tensorrt",))
    }


async def test_out_of_memory_on_one_gpu_costs_that_one_only(two_gpus, model):
    two_gpus.only_models = True
    two_gpus.broken = {(CUDA, "1"): "CUDA failure 2: out of memory ; GPU=1"}
    found = made("cuda", "cpu")
    with capture_logs() as logs:
        found.load(model, model.variants[0])
    (told,) = logs
    assert (told["device"], told["event"]) == ("gpu1", "variant does not run on a device")
    assert "not enough memory on gpu1; the artifact has" in told["reason"]
    await answer(found, Worker(0, "gpu0"), model)
    await answer(found, Worker(1, "cpu"), model)
    with pytest.raises(ExecutorUnavailable, match="not loaded"):
        await answer(found, Worker(2, "gpu1"), model)
    assert [(p.device, p.runs, p.lacking) for p in found.placed(model, model.variants[0])] == [
        ("gpu0", "cuda", ()),
        ("cpu", "cpu", ()),
        ("gpu1", "", ("cuda",)),
    ]


def test_without_memory_on_any_gpu_it_is_not_loaded(two_gpus, model):
    two_gpus.only_models, two_gpus.broken = True, {CUDA: "Failed to allocate memory for buffer"}
    found = made("cuda")
    with pytest.raises(ValueError, match=r"memory on gpu0; .*; not enough memory on gpu1"):
        found.load(model, model.variants[0])
    assert found.placed(model, model.variants[0]) == ()


@pytest.mark.parametrize("fate", ["left out", "no such operator"])
def test_no_session_of_the_processor_is_called_a_gpus(two_gpus, model, fate):
    two_gpus.only_models, two_gpus.broken = True, {CUDA: fate}
    with pytest.raises(ValueError, match=r"no such operator|none of its providers starts"):
        made("cuda").load(model, model.variants[0])


async def test_in_a_process_of_its_own_it_keeps_to_one_device(two_gpus, model):
    found = made("cuda", "cpu")
    found.only("gpu1")
    found.load(model, model.variants[0])
    assert [each.device for each in found.placed(model, model.variants[0])] == ["gpu1"]
    outputs = found.run_here(model, model.variants[0], {"x": np.ones((2, 3), np.float32)})
    assert outputs["y"].tolist() == [[3.0], [3.0]]


def test_tensorrt_is_told_the_shapes_and_where_to_keep_engines(
    two_gpus, model, tmp_path, monkeypatch
):
    monkeypatch.setattr(executor, "version", lambda: "101300")
    made({"name": "tensorrt", "fp16": True}, engines=tmp_path).load(model, model.variants[0])
    options = dict(two_gpus.begun[-1])[TENSORRT]
    assert options["trt_fp16_enable"] == "True"
    assert options["trt_profile_max_shapes"] == "x:8x3"
    folder = options["trt_engine_cache_path"]
    assert folder.startswith(str(tmp_path))
    # Another version of TensorRT has engines of its own.
    monkeypatch.setattr(executor, "version", lambda: "101400")
    made({"name": "tensorrt", "fp16": True}, engines=tmp_path).load(model, model.variants[0])
    assert dict(two_gpus.begun[-1])[TENSORRT]["trt_engine_cache_path"] != folder
    monkeypatch.setattr(executor, "version", lambda: "")
    made("tensorrt", engines=tmp_path).load(model, model.variants[0])
    assert "trt_engine_cache_path" not in dict(two_gpus.begun[-1])[TENSORRT]


async def test_sessions_of_directml_are_run_by_one_thread_at_a_time(monkeypatch, model):
    machine = Machine(monkeypatch, [DML], 0)
    found = made("directml")
    found.load(model, model.variants[0])
    await asyncio.gather(
        *(answer(found, Worker(number, "directml0"), model) for number in range(4))
    )
    assert machine.most_running == 1
    found.close()


# --- binding ----------------------------------------------------------------------------------

TWO = Signature(
    (TensorSpec("x", "FP32", (3,)), TensorSpec("flag", "BOOL", ())),
    (TensorSpec("y", "INT64", (2, 2)),),
)


@given(st.integers(1, 70), st.integers(1, 64))
def test_a_few_sizes_hold_all_batches(rows, most):
    if rows > most:
        return
    found = plan(TWO, rows, most)
    assert rows <= found.rows <= most
    assert found.rows < 2 * rows
    assert found.rows == most or found.rows.bit_count() == 1
    assert found.size == found.rows * (3 * 4 + 1 + 2 * 2 * 8)
    assert [each.shape for each in (*found.inputs, *found.outputs)] == [
        (found.rows, 3),
        (found.rows,),
        (found.rows, 2, 2),
    ]


def test_what_ran_before_is_neither_seen_nor_changed(tmp_path):
    content = row_sum(tmp_path / "model.onnx").read_bytes()
    bound = Bound(real(content, providers=[CPU]), plan(ONE_VECTOR, 3, 8), "cpu", 0)
    first = bound.run({"x": np.full((3, 3), 5.0, np.float32)})["y"]
    # Not in one piece, and fewer.
    second = bound.run({"x": np.arange(6, dtype=np.float32).reshape(3, 2).T})["y"]
    assert first.tolist() == [[15.0]] * 3
    assert second.tolist() == [[6.0], [9.0]]


@pytest.mark.parametrize(
    ("kind", "datatype"),
    [
        (TensorProto.FLOAT16, "FP16"),
        (TensorProto.BOOL, "BOOL"),
        (TensorProto.UINT8, "UINT8"),
        (TensorProto.INT64, "INT64"),
        (TensorProto.DOUBLE, "FP64"),
    ],
)
def test_types_of_the_protocol_can_be_bound(tmp_path, kind, datatype):
    path = identity(tmp_path / "model.onnx", kind, "n", 2)
    made_ = real(path.read_bytes(), providers=[CPU])
    name = made_.get_outputs()[0].name
    signature = Signature((TensorSpec("x", datatype, (2,)),), (TensorSpec(name, datatype, (2,)),))
    bound = Bound(made_, plan(signature, 2, 8), "cpu", 0)
    values = np.array([[1, 0], [1, 1]], plan(signature, 2, 8).inputs[0].dtype)
    found = bound.run({"x": values})[name]
    assert found.dtype == values.dtype
    assert found.tolist() == values.tolist()
