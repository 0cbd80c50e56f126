"""Whatever a run does, its members are settled once, and by something that works if that can be."""

from __future__ import annotations

import asyncio
import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_bench import MS
from faulty_bench import FaultyBench
from gearshift.core.breaker import IN_A_ROW
from gearshift.engine.running import MOST_STUCK
from gearshift.errors import (
    DeadlineExpired,
    ExecutorFailed,
    ExecutorUnavailable,
    InvalidInput,
    RequestError,
)
from gearshift.executors.fault_plan import Fault, Kind
from virtual import run_virtual, virtual

pytestmark = pytest.mark.usefixtures("no_tracebacks")


UNFIT = (Kind.NAN, Kind.INFINITY)
"""The run went on; its answers are not fit."""

BROKEN = [
    Kind.THROW,
    Kind.SHAPE,
    Kind.DTYPE,
    Kind.MISSING,
    Kind.NAN,
    Kind.INFINITY,
    Kind.MEMORY,
    Kind.LOST,
]


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("service_class", ["default", "realtime", "archive"])
@virtual
async def test_another_variant_answers_in_time(kind, service_class):
    bench = FaultyBench(Fault(kind=kind, variant="large"))
    answer = await bench.ask(2.0, service_class=service_class)
    assert (answer.variant.name, answer.reason) == ("small", "fallback")
    assert answer.outputs["y"].tolist() == [[6.0]]
    assert bench.telemetry.outcomes() == {"served": 1}
    assert bench.telemetry.chances == {("m", "large", True): 1}
    assert [ran.failed for ran in bench.telemetry.rans] == [kind not in UNFIT, False]
    assert bench.telemetry.queued == {("m", service_class): 0}
    lost = {("cpu", "crashed"): 1} if kind is Kind.LOST else {}
    assert bench.telemetry.lost == lost
    assert len(bench.executor.replaced) == len(lost)


@pytest.mark.parametrize("kind", BROKEN)
@virtual
async def test_who_has_no_other_variant_hears_that_it_failed(kind):
    bench = FaultyBench(Fault(kind=kind, variant="large"))
    with pytest.raises(ExecutorFailed):
        await bench.ask(variant="large")
    with pytest.raises((ExecutorFailed, ExecutorUnavailable)):
        await bench.ask(min_accuracy=0.9)
    assert bench.telemetry.chances == {}
    assert "small" not in bench.ran


@virtual
async def test_who_has_no_time_for_another_hears_that_it_failed():
    bench = FaultyBench(Fault(kind=Kind.SHAPE, variant="large"))
    with pytest.raises(ExecutorFailed):
        await bench.ask(latency_budget_ms=10.5)
    assert bench.loop.time() == pytest.approx(10 * MS)


@virtual
async def test_who_fails_twice_hears_it_at_once():
    bench = FaultyBench(Fault(kind=Kind.THROW))
    with pytest.raises(ExecutorFailed):
        await bench.ask()
    assert bench.telemetry.chances == {("m", "large", False): 1}
    assert bench.telemetry.outcomes() == {"failed": 1}


@virtual
async def test_a_poisonous_request_costs_its_neighbours_nothing():
    bench = FaultyBench(Fault(kind=Kind.THROW, poison=666))
    values = [1.0, 2.0, 666.0, 3.0]
    results = await asyncio.gather(*(bench.ask(v) for v in values), return_exceptions=True)
    assert isinstance(results.pop(2), ExecutorFailed)
    assert [r.outputs["y"].tolist() for r in results] == [[[3.0]], [[6.0]], [[9.0]]]
    assert {r.batch_size for r in results} == {1}


@virtual
async def test_a_poisonous_request_takes_no_variant_out():
    bench = FaultyBench(Fault(kind=Kind.LOST, poison=666))
    for _ in range(3 * IN_A_ROW):
        with pytest.raises(ExecutorFailed):
            await bench.ask(666)
        assert (await bench.ask(1)).variant.name == "large"
    assert bench.telemetry.breakers[-1][2] == 0


@virtual
async def test_rows_that_are_not_finite_concern_nobody_else():
    bench = FaultyBench(Fault(kind=Kind.NAN, variant="large"))
    first, second = await asyncio.gather(bench.ask(1.0), bench.ask(2.0, rows=2))
    assert (first.variant.name, second.variant.name) == ("small", "large")
    assert first.outputs["y"].tolist() == [[3.0]]
    assert second.outputs["y"].tolist() == [[6.0]] * 2


