"""Programs of torch.export as artifacts: what is served, what is refused and why, what runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from builders import ONE_VECTOR, make_model
from gearshift.artifacts import read_again
from gearshift.core.artifact import Artifact
from gearshift.core.catalog import Signature, TensorSpec
from gearshift.errors import ExecutorUnavailable
from gearshift.executors.pytorch import TorchExecutor, installed
from gearshift.executors.trial import inspect_apart
from gearshift.ports import Placed, Worker
from torch_models import row_sum, saved

if not installed():
    pytest.skip("PyTorch is not installed", allow_module_level=True)

import torch

from gearshift.executors.pytorch import cuda
from gearshift.executors.pytorch import executor as pytorch_executor
from gearshift.executors.pytorch.program import Program

ROWS = torch.export.Dim("rows", min=1, max=64)
WORKER = Worker(0, "cpu")


class Calls(torch.nn.Module):
    """Whatever the function makes of its inputs."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self._function = function

    def forward(self, x: Any) -> Any:
        return self._function(x)


@pytest.fixture
def executor():
    made = TorchExecutor("cpu")
    yield made
    made.close()


@pytest.fixture
def write(tmp_path):
    def write(function: Any, *shape: int, dtype: Any = None, rows: Any = ROWS) -> Artifact:
        sample = torch.zeros(*(shape or (2, 3)), dtype=dtype)
        path = saved(Calls(function), tmp_path / "model.pt2", {"x": sample}, {"x": rows})
        return Artifact(str(path), path.read_bytes())

    return lambda function, *shape, dtype=torch.float32, rows={0: ROWS}: write(
        function, *shape, dtype=dtype, rows=rows
    )


def loaded(executor, artifact: Artifact, most: int = 8, generation: int = 1):
    model = make_model()
    variant = replace(model.variants[0], executor="torch", artifact=artifact.path)
    model = replace(model, variants=(variant,), max_batch_size=most, generation=generation)
    executor.load(model, variant)
    return model, variant


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda x: x + 1, ["output"]),
        (lambda x: (x + 1, x * 2), ["output_0", "output_1"]),
        (lambda x: [x + 1], ["output_0"]),
        (lambda x: {"more": x + 1, "twice": x * 2}, ["more", "twice"]),
    ],
)
def test_outputs_are_named_by_what_the_program_gives(executor, write, function, names):
    artifact = write(function)
    signature = executor.inspect(artifact)
    assert signature.inputs == ONE_VECTOR.inputs
    assert [output.name for output in signature.outputs] == names
    outputs = executor.run_here(*loaded(executor, artifact), {"x": np.ones((3, 3), np.float32)})
    assert list(outputs) == names
    assert [float(output[2, 0]) for output in outputs.values()] == [2.0] * len(names)


def test_several_inputs_by_position_and_by_name(executor, tmp_path):
    class Both(torch.nn.Module):
        def forward(self, a: Any, b: Any, *, c: Any) -> Mapping[str, Any]:
            return {"y": a - b * c}

    samples = torch.zeros(2, 3), torch.zeros(2, 3)
    shapes = {"a": {0: ROWS}, "b": {0: ROWS}, "c": {0: ROWS}}
    exported = torch.export.export(
        Both().eval(), samples, {"c": torch.zeros(2, 3)}, dynamic_shapes=shapes
    )
    path = tmp_path / "model.pt2"
    torch.export.save(exported, path)
    artifact = Artifact(str(path), path.read_bytes())
    assert [each.name for each in executor.inspect(artifact).inputs] == ["a", "b", "c"]
    values = {name: np.full((2, 3), n, np.float32) for n, name in enumerate("cba", start=2)}
    outputs = executor.run_here(*loaded(executor, artifact), values)
    assert outputs["y"].tolist() == [[4 - 3 * 2] * 3] * 2


@pytest.mark.parametrize(
    ("dtype", "datatype"),
    [
        (torch.float16, "FP16"),
        (torch.bfloat16, "BF16"),
        (torch.int64, "INT64"),
        (torch.bool, "BOOL"),
        (torch.uint8, "UINT8"),
    ],
)
def test_types_of_the_protocol(executor, write, dtype, datatype):
    signature = executor.inspect(write(lambda x: {"y": x.clone()}, dtype=dtype))
    tensor = TensorSpec("x", datatype, (3,))
    assert signature == Signature((tensor,), (replace(tensor, name="y"),))


@pytest.mark.parametrize(
    ("function", "options", "reason"),
    [
        (lambda x: {"y": x.cfloat()}, {}, "'y' has type torch.complex64; served are"),
        (lambda x: {"y": x}, {"rows": None}, r"'x' has shape \['2', '3'\]; its first dimension"),
        (
            lambda x: {"y": x},
            {"rows": {0: ROWS, 1: torch.export.Dim("width", min=1, max=9)}},
            "dimension 1 must be a fixed number",
        ),
        (lambda x: {"y": x.sum()}, {}, "'y' has shape"),
        (lambda x: {"y": {"z": x}}, {}, "nested outputs"),
        (lambda x: {"y": x[:, 0] * 2, "n": 3}, {}, "'n' is no tensor|something else than tensors"),
    ],
)
def test_what_cannot_be_served_is_told(executor, write, function, options, reason):
    with pytest.raises(ValueError, match=reason):
        executor.inspect(write(function, **options))


