"""Workers in processes of their own: what becomes of runs, of loads, and of the processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from builders import make_model
from gearshift.errors import WorkerLost
from gearshift.executors.isolated import IsolatedExecutor
from gearshift.executors.isolated.child import Child, RunFailed
from gearshift.executors.isolated.restarts import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    RENEWED_EVERY,
    STEADY,
    Restarts,
)
from gearshift.executors.isolated.segment import MOST, Segment
from gearshift.executors.pytorch import TorchExecutor, installed
from gearshift.ports import BYTES, Worker
from onnx_models import row_sum

CPU = ["CPUExecutionProvider"]
WORKER = Worker(7, "cpu")
shared = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def model(tmp_path: Path):
    model = make_model()
    return replace(
        model,
        variants=tuple(
            replace(
                v,
                executor="onnx",
                artifact=str(row_sum(tmp_path / v.name / "model.onnx", scale=v.version)),
            )
            for v in model.variants
        ),
    )


class Children:
    """Launches, and remembers whom."""

    def __init__(self) -> None:
        self.all: list[Child] = []

    def __call__(self, start) -> Child:
        self.all.append(Child.launch(start))
        return self.all[-1]

    @property
    def pid(self) -> int:
        return self.all[-1].pid


@pytest.fixture
def children() -> Children:
    return Children()


@pytest.fixture
def executor(children: Children):
    made = IsolatedExecutor(1, CPU, launch=children)
    yield made
    made.close()
    for child in children.all:
        with pytest.raises(ProcessLookupError):
            os.kill(child.pid, 0)


@pytest.fixture(scope="module")
def steady():
    """One for all tests that leave its process as it is; they share a loop as well."""
    made = IsolatedExecutor(1, CPU)
    yield made
    made.close()


def stop(pid: int) -> None:
    """On return none of its threads runs: the signal alone reaches them one by one."""
    os.kill(pid, signal.SIGSTOP)
    while "State:\tT" not in Path(f"/proc/{pid}/status").read_text():
        time.sleep(0.001)


def ones(rows: int = 1):
    return {"x": np.ones((rows, 3), np.float32)}


async def answer(executor, model, place: int = 0, rows: int = 1) -> float:
    outputs = await executor.run(WORKER, model, model.variants[place], ones(rows))
    return float(outputs["y"][rows - 1, 0])


async def test_one_that_dies_is_replaced_and_holds_what_it_should(executor, model, children):
    large, small = model.variants
    executor.load(model, large)
    executor.load(model, small)
    executor.unload(model, small)
    assert await answer(executor, model) == 3.0
    stop(children.pid)
    run = asyncio.create_task(answer(executor, model))
    await asyncio.sleep(0)
    # A stopped process runs nothing before it ends by this signal, so it cannot have answered.
    os.kill(children.pid, signal.SIGKILL)
    with pytest.raises(WorkerLost, match="was ended by SIGKILL") as lost:
        await run
    assert (lost.value.reason, lost.value.running) == ("crashed", True)
    with pytest.raises(WorkerLost, match="being started again") as away:
        await answer(executor, model)
    assert not away.value.running
    # What is loaded while nobody is there is loaded nowhere, and says so.
    with pytest.raises(ValueError, match="no worker process runs now"):
        executor.load(model, small)
    async with asyncio.timeout(60):
        await executor.replace(WORKER)
    assert await answer(executor, model) == 3.0
    assert len(children.all) == 2
    assert len(children.all[1].loaded) == 1


async def test_one_that_dies_before_it_has_run_anything_is_replaced_as_well(model, children):
    """Such as the one that only measures what is loaded anew: without it nothing would load."""
    executor = IsolatedExecutor(2, CPU, launch=children)
    try:
        executor.load(model, model.variants[0])
        assert await answer(executor, model) == 3.0
        os.kill(children.pid, signal.SIGKILL)
        async with asyncio.timeout(60):
            while len(children.all) < 3 or not children.all[2].loaded:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        executor.load(model, model.variants[1])
        assert all(len(child.loaded) == 2 for child in (children.all[0], children.all[2]))
    finally:
        executor.close()


async def test_a_run_that_hangs_is_ended_with_its_process(executor, model, children):
    executor.load(model, model.variants[0])
    assert await answer(executor, model) == 3.0
    stop(children.pid)
    run = asyncio.create_task(answer(executor, model))
    await asyncio.sleep(0.01)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    async with asyncio.timeout(60):
        await executor.replace(WORKER)
        # Nothing was given up now: to ask again ends nobody.
        await executor.replace(WORKER)
    assert await answer(executor, model) == 3.0
    assert executor.stuck == 0
    assert len(children.all) == 2


@shared
async def test_a_run_that_was_given_up_does_not_see_the_next_ones_inputs(steady, model):
    steady.load(model, model.variants[0])
    assert await answer(steady, model) == 3.0
    pid = steady._slots[0].child.pid
    stop(pid)
    first = asyncio.create_task(answer(steady, model))
    await asyncio.sleep(0.01)
    first.cancel()
    second = asyncio.create_task(answer(steady, model, rows=2))
    await asyncio.sleep(0.01)
    assert not second.done()
    os.kill(pid, signal.SIGCONT)
    assert await asyncio.wait_for(second, 60) == 3.0


@shared
async def test_what_fails_in_a_run_leaves_the_process_as_it_is(steady, model):
    steady.load(model, model.variants[0])
    assert await answer(steady, model) == 3.0
    child = steady._slots[0].child
    for inputs, message in [
        ({"x": np.ones((1, 4), np.float32)}, "InvalidArgument: "),
        ({"z": np.ones((1, 3), np.float32)}, "z"),
    ]:
        with pytest.raises(RunFailed, match=message):
            await steady.run(WORKER, model, model.variants[0], inputs)
    with pytest.raises(ValueError, match="tensor 'x' is of BYTES"):
        await steady.run(WORKER, model, model.variants[0], {"x": np.array([b"x"], BYTES)})
    assert await answer(steady, model) == 3.0
    assert steady._slots[0].child is child


@shared
async def test_large_and_small_batches_by_turns(steady, model):
    steady.load(model, model.variants[0])
    for rows in (1, 50_000, 3, 400_000, 2):
        assert await answer(steady, model, rows=rows) == 3.0


@shared
async def test_what_is_loaded_anew_takes_the_place_of_what_was(steady, model):
    large, small = model.variants
    for artifact, expected in ((large.artifact, 3.0), (small.artifact, 6.0)):
        steady.load(model, replace(large, artifact=artifact))
        assert await answer(steady, model) == expected
    assert len(steady._slots[0].child.loaded) == 1


@shared
async def test_it_is_another_executor_to_who_keeps_profiles(steady):
    torch = f" {TorchExecutor().identity}" if installed() else ""
    assert steady.identity == (
        f"onnxruntime {onnxruntime.__version__} CPUExecutionProvider{torch}"
        " in processes of their own"
    )


async def test_a_variant_that_does_not_load_is_loaded_nowhere(model, children, tmp_path):
    executor = IsolatedExecutor(2, CPU, launch=children)
    try:
        broken = tmp_path / "broken.onnx"
        broken.write_bytes(b"no graph")
        with pytest.raises(ValueError, match="ONNX Runtime cannot load it"):
            executor.load(model, replace(model.variants[0], artifact=str(broken)))
        stop(children.pid)  # the second, which has a load to answer

        async def let_it_die() -> None:
            while not children.all[0].loaded:  # noqa: ASYNC110 - it is loaded on a thread
                await asyncio.sleep(0.01)
            os.kill(children.pid, signal.SIGKILL)

        async with asyncio.timeout(60):
            with pytest.raises(ValueError, match=r"was ended by SIGKILL \(load\)"):
                await asyncio.gather(
                    asyncio.to_thread(executor.load, model, model.variants[0]), let_it_die()
                )
        assert not any(child.loaded for child in children.all)
        with pytest.raises(Exception, match="not loaded"):
            await answer(executor, model)
    finally:
        executor.close()


async def test_one_that_holds_too_much_is_replaced_between_two_runs(model, children):
    executor = IsolatedExecutor(1, CPU, memory_limit=1.0, launch=children)
    try:
        executor.load(model, model.variants[0])
        async with asyncio.timeout(60):
            while children.all[0].pid == children.pid or children.all[0].busy:
                assert await answer(executor, model) == 3.0
                await asyncio.sleep(0.02)
            while executor._slots[0].child is not children.all[1]:
                assert await answer(executor, model) == 3.0
                await asyncio.sleep(0.02)
        # It holds too much as well, and is not replaced at once.
        for _ in range(20):
            assert await answer(executor, model) == 3.0
        assert len(children.all) == 2
    finally:
        executor.close()


def test_no_process_outlives_a_server_that_is_killed(model):
    script = f"""
