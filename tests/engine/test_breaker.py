"""A variant that keeps failing is taken out, and tried again in time."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from engine_bench import MS
from faulty_bench import FaultyBench
from gearshift.core.breaker import IN_A_ROW
from gearshift.core.request import Request
from gearshift.errors import ExecutorFailed, ExecutorUnavailable, RequestError
from gearshift.executors.fault_plan import Fault, Kind
from virtual import virtual

pytestmark = pytest.mark.usefixtures("no_tracebacks")


@virtual
async def test_the_breaker_takes_a_bad_variant_out_and_back():
    bench = FaultyBench(Fault(kind=Kind.THROW, variant="large"))
    for _ in range(20):
        assert (await bench.ask()).variant.name == "small"
    assert bench.faulty.struck[Kind.THROW] == IN_A_ROW
    assert bench.telemetry.opened == {("m", "large"): 1}
    assert bench.telemetry.breakers[-1] == ("m", "large", 2)
    begun = bench.loop.time()
    with pytest.raises(ExecutorUnavailable, match="'large' of model 'm' keeps failing") as told:
        await bench.ask(variant="large")
    with pytest.raises(ExecutorUnavailable, match="no other that works would do"):
        await bench.ask(min_accuracy=0.9)
    assert 0.3 < told.value.retry_after <= 0.6
    assert bench.loop.time() == begun
    bench.goes_wrong()
    await asyncio.sleep(told.value.retry_after)
    assert (await bench.ask()).variant.name == "large"
    assert bench.telemetry.breakers[-2:] == [("m", "large", 1), ("m", "large", 0)]
    answers = await asyncio.gather(*(bench.ask() for _ in range(4)))
    assert {answer.variant.name for answer in answers} == {"large"}


@virtual
async def test_explain_says_that_a_variant_keeps_failing():
    bench = FaultyBench(Fault(kind=Kind.THROW, variant="large"))
    for _ in range(IN_A_ROW):
        await bench.ask()
    told = bench.engine.explain(Request(model="m", rows=1))
    assert (told.chosen, told.reason) == ("small", "fallback")
    large = next(gear for gear in told.gears if gear.name == "large")
    assert large.verdict == "broken"
    assert "tries it again in" in large.why
    pinned = bench.engine.explain(Request(model="m", rows=1, parameters={"variant": "large"}))
    assert isinstance(pinned.refused, ExecutorUnavailable)
    await asyncio.sleep(5)
    assert bench.engine.explain(Request(model="m", rows=1)).chosen == "small"


@virtual
async def test_half_open_risks_one_request_at_a_time_and_one_that_has_time_for_another():
    bench = FaultyBench(Fault(kind=Kind.THROW, variant="large"), workers=2)
    for _ in range(IN_A_ROW):
        await bench.ask()
    await asyncio.sleep(1)
    struck = bench.faulty.struck[Kind.THROW]
    with pytest.raises(ExecutorUnavailable):
        await asyncio.gather(bench.ask(), bench.ask(min_accuracy=0.9))
    assert bench.faulty.struck[Kind.THROW] == struck + 1
    await asyncio.sleep(3)
    # In time for one of the two, but not for one after the other.
    assert (await bench.ask(latency_budget_ms=10.5)).variant.name == "small"
    assert bench.faulty.struck[Kind.THROW] == struck + 1
    answers = await asyncio.gather(*(bench.ask() for _ in range(6)))
    assert {answer.variant.name for answer in answers} == {"small"}
    assert bench.faulty.struck[Kind.THROW] == struck + 2


@virtual
async def test_where_everything_fails_requests_are_refused_at_once_but_one_in_each_back_off():
    bench = FaultyBench(Fault(kind=Kind.THROW))
    ends: Counter[type] = Counter()
    for _ in range(1000):
        try:
            await bench.ask(service_class="realtime")
        except RequestError as error:
            ends[type(error)] += 1
            if isinstance(error, ExecutorUnavailable):
                assert error.retry_after is not None
        await asyncio.sleep(30 * MS)
    assert sum(ends.values()) == 1000
    assert set(ends) == {ExecutorFailed, ExecutorUnavailable}
    assert ends[ExecutorFailed] < 60
    bench.goes_wrong()
    await asyncio.sleep(61)
    await bench.ask()
    await bench.ask()
    await asyncio.sleep(61)
    assert (await bench.ask(variant="large")).variant.name == "large"
    assert (await bench.ask(variant="small")).variant.name == "small"


@virtual
async def test_who_waits_for_nothing_else_when_a_variant_is_taken_out_is_told():
    bench = FaultyBench(Fault(kind=Kind.THROW, variant="large"))
    for _ in range(IN_A_ROW - 1):
        await bench.ask()
    asked = [bench.ask(), *(bench.ask(min_accuracy=0.9, rows=8) for _ in range(3))]
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert results[0].variant.name == "small"
    assert Counter(type(each) for each in results[1:])[ExecutorUnavailable] >= 1
    assert bench.engine._scheduler.waiting == 0