def test_bf16_is_float32_outside(executor, write):
    artifact = write(lambda x: {"y": x + 1, "wide": x.float()}, dtype=torch.bfloat16)
    inputs = {"x": np.array([[1.0, 2**-8, -3.0]], np.float32)}
    outputs = executor.run_here(*loaded(executor, artifact), inputs)
    # 1 + 2^-8 lies between two of them.
    assert outputs["y"].tolist() == [[2.0, 1.0, -2.0]]
    assert outputs["wide"].tolist() == inputs["x"].tolist()
    assert [output.dtype for output in outputs.values()] == [np.float32, np.float32]


def test_state_between_requests_is_refused(executor, tmp_path):
    class Counts(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x: Any) -> Mapping[str, Any]:
            self.seen.add_(1.0)
            return {"y": x + self.seen}

    path = saved(Counts(), tmp_path / "m.pt2", {"x": torch.zeros(2, 3)}, {"x": {0: ROWS}})
    with pytest.raises(ValueError, match="its own buffers"):
        executor.inspect(Artifact(str(path), path.read_bytes()))


def test_it_must_have_been_exported_for_the_models_batches(executor, tmp_path):
    path = row_sum(tmp_path / "model.pt2", most=8)
    artifact = Artifact(str(path), path.read_bytes())
    loaded(executor, artifact, most=8)
    with pytest.raises(ValueError, match=r"exported for 1 to 8 rows.*Dim\('batch', min=1, max=9\)"):
        loaded(executor, artifact, most=9)


def test_nothing_but_tensors_is_unpickled(executor, tmp_path, monkeypatch):
    """What the archive brings along as sample inputs could be anything."""
    import zipfile

    good = row_sum(tmp_path / "good.pt2")
    bad = tmp_path / "bad.pt2"

    class Runs:
        def __reduce__(self) -> Any:
            return (exec, ("import torch; torch.was_run = True",))

    torch.save((Runs(),), tmp_path / "samples.pt")
    with zipfile.ZipFile(good) as read, zipfile.ZipFile(bad, "w") as written:
        for info in read.infolist():
            sample = info.filename.endswith("sample_inputs/model.pt")
            written.writestr(
                info.filename,
                (tmp_path / "samples.pt").read_bytes() if sample else read.read(info),
            )
    with pytest.raises(ValueError, match="sample inputs hold more than tensors"):
        executor.inspect(Artifact(str(bad), bad.read_bytes()))
    assert not hasattr(torch, "was_run")


def test_what_pytorch_does_not_load_is_told_in_a_sentence(executor, monkeypatch, tmp_path):
    path = row_sum(tmp_path / "model.pt2")

    def broken(file: Any) -> Any:
        raise RuntimeError("no such schema\nand a lot more")

    monkeypatch.setattr(torch.export, "load", broken)
    with pytest.raises(ValueError, match="PyTorch cannot load it: no such schema$"):
        executor.inspect(Artifact(str(path), path.read_bytes()))


async def test_a_program_cannot_write_to_a_callers_bytes(executor, write):
    """In-place operations on its inputs are those of a copy where they may not be written."""
    artifact = write(lambda x: {"y": x.clone().add_(1.0)})
    model, variant = loaded(executor, artifact)
    held = np.frombuffer(np.zeros((1, 3), np.float32).tobytes(), np.float32).reshape(1, 3)
    assert not held.flags.writeable
    outputs = await executor.run(WORKER, model, variant, {"x": held})
    assert outputs["y"].tolist() == [[1.0] * 3]
    assert held.tolist() == [[0.0] * 3]


async def test_a_run_that_fails_leaves_the_worker_as_it_was(executor, write):
    model, variant = loaded(executor, write(lambda x: {"y": x.sum(dim=1, keepdim=True)}))
    with pytest.raises(Exception, match="float|dim|shape"):
        await executor.run(WORKER, model, variant, {"x": np.ones((), np.float32)})
    outputs = await executor.run(WORKER, model, variant, {"x": np.ones((2, 3), np.float32)})
    assert outputs["y"].tolist() == [[3.0], [3.0]]


def test_tried_in_a_process_of_its_own(tmp_path):
    path = row_sum(tmp_path / "model.pt2")
    assert inspect_apart(read_again(replace(make_model().variants[0], artifact=str(path)))) == (
        ONE_VECTOR
    )


