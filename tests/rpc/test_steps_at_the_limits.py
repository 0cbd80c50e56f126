"""Requests whose inputs are being made, when there are too many, and when the server ends."""

from __future__ import annotations

import asyncio

import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from gearshift.core.limits import Limits
from stepped import asked, refused, step_of, steps, text_of
from waiting import until


@pytest.mark.parametrize(
    ("limits", "name"),
    [(Limits(max_queue=1), "max_queue"), (Limits(max_queue_bytes=250), "max_queue_bytes")],
)
def test_what_waits_to_be_made_is_limited(make_bench, limits, name):
    bench = make_bench(steps=steps(), limits=limits)
    step = step_of(bench)
    step.gate.clear()
    with triton.InferenceServerClient(bench.address) as client:
        first = asked(client, b"1 2 3")
        until(step.begun.is_set)
        second = asked(client, b"4 5 6")
        until(lambda: bench.usage.requests >= 2)
        status, message = refused(client, text_of(b"7 8 9"))
        assert status == "RESOURCE_EXHAUSTED"
        assert f"(setting {name})" in message
        assert bench.usage.reached[name] == 1
        step.gate.set()
        until(lambda: first and second)
    assert bench.usage.queued == 0


def test_a_server_that_ends_answers_those_who_wait(make_bench):
    bench = make_bench(steps=steps())
    step = step_of(bench)
    step.gate.clear()
    with triton.InferenceServerClient(bench.address) as client:
        first = asked(client, b"1 2 3")
        until(step.begun.is_set)
        second = asked(client, b"4 5 6")
        until(lambda: bench.usage.requests >= 2)

        async def end() -> None:
            await bench.engine.drain(0.1)
            asyncio.get_running_loop().call_later(0.2, step.gate.set)

        bench.run(end())
        until(lambda: first and second)
    for (got,) in (first, second):
        assert isinstance(got, InferenceServerException)
        assert got.status() == "StatusCode.UNAVAILABLE"


def test_a_drain_waits_for_those_whose_inputs_are_being_made(make_bench):
    bench = make_bench(steps=steps())
    step = step_of(bench)
    step.gate.clear()
    with triton.InferenceServerClient(bench.address) as client:
        first = asked(client, b"1 2 3")
        until(step.begun.is_set)
        second, broken = asked(client, b"4 5 6"), asked(client, b"1 2")
        until(lambda: bench.usage.requests >= 3)

        async def begun() -> asyncio.Task[None]:
            drain = asyncio.create_task(bench.engine.drain(60.0))
            await asyncio.sleep(0)
            return drain

        drain = bench.run(begun())
        assert refused(client, text_of(b"7 8 9"))[0] == "UNAVAILABLE"
        assert not drain.done()
        step.gate.set()
        until(lambda: first and second and broken)
        until(drain.done)
    assert [got.as_numpy("y").tolist() for (got,) in (first, second)] == [[[6.0]], [[15.0]]]
    assert isinstance(broken[0], InferenceServerException)
    assert broken[0].status() == "StatusCode.INVALID_ARGUMENT"
