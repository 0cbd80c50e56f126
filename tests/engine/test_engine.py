"""The engine around the real core, with the fake executor, in virtual time."""

from __future__ import annotations

import asyncio
import random

import numpy as np
import pytest

from engine_bench import MS, Bench, infer
from gearshift.core.request import Request
from gearshift.engine import Answer
from gearshift.errors import (
    BudgetInfeasible,
    DeadlineExpired,
    ExecutorFailed,
    InvalidInput,
    ModelNotFound,
    NotReady,
    Overloaded,
)
from virtual import virtual


@virtual
async def test_one_request_gets_the_most_accurate_and_its_own_answer():
    bench = Bench()
    answer = await bench.ask(2.0)
    assert answer.variant.name == "large"
    assert answer.outputs["y"].tolist() == [[6.0]]
    assert (answer.reason, answer.batch_size, answer.service_class) == (
        "most_accurate",
        1,
        "default",
    )
    assert answer.compute == pytest.approx(10 * MS)
    assert answer.queue == 0
    (event,) = bench.telemetry.settleds
    assert (event.outcome, event.status, event.variant) == ("served", "OK", "large")
    assert event.accuracy == 0.95
    assert event.deficit == 0


@virtual
async def test_arrivals_of_the_same_moment_share_a_batch_and_keep_their_rows():
    bench = Bench()
    answers = await asyncio.gather(*(bench.ask(v, rows=r) for v, r in ((1, 1), (2, 3), (5, 2))))
    assert [a.outputs["y"].tolist() for a in answers] == [
        [[3.0]],
        [[6.0]] * 3,
        [[15.0]] * 2,
    ]
    assert {a.batch_size for a in answers} == {6}
    assert bench.executor.runs == [("large", 6)]
    (ran,) = bench.telemetry.rans
    assert (ran.requests, ran.rows, ran.failed) == (3, 6, False)


@virtual
async def test_a_run_is_compared_with_what_it_was_dispatched_by_not_with_what_it_taught():
    bench = Bench(duration=lambda variant, rows: 0.5)
    for _ in range(6):
        await bench.ask()
    predicted = [ran.p50 for ran in bench.telemetry.rans]
    taught = next(n for n, p50 in enumerate(predicted) if p50 > 11 * MS)
    assert predicted[:taught] == pytest.approx([10 * MS] * taught)
    assert taught >= 2  # the run that moved the tables had been dispatched by the old ones
    assert all(ran.p99 >= ran.p50 for ran in bench.telemetry.rans)


@virtual
async def test_budget_and_deadline_alone_shift_down():
    bench = Bench()
    assert (await bench.ask(latency_budget_ms=5)).variant.name == "small"
    answer = await bench.ask(remaining=5 * MS)
    assert answer.variant.name == "small"
    assert answer.reason == "budget"
    assert answer.budget == pytest.approx(5 * MS)


@virtual
async def test_ten_deadlines_below_the_only_run_time_cost_nothing():
    bench = Bench(predicted={"large": (0.5, 0.0), "small": (0.5, 0.0)})
    begun = bench.loop.time()
    results = await asyncio.gather(
        *(bench.ask(remaining=0.3) for _ in range(10)), return_exceptions=True
    )
    assert [type(r) for r in results] == [BudgetInfeasible] * 10
    assert bench.executor.runs == []
    assert bench.loop.time() == begun
    assert bench.telemetry.outcomes() == {"infeasible": 10}


@virtual
async def test_what_expires_in_the_queue_is_told_at_its_latest_start():
    bench = Bench(duration=lambda variant, rows: 50 * MS)
    first = asyncio.ensure_future(bench.ask())
    await asyncio.sleep(1 * MS)
    with pytest.raises(DeadlineExpired, match="15 ms budget"):
        await bench.ask(latency_budget_ms=15)
    assert bench.loop.time() == pytest.approx(15 * MS, abs=1e-6)
    await first
    assert bench.telemetry.outcomes() == {"served": 1, "expired": 1}
    assert bench.executor.runs == [("large", 1)]


@virtual
async def test_nobody_waits_past_the_deadline_for_a_run_that_drags():
    bench = Bench(duration=lambda variant, rows: 5.0)
    with pytest.raises(DeadlineExpired, match="longer than predicted"):
        await bench.ask(service_class="realtime")
    assert bench.loop.time() == pytest.approx(20 * MS)
    assert bench.telemetry.outcomes() == {"late": 1}


@virtual
async def test_members_of_one_run_fall_out_at_their_own_deadlines():
    bench = Bench(duration=lambda variant, rows: 40 * MS)
    results = await asyncio.gather(
        bench.ask(latency_budget_ms=12),
        bench.ask(latency_budget_ms=30),
        bench.ask(7.0),
        return_exceptions=True,
    )
    assert [type(r) for r in results[:2]] == [DeadlineExpired] * 2
    assert results[2].outputs["y"].tolist() == [[21.0]]
    assert bench.executor.runs == [("large", 3)]