@virtual
async def test_nobody_takes_a_variant_out_with_nan_in_his_inputs():
    bench = FaultyBench()
    for value in [math.nan, math.inf] * 20:
        with pytest.raises(InvalidInput, match="'x' holds values that are not finite"):
            await bench.ask(value)
    assert (await bench.ask()).variant.name == "large"
    assert bench.telemetry.breakers == []
    bench.goes_wrong(Fault(kind=Kind.THROW, poison=math.inf))
    for _ in range(20):
        with pytest.raises(ExecutorFailed):
            await bench.ask(math.inf)
    assert bench.telemetry.breakers == []
    assert bench.telemetry.outcomes()["invalid"] == 40


@virtual
async def test_a_run_that_hangs_is_left_for_another_variant_while_there_is_time():
    bench = FaultyBench(Fault(kind=Kind.HANG, variant="large", count=1), workers=2)
    answer = await bench.ask(latency_budget_ms=1000)
    assert answer.variant.name == "small"
    assert bench.loop.time() < 0.2
    await asyncio.sleep(10)
    assert bench.telemetry.lost == {("cpu", "hung"): 1}
    assert [worker.id for worker in bench.executor.replaced] == [
        bench.telemetry.rans[-1].worker,
    ]
    answers = await asyncio.gather(*(bench.ask(rows=8) for _ in range(2)))
    assert all(answer.variant.name == "large" for answer in answers)


@virtual
async def test_who_has_no_deadline_waits_for_a_hung_run_until_it_is_given_up():
    bench = FaultyBench(Fault(kind=Kind.HANG, variant="large", count=1))
    answer = await bench.ask()
    assert answer.variant.name == "small"
    assert bench.loop.time() == pytest.approx(5.0, abs=0.2)


@virtual
async def test_who_is_pinned_to_what_hangs_hears_it_within_the_budget():
    bench = FaultyBench(Fault(kind=Kind.HANG, variant="large"))
    with pytest.raises(DeadlineExpired):
        await bench.ask(variant="large", latency_budget_ms=300)
    assert bench.loop.time() == pytest.approx(0.3)
    await asyncio.sleep(5)
    bench.goes_wrong()
    await asyncio.sleep(2)
    assert (await bench.ask(variant="large")).variant.name == "large"


@virtual
async def test_an_overdue_run_that_ends_after_all_answers_who_still_waits():
    bench = FaultyBench(Fault(kind=Kind.SLOW, variant="large", amount=20))
    answer = await bench.ask(latency_budget_ms=1000)
    assert (answer.variant.name, answer.reason) == ("large", "most_accurate")
    assert bench.loop.time() == pytest.approx(0.2)
    assert bench.ran == ["large"]
    assert bench.telemetry.queued == {("m", "default"): 0}
    assert bench.engine._scheduler.waiting == 0


@virtual
async def test_too_many_hung_runs_and_the_server_is_not_alive():
    bench = FaultyBench(Fault(kind=Kind.HANG, variant="large"), workers=2)

    def stuck(self):
        return len(bench.executor.replaced)

    type(bench.executor).stuck, before = property(stuck), type(bench.executor).stuck
    try:
        while len(bench.executor.replaced) < MOST_STUCK:
            assert bench.engine.alive
            assert bench.engine.ready
            assert (await bench.ask()).variant.name == "small"
            await asyncio.sleep(120)
        assert not bench.engine.alive
        assert not bench.engine.ready
        assert (await bench.ask()).variant.name == "small"
        await asyncio.sleep(120)
        assert len(bench.executor.replaced) == MOST_STUCK
        bench.executor.replaced.clear()
        assert bench.engine.alive
    finally:
        type(bench.executor).stuck = before
        await bench.engine.drain(1.0)


@virtual
async def test_a_worker_that_cannot_be_made_anew_is_tried_again():
    bench = FaultyBench(Fault(kind=Kind.LOST, count=1), workers=1)
    tries = []

    async def replace(worker):
        tries.append(bench.loop.time())
        if len(tries) < 4:
            raise OSError("no more threads")

    bench.faulty.replace = replace
    assert (await bench.ask()).variant.name == "small"
    assert len(tries) == 4
    assert bench.loop.time() == pytest.approx(0.7, abs=0.1)


