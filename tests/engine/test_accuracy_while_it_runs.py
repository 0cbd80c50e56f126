"""Cascades, shadows and revised accuracies in the engine, in virtual time."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import numpy as np
import pytest

from builders import ONE_VECTOR, make_catalog, make_model, make_profiles
from gearshift.core.catalog import Cascade, Late, ServiceClass, Standing
from gearshift.core.request import Request
from gearshift.core.router import Reason
from gearshift.core.scheduler import Scheduler
from gearshift.engine import Answer, Engine, LoopClock
from gearshift.errors import DeadlineExpired, FloorUnreachable
from gearshift.executors.fake import FakeExecutor
from gearshift.ports import EXPRESS, Stage, Worker
from recording import RecordingJournal, RecordingTelemetry
from virtual import virtual

MS = 0.001
CASCADE = Cascade(
    name="both", first="small", then="large", threshold=0.9, escalated=0.25, accuracy=0.94
)
PREDICTED = {"large": (10 * MS, 0.0), "small": (2 * MS, 0.0)}
SURE, UNSURE = 0.99, 0.6


class Scores(FakeExecutor):
    """One score a row, the sum of its inputs; the large one's is 10 more, to be told apart."""

    def run_here(self, model, variant, inputs):
        (scores,) = super().run_here(model, variant, inputs).values()
        return {"y": scores + (10.0 if variant.name == "large" else 0.0)}