@virtual
async def test_a_class_that_values_late_answers_gets_them():
    bench = Bench(duration=lambda variant, rows: 50 * MS)
    answer = await bench.ask(service_class="archive")
    assert answer.outputs["y"].tolist() == [[3.0]]
    assert bench.telemetry.outcomes() == {"late": 1}
    assert bench.telemetry.settleds[0].slack == pytest.approx(-30 * MS)


@virtual
async def test_cancelling_one_in_the_middle_of_a_batch_leaves_its_neighbours_alone():
    bench = Bench()
    tasks = [asyncio.ensure_future(bench.ask(float(v))) for v in range(4)]
    await asyncio.sleep(5 * MS)
    tasks[1].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[1], asyncio.CancelledError)
    assert [results[i].outputs["y"].tolist() for i in (0, 2, 3)] == [[[0.0]], [[6.0]], [[9.0]]]
    assert bench.telemetry.outcomes() == {"served": 3, "cancelled": 1}


@virtual
async def test_a_caller_that_leaves_at_the_very_end_of_a_run_leaves_its_neighbours_alone():
    bench = Bench()
    tasks: list[asyncio.Task] = []

    async def sleep_and_leave(seconds: float) -> None:
        await asyncio.sleep(seconds)
        # In the same turn of the loop in which the answers are handed out.
        bench.engine.abandon(bench.engine._settling._flights[2])

    bench.executor._sleep = sleep_and_leave
    tasks += [asyncio.ensure_future(bench.ask(float(v))) for v in range(4)]
    async with asyncio.timeout(1):
        results = await asyncio.gather(*(tasks[i] for i in (0, 2, 3)))
    assert not tasks[1].done()  # nobody tells who has left
    tasks[1].cancel()
    assert [result.outputs["y"].tolist() for result in results] == [[[0.0]], [[6.0]], [[9.0]]]
    assert bench.telemetry.outcomes() == {"served": 3, "cancelled": 1}


@virtual
async def test_a_caller_that_leaves_the_queue_frees_its_place():
    bench = Bench()
    first = asyncio.ensure_future(bench.ask())
    await asyncio.sleep(1 * MS)
    second = asyncio.ensure_future(bench.ask(2.0))
    third = asyncio.ensure_future(bench.ask(3.0))
    await asyncio.sleep(1 * MS)
    assert bench.telemetry.queued["m", "default"] == 2
    second.cancel()
    await asyncio.sleep(0)
    assert bench.telemetry.queued["m", "default"] == 1
    assert (await third).outputs["y"].tolist() == [[9.0]]
    await first
    assert bench.executor.runs == [("large", 1), ("large", 1)]


@virtual
async def test_a_batch_whose_callers_all_left_before_it_began_does_not_run():
    bench = Bench()
    task = asyncio.ensure_future(bench.ask())
    while not bench.telemetry.queued:  # noqa: ASYNC110 - the turn of the loop matters
        await asyncio.sleep(0)
    # Decided in the next turn of the loop, run in the one after; the caller leaves between.
    bench.loop.call_soon(bench.engine.abandon, bench.engine._settling._flights[1])
    await asyncio.sleep(1)
    task.cancel()
    assert bench.telemetry.outcomes() == {"cancelled": 1}
    assert bench.executor.runs == []
    assert (await bench.ask(4.0)).outputs["y"].tolist() == [[12.0]]


@virtual
async def test_a_thousand_random_cancellations_never_touch_a_neighbour():
    rng = random.Random(7)
    bench = Bench(
        predicted={"large": (4 * MS, 0.0), "small": (1 * MS, 0.0)},
        duration=lambda variant, rows: rng.uniform(0.5, 3) * MS,
        workers=2,
    )

    async def one(value: int):
        await asyncio.sleep(rng.uniform(0, 500 * MS))
        return await bench.ask(float(value), rows=rng.randint(1, 3))

    tasks = {value: asyncio.ensure_future(one(value)) for value in range(3000)}
    doomed = set(rng.sample(sorted(tasks), 1000))
    for value in doomed:
        bench.loop.call_later(rng.uniform(0, 510 * MS), tasks[value].cancel)
    results = await asyncio.gather(*tasks.values(), return_exceptions=True)
    cancelled = 0
    for value, result in zip(tasks, results, strict=True):
        if isinstance(result, asyncio.CancelledError):
            assert value in doomed
            cancelled += 1
            continue
        assert not isinstance(result, BaseException), result
        assert np.unique(result.outputs["y"]).tolist() == [3.0 * value]
    assert cancelled > 300
    assert sum(bench.telemetry.queued.values()) == 0
    outcomes = bench.telemetry.outcomes()
    assert outcomes["served"] == 3000 - cancelled
    assert set(outcomes) == {"served", "cancelled"}