def test_pytorch_is_imported_for_the_first_program_only():
    code = (
        "import sys; from gearshift.executors.pytorch import TorchExecutor as T, installed;"
        " t = T(); assert installed() and t.devices == ('cpu',) and 'torch' in t.identity;"
        " assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


class OnTwo:
    """Streams of two GPUs that are the processor."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.ran = 0

    def size(self, name: Any) -> int:
        return 100 * self.ran

    def forget(self, name: Any) -> None:
        self.ran = 0

    def run(self, name: Any, program: Any, module: Any, inputs: Any) -> Any:
        self.ran += 1
        tensors = {each: torch.from_numpy(array) for each, array in inputs.items()}
        with torch.inference_mode():
            return {each: out.numpy() for each, out in program.call(module, tensors).items()}


@pytest.fixture
def two_gpus(monkeypatch):
    """Returns the devices that programs were moved to, and on which there is no room."""
    moved: list[str] = []
    full: set[str] = set()

    def module(self: Any, device: str) -> Any:
        if device in full:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        moved.append(device)
        return self.exported.module(check_guards=False)

    monkeypatch.setattr(Program, "module", module)
    monkeypatch.setattr(pytorch_executor, "_gpus", lambda: 2)
    monkeypatch.setattr(cuda, "Stream", OnTwo)
    return moved, full


def weighted(tmp_path):
    class Weighted(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3, 5)
            self.register_buffer("more", torch.zeros(7, dtype=torch.int64))

        def forward(self, x: Any) -> Mapping[str, Any]:
            return {"y": self.layer(x) + self.more.sum()}

    path = saved(Weighted(), tmp_path / "model.pt2", {"x": torch.zeros(2, 3)}, {"x": {0: ROWS}})
    return Artifact(str(path), path.read_bytes())


BYTES = (3 * 5 + 5) * 4 + 7 * 8


async def test_each_gpu_has_its_own_copy(two_gpus, tmp_path):
    executor = TorchExecutor()
    assert executor.devices == ("cpu",)
    model, variant = loaded(executor, weighted(tmp_path))
    assert executor.devices == ("gpu0", "gpu1")
    assert two_gpus[0] == ["cuda:0", "cuda:1"]
    for number, device in enumerate((*executor.devices, "gpu1")):
        inputs = {"x": np.ones((2, 3), np.float32)}
        outputs = await executor.run(Worker(number, device), model, variant, inputs)
        assert outputs["y"].shape == (2, 5)
    assert executor.placed(model, variant) == [
        Placed("gpu0", "torch", BYTES + 100),
        Placed("gpu1", "torch", BYTES + 200),
    ]
    executor.close()


async def test_out_of_memory_on_one_gpu_costs_that_one_only(two_gpus, tmp_path):
    two_gpus[1].add("cuda:0")
    executor = TorchExecutor()
    with capture_logs() as logs:
        model, variant = loaded(executor, weighted(tmp_path))
    assert [(each["device"], each["event"]) for each in logs] == [
        ("gpu0", "variant does not run on a device")
    ]
    assert executor.placed(model, variant) == [
        Placed("gpu1", "torch", BYTES),
        Placed("gpu0", lacking=("torch",)),
    ]
    with pytest.raises(ExecutorUnavailable, match="not loaded"):
        await executor.run(Worker(0, "gpu0"), model, variant, {"x": np.ones((2, 3), np.float32)})
    executor.close()


def test_without_memory_on_any_gpu_it_is_not_loaded(two_gpus, tmp_path):
    two_gpus[1].update(("cuda:0", "cuda:1"))
    with pytest.raises(ValueError, match=r"memory on gpu0; the program .*memory on gpu1"):
        loaded(TorchExecutor(), weighted(tmp_path))


def test_a_gpu_that_pytorch_does_not_have_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"PyTorch has no gpu99 here"):
        loaded(TorchExecutor("gpu99"), weighted(tmp_path))


def test_on_the_processor_its_tensors_are_counted(executor, tmp_path):
    model, variant = loaded(executor, weighted(tmp_path))
    assert executor.placed(model, variant) == [Placed("cpu", "torch", BYTES)]


def test_what_a_graph_keeps_is_counted_by_its_pool(monkeypatch):
    class Graph:
        def pool(self) -> tuple[int, int]:
            return (0, 7)

    segments = [
        {"segment_pool_id": (0, 7), "total_size": 1000},
        {"segment_pool_id": (0, 0), "total_size": 4},
        {"segment_pool_id": (0, 7), "total_size": 24},
    ]
    monkeypatch.setattr(torch.cuda, "memory_snapshot", lambda: segments)
    assert cuda._pool(Graph()) == 1024
    assert cuda._pool(None) == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
async def test_a_gpu_gives_the_same_at_any_number_of_rows(write):
    artifact = write(lambda x: {"y": x.sum(dim=1, keepdim=True)})
    executor = TorchExecutor()
    model, variant = loaded(executor, artifact, most=64)
    device = executor.devices[-1]
    assert device == f"gpu{torch.cuda.device_count() - 1}"
    for rows in (1, 3, 8, 33, 64, 3):
        values = np.arange(3 * rows, dtype=np.float32).reshape(rows, 3)
        outputs = await executor.run(Worker(0, device), model, variant, {"x": values})
        assert outputs["y"].tolist() == values.sum(axis=1, keepdims=True).tolist()
    executor.close()