@virtual
async def test_a_run_that_fails_teaches_nothing_about_latency():
    bench = FaultyBench(Fault(kind=Kind.THROW, probability=0.3))
    before = next(iter(bench.engine._scheduler._lanes.every)).runnable[0].p50s[1]
    for _ in range(100):
        await asyncio.gather(bench.ask(), return_exceptions=True)
    assert next(iter(bench.engine._scheduler._lanes.every)).runnable[0].p50s[1] == before


@virtual
async def test_a_process_that_slept_loses_no_worker():
    bench = FaultyBench(workers=2)
    asked = asyncio.ensure_future(bench.ask(variant="large"))
    await asyncio.sleep(1 * MS)
    now = bench.loop.time
    bench.loop.jump(3600)
    assert (await asked).variant.name == "large"
    assert now() > 3600
    await asyncio.sleep(100)
    assert bench.telemetry.lost == {}


FAULTS = st.builds(
    Fault,
    kind=st.sampled_from([*BROKEN, Kind.HANG, Kind.SLOW]),
    variant=st.sampled_from(["", "large", "small"]),
    probability=st.sampled_from([0.1, 0.5, 1.0]),
    end=st.sampled_from([0.05, 0.5, 20.0]),
    poison=st.sampled_from([None, None, 7.0]),
    amount=st.sampled_from([0.0, 3.0, 40.0]),
)


ASKED = st.fixed_dictionaries(
    {"value": st.integers(1, 9).map(float), "rows": st.integers(1, 4)},
    optional={
        "latency_budget_ms": st.sampled_from([2, 15, 40, 200, 3000]),
        "min_accuracy": st.sampled_from([0.5, 0.9]),
        "variant": st.sampled_from(["large", "small"]),
        "service_class": st.sampled_from(["realtime", "archive"]),
    },
)


@settings(max_examples=15, deadline=None)
@given(
    faults=st.lists(FAULTS, max_size=3),
    asked=st.lists(st.tuples(ASKED, st.sampled_from([0.0, 0.0, 5 * MS, 1.0])), max_size=25),
    workers=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_each_is_settled_once_whatever_fails(faults, asked, workers, seed):
    async def work():
        bench = FaultyBench(*faults, seed=seed, workers=workers)
        runs: list[tuple[str, list[float]]] = []
        whole = bench.faulty.run

        async def noted(worker, model, variant, inputs):
            runs.append((variant.name, [*inputs["x"][:, 0]]))
            return await whole(worker, model, variant, inputs)

        bench.faulty.run = noted

        async def one(number: int, wanted: dict):
            value = wanted["value"] + number / 64
            begun = bench.loop.time()
            given = {**wanted, "value": value}
            given["value"] = wanted["value"] if wanted["value"] == 7.0 else value
            try:
                answer = await bench.ask(**given)
            except RequestError:
                answer = None
            else:
                assert answer.outputs["y"].tolist() == [[3 * given["value"]]] * wanted["rows"]
                assert answer.variant.name == wanted.get("variant", answer.variant.name)
                assert answer.variant.accuracy >= wanted.get("min_accuracy", 0.0)
            if wanted.get("service_class") != "archive":
                budget = wanted.get("latency_budget_ms", math.inf) / 1e3
                assert bench.loop.time() - begun <= budget + 1e-6
            return given["value"], answer

        tasks = []
        for number, (wanted, pause) in enumerate(asked):
            tasks.append(asyncio.ensure_future(one(number, wanted)))
            await asyncio.sleep(pause)
        async with asyncio.timeout(3600):
            await asyncio.gather(*tasks)
        tried = Counter((name, value) for name, values in runs for value in set(values))
        for (_, value), times in tried.items():
            # Never twice on the variant that failed it; the poison is one value of many requests.
            assert times == 1 or value == 7.0
        await asyncio.sleep(200)
        assert len(bench.engine._settling) == 0
        assert bench.engine._scheduler.waiting == 0
        assert not bench.engine._faults._moved
        assert sum(bench.telemetry.outcomes().values()) == len(asked)
        assert all(count == 0 for count in bench.telemetry.queued.values())
        await bench.engine.drain(1.0)

    run_virtual(work())