import os, sys
from builders import make_model
from gearshift.executors.isolated import IsolatedExecutor
executor = IsolatedExecutor(1, {CPU})
executor.devices
print(executor._slots[0].child.pid, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as server:
        pid = int(server.stdout.readline())
        os.kill(pid, signal.SIGTERM)  # not its business
        os.kill(pid, signal.SIGINT)
        os.kill(pid, 0)
        server.kill()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_tensors_lie_where_no_process_can_take_them_away():
    segment = Segment.make()
    tensors = {"a": np.arange(5, dtype=np.int64), "b": np.zeros((2, 0, 3), np.float32)}
    found = segment.read(segment.write(tensors))
    assert {name: array.tolist() for name, array in found.items()} == {
        name: array.tolist() for name, array in tensors.items()
    }
    with pytest.raises(PermissionError):
        os.ftruncate(segment.descriptor, 0)
    with pytest.raises(ValueError, match="in a segment of 65536"):
        segment.read([("a", "<i8", [10_000], 0)])
    huge = np.broadcast_to(np.zeros(1, np.float32), (MOST,))
    with pytest.raises(ValueError, match=f"a worker process takes {MOST}"):
        segment.write({"a": huge})
    segment.close()


def test_pauses_grow_and_a_steady_one_starts_anew():
    restarts = Restarts()
    pauses = [restarts.ended(0.0) for _ in range(3000)]
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert max(pauses) == pauses[-1] == LONGEST_PAUSE
    restarts.up(100.0)
    assert restarts.ended(100.0 + STEADY - 1) == LONGEST_PAUSE
    restarts.up(200.0)
    assert restarts.ended(200.0 + STEADY) == FIRST_PAUSE


def test_one_is_not_renewed_again_and_again():
    restarts = Restarts()
    asked = [0.0, 1.0, RENEWED_EVERY - 1, RENEWED_EVERY, RENEWED_EVERY + 1]
    assert [restarts.may_renew(now) for now in asked] == [True, False, False, True, False]