class Bench:
    def __init__(
        self, *, slow=1.0, workers=2, share=0.0, cascades=(CASCADE,), device="cpu", late=Late.DROP
    ):
        loop = asyncio.get_running_loop()
        model = make_model(
            classes=(ServiceClass("default", late=late), ServiceClass("strict", floor=0.9))
        )
        model = replace(model, metric="roc_auc", cascades=cascades)
        catalog = make_catalog(model)
        profiles = make_profiles(catalog, PREDICTED, device)
        self.executor = Scores(
            ONE_VECTOR, lambda v, rows: PREDICTED[v][0] * (slow if v == "large" else 1.0)
        )
        for variant in model.variants:
            self.executor.load(model, variant)
        places = [Worker(index, device) for index in range(workers)]
        self.telemetry, self.journal = RecordingTelemetry(), RecordingJournal()
        self.scheduler = Scheduler(catalog, profiles, {w.id: w.device for w in places})
        self.engine = Engine(
            catalog,
            self.scheduler,
            places,
            {"fake": self.executor},
            LoopClock(loop, loop.time),
            self.telemetry,
            self.journal,
            share,
        )
        self.engine.start()

    def ask(self, *scores: float, name: bytes = b"id", **options) -> asyncio.Future[Answer]:
        """Rows whose inputs sum up to these scores; options: remaining, or parameters."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()

        def reply(ending):
            if isinstance(ending, Answer):
                future.set_result(ending)
            else:
                future.set_exception(ending)

        remaining = options.pop("remaining", math.inf)
        request = Request(model="m", rows=len(scores), parameters=options, remaining=remaining)
        inputs = {"x": np.array([[s, 0.0, 0.0] for s in scores], np.float32)}
        self.flight = self.engine.submit(request, inputs, loop.time(), reply, name)
        return future


def outputs(answer: Answer) -> list[float]:
    run, rows = answer.run, answer.ticket.rows
    return [round(float(v), 3) for v in run.outputs["y"][answer.row : answer.row + rows, 0]]


@virtual
async def test_a_sure_answer_is_given_at_once_and_an_unsure_row_goes_on():
    bench = Bench()
    sure, unsure = bench.ask(SURE, name=b"a", variant="both"), bench.ask(UNSURE, variant="both")
    first = await sure
    assert asyncio.get_running_loop().time() == pytest.approx(2 * MS)
    assert not unsure.done()
    assert (first.run.variant.name, outputs(first), first.reason) == ("small", [SURE], "pinned")
    second = await unsure
    assert asyncio.get_running_loop().time() == pytest.approx(12 * MS)
    assert (second.run.variant.name, outputs(second), second.reason) == ("large", [10.6], "pinned")
    # Such answers reach what was measured for the whole, whoever gives them.
    assert first.accuracy == second.accuracy == 0.94
    assert second.ticket.rows == 1
    assert second.cascade is CASCADE
    assert [event.stage for event in bench.telemetry.answereds] == [Stage.FIRST, Stage.THEN]
    assert [event.cascade for event in bench.telemetry.answereds] == ["both", "both"]
    assert [b.requests[0].request_id for b in bench.journal.answers] == [b"a", b"id"]
    assert bench.telemetry.queued == {("m", "default"): 0}


@virtual
async def test_of_several_rows_only_the_unsure_ones_go_on_and_the_answer_has_all():
    bench = Bench()
    answer = await bench.ask(SURE, UNSURE, 0.01, 0.5, variant="both")
    assert outputs(answer) == [SURE, 10.6, 0.01, 10.5]
    assert bench.executor.runs == [("small", 4), ("large", 2)]
    (batch,) = bench.journal.answers
    assert batch.requests[0].rows == 4
    assert len(batch.outputs["y"]) == 4


@virtual
async def test_the_first_answer_is_the_fallback_if_the_second_is_late():
    bench = Bench(slow=3.0)
    answer = await bench.ask(UNSURE, remaining=20 * MS, variant="both")
    now = asyncio.get_running_loop().time()
    assert 18 * MS < now < 20 * MS
    assert (answer.run.variant.name, outputs(answer)) == ("small", [UNSURE])
    assert answer.reason is Reason.FALLBACK
    assert answer.accuracy == 0.80
    assert bench.telemetry.outcomes() == {"served": 1}
    assert bench.telemetry.answereds[0].stage is Stage.FALLBACK
    assert bench.journal.answers[0].requests[0].fallback
    await asyncio.sleep(1)
    assert bench.telemetry.outcomes() == {"served": 1}


@virtual
async def test_nobody_goes_on_where_the_slack_does_not_allow_it():
    bench = Bench(workers=2)
    bench.executor._duration = lambda variant, rows: 12 * MS
    answer = await bench.ask(UNSURE, remaining=15 * MS, variant="both")
    assert asyncio.get_running_loop().time() == pytest.approx(12 * MS)
    assert (answer.reason, outputs(answer)) == (Reason.FALLBACK, [UNSURE])
    assert bench.executor.runs == [("small", 1)]


@virtual
async def test_a_second_that_breaks_costs_nobody_the_first_answer():
    bench = Bench()

    async def broken(worker, model, variant, inputs):
        if variant.name == "large":
            raise RuntimeError("broken")
        return await FakeExecutor.run(bench.executor, worker, model, variant, inputs)

    bench.executor.run = broken
    answer = await bench.ask(UNSURE, variant="both")
    assert (answer.reason, outputs(answer)) == (Reason.FALLBACK, [UNSURE])
    assert bench.telemetry.outcomes() == {"served": 1}


@virtual
async def test_what_is_not_a_number_is_not_sure():
    bench = Bench()
    whole = bench.executor.run_here

    def nan(model, variant, inputs):
        answered = whole(model, variant, inputs)
        return {"y": answered["y"] * np.nan} if variant.name == "small" else answered

    bench.executor.run_here = nan
    assert outputs(await bench.ask(SURE, variant="both")) == [10.99]


@virtual
async def test_where_confidence_cannot_be_told_the_second_of_a_cascade_answers(monkeypatch):
    bench = Bench()

    def broken(model, cascade, run):
        raise ValueError("no confidence")

    monkeypatch.setattr("gearshift.engine.running.unsure_rows", broken)
    answer = await bench.ask(SURE, variant="both")
    assert (outputs(answer), answer.run.variant.name) == ([10.99], "large")
    assert bench.telemetry.chances == {("m", "small", True): 1}


@virtual
async def test_who_leaves_between_the_two_frees_the_place():
    bench = Bench(workers=1)
    future = bench.ask(UNSURE, variant="both")
    flight = bench.flight
    await asyncio.sleep(5 * MS)
    assert flight.first is not None
    bench.engine.abandon(flight)
    assert bench.telemetry.outcomes() == {"cancelled": 1}
    assert len(bench.engine._settling) == 0
    await asyncio.sleep(1)
    assert not future.done()
    assert bench.telemetry.outcomes() == {"cancelled": 1}
    assert bench.telemetry.queued == {("m", "default"): 0}


@virtual
async def test_a_drain_gives_the_first_answer_to_those_who_have_one():
    bench = Bench(slow=1000.0)
    future = bench.ask(UNSURE, variant="both")
    await asyncio.sleep(5 * MS)
    await bench.engine.drain(10 * MS)
    assert (await future).reason is Reason.FALLBACK


@virtual
async def test_a_late_first_answer_is_refused_where_late_is_worthless():
    bench = Bench(slow=1.0)
    bench.executor._duration = lambda v, rows: 30 * MS
    future = bench.ask(UNSURE, remaining=20 * MS, variant="both")
    with pytest.raises(DeadlineExpired):
        await future
    assert bench.telemetry.outcomes() == {"late": 1}


@virtual
async def test_a_class_with_a_floor_never_gets_the_lesser_variants_answer():
    bench = Bench()
    bench.scheduler.set_prices({"cpu": 5.0})
    free = await bench.ask(SURE, remaining=50 * MS)
    assert (free.run.variant.name, free.cascade) == ("small", CASCADE)
    bench.scheduler.set_prices({"cpu": 5.0})
    strict = await bench.ask(SURE, remaining=50 * MS, service_class="strict")
    assert strict.run.variant.name == "large"
    with pytest.raises(FloorUnreachable):
        bench.ask(SURE, service_class="strict", variant="both")


@virtual
async def test_a_share_of_lesser_answers_is_run_again_where_there_is_time():
    bench = Bench(share=0.25, cascades=())
    for number in range(8):
        await bench.ask(SURE, name=b"%d" % number, variant="small")
        await asyncio.sleep(50 * MS)
    assert [b.requests[0].request_id for b in bench.journal.shadows] == [b"3", b"7"]
    shadow = bench.journal.shadows[0]
    assert shadow.variant.name == "large"
    assert [round(float(v), 2) for v in shadow.outputs["y"][:, 0]] == [10.99]
    assert bench.telemetry.outcomes() == {"served": 8}
    # What nobody waits for is no work that telemetry counts.
    assert {event.variant for event in bench.telemetry.rans} == {"small"}


@virtual
async def test_the_best_answers_have_no_shadow():
    bench = Bench(share=1.0)
    await bench.ask(SURE, variant="large")
    await asyncio.sleep(1)
    assert bench.journal.shadows == []


@virtual
async def test_shadows_wait_for_an_idle_worker_beside_theirs():
    bench = Bench(share=1.0, cascades=(), workers=2)
    long = bench.ask(SURE, variant="large")
    await bench.ask(SURE, variant="small")
    assert bench.executor.runs == [("large", 1), ("small", 1)]
    await long
    await asyncio.sleep(50 * MS)
    assert bench.executor.runs == [("large", 1), ("small", 1), ("large", 1)]
    assert len(bench.journal.shadows) == 1


@virtual
async def test_one_worker_is_never_lent_to_a_run_that_others_would_feel():
    bench = Bench(share=1.0, cascades=(), workers=1)
    for _ in range(40):
        await bench.ask(SURE, variant="small")
        await asyncio.sleep(50 * MS)
    assert bench.journal.shadows == []
    assert len(bench.engine._shadows._waiting) <= 16


@virtual
async def test_a_shadow_that_breaks_is_nobodys_business():
    bench = Bench(share=1.0, cascades=())
    bench.executor._loaded.discard(("m", "large"))
    await bench.ask(SURE, variant="small")
    await asyncio.sleep(50 * MS)
    assert bench.journal.shadows == []
    assert (await bench.ask(SURE, variant="small")).run.variant.name == "small"


@virtual
async def test_what_is_learned_decides_from_the_next_request_on():
    bench = Bench(cascades=())
    assert (await bench.ask(SURE)).run.variant.name == "large"
    bench.engine.revise("m", {"large": 0.5}, {})
    answer = await bench.ask(SURE)
    assert (answer.run.variant.name, answer.reason) == ("small", "most_accurate")
    bench.engine.revise("m", {"large": 0.97}, {"large": Standing.WITHDRAWN})
    assert (await bench.ask(SURE)).run.variant.name == "small"
    bench.engine.revise("m", {}, {"large": Standing.SERVING})
    assert (await bench.ask(SURE)).accuracy == 0.97


@virtual
async def test_who_waits_for_a_variant_that_falls_below_the_floor_is_told():
    bench = Bench(cascades=(), workers=1)
    running = bench.ask(SURE)
    await asyncio.sleep(1 * MS)
    waiting = bench.ask(SURE, service_class="strict")
    await asyncio.sleep(1 * MS)
    bench.engine.revise("m", {"large": 0.85}, {})
    with pytest.raises(FloorUnreachable):
        await waiting
    await running
    assert bench.telemetry.outcomes() == {"infeasible": 1, "served": 1}
    assert bench.telemetry.queued == {("m", "default"): 0, ("m", "strict"): 0}


@virtual
async def test_shadows_on_the_express_worker_run_on_the_spot():
    bench = Bench(share=1.0, cascades=(), workers=1, device=EXPRESS)
    bench.scheduler._lanes.at("m", 1).runnable[0]._show(
        [0.0] + [0.5 * MS] * 8, [0.0] + [0.6 * MS] * 8
    )
    await bench.ask(SURE, variant="small")
    await asyncio.sleep(50 * MS)
    assert len(bench.journal.shadows) == 1