@virtual
async def test_a_failing_executor_fails_only_its_batch_and_hides_its_text(capsys):
    bench = Bench()

    async def breaking(*args):
        raise RuntimeError("secret path /etc")

    healthy = bench.executor.run
    bench.executor.run = breaking
    results = await asyncio.gather(bench.ask(), bench.ask(), return_exceptions=True)
    assert [type(r) for r in results] == [ExecutorFailed] * 2
    assert "secret" not in str(results[0])
    assert results[0].reference in str(results[0])
    bench.executor.run = healthy
    assert (await bench.ask(1.0)).outputs["y"].tolist() == [[3.0]]
    assert bench.telemetry.outcomes() == {"failed": 2, "served": 1}
    assert bench.telemetry.rans[0].failed
    logged = capsys.readouterr().out
    assert "secret path" in logged
    assert results[0].reference in logged


@virtual
async def test_an_answer_that_cannot_be_given_is_no_answer_and_its_neighbours_get_theirs():
    """As one whose place in shared memory is gone by then."""
    bench = Bench()
    problem = InvalidInput("its place is gone")
    replies: list[Answer | Exception] = []

    def refuse(ending: Answer | Exception) -> Exception:
        replies.append(ending)
        return problem

    request = Request(model="m", rows=1)
    inputs = {"x": np.ones((1, 3), np.float32)}
    bench.engine.submit(request, inputs, bench.loop.time(), refuse)
    assert (await bench.ask(2.0)).outputs["y"].tolist() == [[6.0]]
    assert len(replies) == 1
    assert bench.telemetry.outcomes() == {"invalid": 1, "served": 1}
    refused = bench.telemetry.settleds[0]
    assert (refused.variant, refused.status, refused.accuracy) == (
        "large",
        "INVALID_ARGUMENT",
        None,
    )
    await bench.engine.drain(1.0)


@virtual
async def test_outputs_of_a_wrong_shape_reach_nobody():
    bench = Bench()

    async def short(*args):
        return {"y": np.zeros((3, 1), np.float32)}

    bench.executor.run = short
    results = await asyncio.gather(bench.ask(), bench.ask(), return_exceptions=True)
    assert [type(r) for r in results] == [ExecutorFailed] * 2


@virtual
async def test_what_is_wrong_is_refused_and_counted():
    bench = Bench()
    with pytest.raises(InvalidInput):
        await bench.ask(latency_budget_ms=-1)
    with pytest.raises(ModelNotFound):
        await infer(bench.engine, Request(model="nope", rows=1, parameters={}), {}, 0.0)
    bench.engine.refused(InvalidInput("no inputs"), 0.0, "m")
    assert [(e.model, e.outcome) for e in bench.telemetry.settleds] == [
        ("m", "invalid"),
        ("", "invalid"),
        ("m", "invalid"),
    ]


@virtual
async def test_overload_is_refused_at_once_and_the_admitted_are_in_time():
    bench = Bench(predicted={"large": (0, 10 * MS), "small": (0, 1 * MS)})
    results = await asyncio.gather(
        *(bench.ask(latency_budget_ms=19.5) for _ in range(100)), return_exceptions=True
    )
    refused = [r for r in results if isinstance(r, Overloaded)]
    served = [r for r in results if not isinstance(r, BaseException)]
    assert len(refused) + len(served) == 100
    assert len(served) == 19
    assert all(r.retry_after > 0 for r in refused)
    assert bench.telemetry.outcomes()["late"] == 0


@virtual
async def test_a_drain_answers_what_was_admitted_and_refuses_the_rest():
    bench = Bench()
    first = asyncio.ensure_future(bench.ask())
    await asyncio.sleep(1 * MS)
    second = asyncio.ensure_future(bench.ask())
    await asyncio.sleep(1 * MS)
    drain = asyncio.ensure_future(bench.engine.drain(1.0))
    await asyncio.sleep(0)
    assert not bench.engine.ready
    with pytest.raises(NotReady):
        await bench.ask()
    await drain
    assert first.done()
    assert second.done()
    assert first.exception() is None
    assert bench.loop.time() == pytest.approx(20 * MS)


@virtual
async def test_a_drain_ends_in_time_even_if_a_run_does_not():
    bench = Bench(duration=lambda variant, rows: 3600.0)
    tasks = [asyncio.ensure_future(bench.ask()) for _ in range(3)]
    await asyncio.sleep(1 * MS)
    await bench.engine.drain(2.0)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(r) for r in results] == [NotReady] * 3
    assert bench.loop.time() == pytest.approx(2.001)
    await asyncio.sleep(0)


@virtual
async def test_telemetry_hears_what_a_refused_caller_reads():
    bench = Bench(duration=lambda variant, rows: 1.0)
    events = []
    bench.telemetry.settled = events.append
    told = []
    asked = [
        bench.ask(budget=1),
        bench.ask(service_class="realtime", latency_budget_ms=0.5),
        bench.ask(service_class="realtime", variant="small"),
        bench.ask(service_class="realtime", variant="small"),
    ]
    for result in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(result, Exception)
        told.append(str(result))
    assert sorted(event.message for event in events) == sorted(told)
    assert all(told)
