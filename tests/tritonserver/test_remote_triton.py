"""Remote variants on a real Triton: every datatype, what is cancelled, what takes too long, what
is unloaded, and what is killed."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import grpc
import numpy as np
import pytest
from loadtests.remote import far as elsewhere
from loadtests.remote.pace import Pace
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

import real_triton
from builders import make_model
from conformance.models import SHAPES, SLOW
from gearshift.artifacts import read_again
from gearshift.core.catalog import Signature, TensorSpec
from gearshift.engine.outputs import NUMPY
from gearshift.errors import ExecutorUnavailable
from gearshift.executors.remote import RemoteExecutor
from gearshift.ports import REMOTE, Worker
from waiting import until, until_so

pytestmark = real_triton.marked

WORKERS = [Worker(number, REMOTE) for number in range(8)]
ROWS = {"x": np.array([[1, 2, 3], [4, 5, 6]], np.float32)}
SUMS = [[6.0], [15.0]]


@pytest.fixture(scope="module")
def address():
    with real_triton.served() as address:
        yield address


@pytest.fixture
def executor(tmp_path):
    made = RemoteExecutor(tmp_path / "state")
    yield made
    made.close()


@pytest.fixture
def stub(address):
    with grpc.insecure_channel(address) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def far(folder, address: str, name: str, more: str = ""):
    path = folder / "m" / "large" / "remote.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'servers = ["{address}"]\nmodel = "{name}"\n{more}')
    shape = SHAPES.get(name, SHAPES["sum"])
    signature = Signature(
        (TensorSpec("x", shape.datatype, (shape.width,)),),
        tuple(TensorSpec(out, shape.datatype, (width,)) for out, width in shape.outputs.items()),
    )
    model = make_model(signature=signature)
    variant = replace(model.variants[0], executor="triton", artifact=str(path))
    return replace(model, variants=(variant,)), variant


def rows_run(stub, model: str) -> int:
    told = stub.ModelStatistics(pb.ModelStatisticsRequest(name=model), timeout=5)
    return sum(each.inference_count for each in told.model_stats)


@pytest.mark.parametrize("name", [name for name in SHAPES if name in NUMPY])
async def test_every_datatype_goes_there_and_back(executor, address, tmp_path, name):
    model, variant = far(tmp_path, address, name)
    assert executor.inspect(read_again(variant)) == model.signature
    executor.load(model, variant)
    rows = np.array([[0, 1, 0], [1, 1, 1]]).astype(NUMPY[name])
    if name == "BYTES":
        rows = np.array([[b"a", b"", b"\xff\x00"], [b"b", b"c", b"d"]], object)
    answer = await executor.run(WORKERS[0], model, variant, {"x": rows}, 10.0)
    assert answer["y"].dtype == rows.dtype
    assert answer["y"].tolist() == rows.tolist()


async def test_large_batches(executor, address, tmp_path):
    model, variant = far(tmp_path, address, "wide")
    executor.load(model, variant)
    rows = np.ones((8, SHAPES["wide"].width), np.float32)
    answer = await executor.run(WORKERS[0], model, variant, {"x": rows}, 30.0)
    assert answer["y"].tolist() == [[float(SHAPES["wide"].width)]] * 8


async def test_a_pinned_version(executor, address, tmp_path):
    model, variant = far(tmp_path, address, "sum", 'version = "1"\n')
    executor.load(model, variant)
    assert (await executor.run(WORKERS[0], model, variant, ROWS))["y"].tolist() == SUMS
    with pytest.raises(ValueError, match="says NOT_FOUND: .*version"):
        executor.load(*far(tmp_path, address, "sum", 'version = "7"\n'))


async def test_what_waits_there_and_is_cancelled_is_not_run(executor, tmp_path):
    """Where Triton batches, and but for what it has put together ahead; without dynamic_batching it
    runs all that nobody waits for any more."""
    server = elsewhere.Far(tmp_path / "far", Pace(SLOW), elsewhere.triton)
    try:
        server.start()
        model, variant = far(tmp_path, server.address, elsewhere.MODEL, "slots = 64\n")
        executor.load(model, variant)
        rows = {"x": np.ones((8, 3), np.float32)}
        with grpc.insecure_channel(server.address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            before = rows_run(stub, elsewhere.MODEL)

            def begin(many: int):
                made = [executor.run(WORKERS[0], model, variant, rows) for _ in range(many)]
                return [asyncio.ensure_future(each) for each in made]

            runs = begin(elsewhere.SLOTS)
            await asyncio.wait(runs, timeout=0.2 * SLOW)
            waiting = begin(8 * elsewhere.SLOTS)
            done, _ = await asyncio.wait([*runs, *waiting], timeout=0.2 * SLOW)
            assert not done
            for run in waiting:
                run.cancel()
            await asyncio.gather(*runs)
            # Whatever else had been waiting would have come first.
            await asyncio.gather(*begin(1))
            run = (rows_run(stub, elsewhere.MODEL) - before) // 8
            assert run <= elsewhere.SLOTS + len(waiting) // 2 + 1
    finally:
        server.close()


async def test_what_is_not_there_in_time_ends_and_frees_its_place(executor, address, tmp_path):
    model, variant = far(tmp_path, address, "slow", "slots = 1\n")
    executor.load(model, variant)
    with pytest.raises(ExecutorUnavailable, match="DEADLINE_EXCEEDED"):
        await executor.run(WORKERS[0], model, variant, ROWS, 0.2 * SLOW)
    assert (await executor.run(WORKERS[0], model, variant, ROWS, 20.0))["y"].tolist() == SUMS


async def test_an_unloaded_model_costs_its_neighbours_nothing(executor, address, stub, tmp_path):
    returned: list[int] = []
    gone, there = far(tmp_path / "a", address, "two"), far(tmp_path / "b", address, "sum")
    there = replace(there[0], generation=2), there[1]
    for each in (gone, there):
        executor.load(*each)
    executor.on_return(lambda: returned.append(1))
    stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="two"), timeout=10)

    async def refused() -> bool:
        with pytest.raises(ExecutorUnavailable) as told:
            await executor.run(WORKERS[0], *gone, ROWS, 10.0)
        answer = await executor.run(WORKERS[1], *there, ROWS, 10.0)
        assert answer["y"].tolist() == SUMS
        return "its model 'two' is not ready" in str(told.value) or "NOT_FOUND" in str(told.value)

    try:
        await until_so(refused)
    finally:
        stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="two"), timeout=30)
    await asyncio.to_thread(until, lambda: returned)
    answer = await executor.run(WORKERS[0], *gone, ROWS, 10.0)
    assert answer["z"].tolist() == SUMS


async def test_one_that_is_killed_is_missed_and_used_again_when_it_is_back(executor, tmp_path):
    server = elsewhere.Far(tmp_path / "far", Pace(0.0), elsewhere.triton)
    returned: list[int] = []
    try:
        server.start()
        model, variant = far(tmp_path, server.address, elsewhere.MODEL)
        executor.load(model, variant)
        executor.on_return(lambda: returned.append(1))
        assert (await executor.run(WORKERS[0], model, variant, ROWS))["y"].tolist() == SUMS
        await asyncio.to_thread(server.kill)
        with pytest.raises(ExecutorUnavailable, match="UNAVAILABLE"):
            await executor.run(WORKERS[0], model, variant, ROWS)
        await asyncio.to_thread(server.start)
        await asyncio.to_thread(until, lambda: returned)
        answer = await executor.run(WORKERS[0], model, variant, ROWS, math.inf)
        assert answer["y"].tolist() == SUMS
    finally:
        server.close()
