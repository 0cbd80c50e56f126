"""Servers that answer nonsense, are others than they were, say nothing, or fail quickly."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from builders import make_model
from gearshift.core.catalog import Signature, TensorSpec
from gearshift.errors import ExecutorUnavailable
from gearshift.executors.remote import endpoint, observed
from remote_server import ROWS, SUMS, WORKERS, refusing, summed
from waiting import until, until_so


def changed(**fields):
    """An answer that is right but for the first output's `name`, `datatype` or `shape`, or the
    `raw` bytes of it."""

    def infer(request):
        told = summed(request)
        raw = fields.pop("raw", None) if "raw" in fields else None
        for name, value in fields.items():
            if name == "shape":
                told.outputs[0].ClearField("shape")
                told.outputs[0].shape.extend(value)
            else:
                setattr(told.outputs[0], name, value)
        if raw is not None:
            told.raw_output_contents[0] = raw
        return told

    return infer


NONSENSE = {
    "other rows": (lambda: changed(shape=[1, 1], raw=b"1234"), "has shape"),
    "other width": (lambda: changed(shape=[2, 2], raw=b"x" * 16), "has shape"),
    "other type": (lambda: changed(datatype="INT32"), "has dtype int32, expected float32"),
    "other name": (lambda: changed(name="z"), "output 'y' is missing; there are: z"),
    "too few bytes": (lambda: changed(raw=b"1234"), "came as 4 bytes"),
    "no outputs": (lambda: lambda request: pb.ModelInferResponse(), "output 'y' is missing"),
}


@pytest.mark.parametrize("kind", NONSENSE)
async def test_nonsense_is_no_answer_and_another_server_gives_one(executor, servers, far, kind):
    made, reason = NONSENSE[kind]
    for server in servers:
        server.infer = made()
    model, variant = far(*servers)
    executor.load(model, variant)
    with pytest.raises(RuntimeError, match=reason):
        await executor.run(WORKERS[0], model, variant, ROWS, 5.0)
    assert sum(len(server.asked) for server in servers) == 2
    servers[1].infer = summed
    for _ in range(8):
        answer = await executor.run(WORKERS[0], model, variant, ROWS, 5.0)
        assert answer["y"].tolist() == SUMS


async def test_values_that_are_not_finite_are_left_to_the_engine(executor, servers, far):
    servers[0].infer = changed(raw=np.array([np.nan, 1], np.float32).tobytes())
    model, variant = far(servers[0])
    executor.load(model, variant)
    answer = await executor.run(WORKERS[0], model, variant, ROWS)
    assert np.isnan(answer["y"][0, 0])
    assert answer["y"][1, 0] == 1.0


async def test_what_was_not_asked_for_is_left_out(executor, servers, far):
    def more(request):
        told = summed(request)
        told.outputs.add(name="z", datatype="FP32", shape=[7])
        told.raw_output_contents.append(b"x" * 28)
        return told

    servers[0].infer = more
    model, variant = far(servers[0])
    executor.load(model, variant)
    assert list(await executor.run(WORKERS[0], model, variant, ROWS)) == ["y"]


async def test_one_that_fails_quickly_is_not_asked_first_for_ever(executor, servers, far):
    model, variant = far(*servers)
    executor.load(model, variant)
    servers[0].infer = refusing(grpc.StatusCode.RESOURCE_EXHAUSTED)
    for _ in range(30):
        answer = await executor.run(WORKERS[0], model, variant, ROWS, 5.0)
        assert answer["y"].tolist() == SUMS
    # Three in a row, and then one of them now and then to see.
    assert len(servers[0].asked) < 10


async def test_a_server_that_says_unavailable_is_looked_at_and_used_again_at_once(
    executor, servers, far
):
    returned: list[int] = []
    model, variant = far(servers[0])
    executor.load(model, variant)
    executor.on_return(lambda: returned.append(1))
    for _ in range(5):
        # As Triton does when its queue is full.
        servers[0].infer = refusing(grpc.StatusCode.UNAVAILABLE)
        with pytest.raises(ExecutorUnavailable, match="UNAVAILABLE: on purpose"):
            await executor.run(WORKERS[0], model, variant, ROWS, 5.0)
        servers[0].infer = summed
        answer = await executor.run(WORKERS[0], model, variant, ROWS, 5.0)
        assert answer["y"].tolist() == SUMS
    assert not returned


# --- others than they were ----------------------------------------------------------------------


async def test_one_that_comes_back_with_another_model_is_not_used_until_it_has_it(
    executor, servers, far
):
    returned: list[int] = []
    model, variant = far(servers[0])
    executor.load(model, variant)
    executor.on_return(lambda: returned.append(1))
    servers[0].stop()
    hosted = executor._loaded["m", "large", model.generation].pool.hosted[0]
    await asyncio.to_thread(until, lambda: not hosted.usable)
    servers[0].shape = [-1, 4]
    servers[0].start()

    async def refused(reason: str) -> None:
        async def so() -> bool:
            try:
                await executor.run(WORKERS[0], model, variant, ROWS, 1.0)
            except ExecutorUnavailable as error:
                return reason in str(error)
            raise AssertionError("it ran")

        await until_so(so)

    await refused("its model 'm' has x FP32[4] -> y FP32[1] now, and this one has x FP32[3]")
    servers[0].shape, servers[0].most_rows = [-1, 3], 4
    await refused("takes 4 rows now, and batches have up to 8")
    servers[0].most_rows, servers[0].has_model = 8, False
    await refused("says that its model 'm' is not ready")
    asked = len(servers[0].asked)
    servers[0].has_model = True
    await asyncio.to_thread(until, lambda: returned)
    answer = await executor.run(WORKERS[0], model, variant, ROWS)
    assert answer["y"].tolist() == SUMS
    assert len(servers[0].asked) == asked + 1


@pytest.mark.parametrize("code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND])
async def test_one_whose_model_is_exchanged_while_it_is_used_is_found_out(
    executor, servers, far, code
):
    model, variant = far(*servers)
    executor.load(model, variant)
    servers[0].shape = [-1, 4]
    servers[0].infer = refusing(code)

    async def seen() -> None:
        while executor._loaded["m", "large", model.generation].pool.hosted[0].fit:
            if code is grpc.StatusCode.INVALID_ARGUMENT:
                try:
                    await executor.run(WORKERS[0], model, variant, ROWS, 5.0)
                except RuntimeError:
                    continue
            else:
                answer = await executor.run(WORKERS[0], model, variant, ROWS, 5.0)
                assert answer["y"].tolist() == SUMS

    async with asyncio.timeout(20):
        await seen()
    asked = len(servers[0].asked)
    for _ in range(10):
        await executor.run(WORKERS[0], model, variant, ROWS, 5.0)
    assert len(servers[0].asked) == asked


# --- silence --------------------------------------------------------------------------------------


async def test_a_run_of_which_nothing_is_heard_is_given_up(executor, servers, far, monkeypatch):
    model, variant = far(servers[0])
    executor.load(model, variant)
    servers[0].gate.clear()
    run = asyncio.ensure_future(executor.run(WORKERS[0], model, variant, ROWS))
    await asyncio.to_thread(until, lambda: servers[0].under_way == 1)
    # One that says that it is there may take its time.
    done, _ = await asyncio.wait([run], timeout=0.6)
    assert not done
    servers[0].speaks.clear()
    monkeypatch.setattr(endpoint, "LOOK_WITHIN", 0.1)
    monkeypatch.setattr(endpoint, "SILENT_AFTER", 0.3)
    async with asyncio.timeout(20):
        with pytest.raises(ExecutorUnavailable, match="DEADLINE_EXCEEDED"):
            await run
    monkeypatch.undo()
    servers[0].speaks.set()
    servers[0].gate.set()

    async def runs() -> bool:
        try:
            answer = await executor.run(WORKERS[0], model, variant, ROWS)
        except ExecutorUnavailable:
            return False
        return answer["y"].tolist() == SUMS

    await until_so(runs)


async def test_one_that_is_frozen_is_found_out_while_there_is_time(executor, servers, far):
    model, variant = far(servers[0])
    executor.load(model, variant)
    for _ in range(2 * observed.ENOUGH):
        await executor.run(WORKERS[0], model, variant, ROWS, 10.0)
    # A run that takes long there, of a server that says that it is there, may do so.
    servers[0].gate.clear()
    run = asyncio.ensure_future(executor.run(WORKERS[0], model, variant, ROWS, 60.0))
    done, _ = await asyncio.wait([run], timeout=3 * endpoint.PROMPT)
    assert not done
    servers[0].speaks.clear()
    # Also if it is the first that is so large.
    rows = {"x": np.ones((8, 3), np.float32)}
    other = asyncio.ensure_future(executor.run(WORKERS[1], model, variant, rows, 60.0))
    for each in (run, other):
        with pytest.raises(ExecutorUnavailable, match="no remote server can run it"):
            async with asyncio.timeout(10):
                await each


async def test_who_waits_when_the_executor_is_closed_hears_of_it(executor, servers, far):
    model, variant = far(servers[0], more="slots = 1\n")
    executor.load(model, variant)
    servers[0].gate.clear()
    runs = [asyncio.ensure_future(executor.run(w, model, variant, ROWS)) for w in WORKERS[:3]]
    await asyncio.to_thread(until, lambda: servers[0].under_way == 1)
    await asyncio.to_thread(executor.close)
    async with asyncio.timeout(10):
        told = await asyncio.gather(*runs, return_exceptions=True)
    assert [type(each) for each in told] == [ExecutorUnavailable] * 3
    await asyncio.to_thread(until, lambda: servers[0].cancelled == 1)


async def test_who_leaves_while_waiting_for_a_place_takes_none(executor, servers, far):
    model, variant = far(servers[0], more="slots = 1\n")
    executor.load(model, variant)
    servers[0].gate.clear()
    first, second = (
        asyncio.ensure_future(executor.run(worker, model, variant, ROWS)) for worker in WORKERS[:2]
    )
    await asyncio.to_thread(until, lambda: servers[0].under_way == 1)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await asyncio.to_thread(until, lambda: servers[0].cancelled == 1)
    servers[0].gate.set()
    assert (await executor.run(WORKERS[0], model, variant, ROWS))["y"].tolist() == SUMS
    assert len(servers[0].asked) == 2


# --- size -----------------------------------------------------------------------------------------


async def test_messages_may_be_large(executor, servers, far):
    width = 2**21
    wide = TensorSpec("x", "FP32", (width,)), TensorSpec("y", "FP32", (width,))
    signature = Signature((wide[0],), (wide[1],))

    def echo(request):
        told = pb.ModelInferResponse(raw_output_contents=request.raw_input_contents)
        told.outputs.add(name="y", datatype="FP32", shape=request.inputs[0].shape)
        return told

    server = servers[0]
    server.shape = server.given = [-1, width]
    server.infer = echo
    _, variant = far(server)
    model = replace(make_model(signature=signature), variants=(variant,))
    executor.load(model, variant)
    rows = np.arange(2 * width, dtype=np.float32).reshape(2, width)
    answer = await executor.run(WORKERS[0], model, variant, {"x": rows}, 20.0)
    assert np.array_equal(answer["y"], rows)


async def test_an_answer_beyond_what_a_batch_may_hold_is_not_taken(
    executor, servers, far, monkeypatch
):
    options = [
        (name, 4096 if name == "grpc.max_receive_message_length" else value)
        for name, value in endpoint._OPTIONS
    ]
    monkeypatch.setattr(endpoint, "_OPTIONS", options)

    def much(request):
        told = summed(request)
        told.raw_output_contents.append(b"x" * 5000)
        return told

    for server in servers:
        server.infer = much
    model, variant = far(*servers)
    executor.load(model, variant)
    with pytest.raises(ExecutorUnavailable, match="RESOURCE_EXHAUSTED"):
        await executor.run(WORKERS[0], model, variant, ROWS, 5.0)
