"""Runs of no time: made in the turn of the loop that decided on them, settled like any other."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest

from builders import ONE_VECTOR, make_catalog, make_model, make_profiles
from gearshift.core.catalog import ServiceClass
from gearshift.core.profile import Profile, Profiles
from gearshift.core.request import Request
from gearshift.core.scheduler import Scheduler
from gearshift.engine import Answer, Engine, LoopClock
from gearshift.errors import ExecutorFailed, RequestError
from gearshift.executors.fake import FakeExecutor
from gearshift.ports import EXPRESS, Worker
from recording import RecordingTelemetry
from virtual import run_virtual

MS = 0.001
MOST = 4
"""Rows that the express worker takes at once; larger batches run on the other worker."""


class Breaking(FakeExecutor):
    """Its runs on the caller's thread raise as long as `broken`."""

    broken = False

    def run_here(self, model, variant, inputs):
        if self.broken:
            raise RuntimeError("no such kernel")
        return super().run_here(model, variant, inputs)


class Bench:
    """One variant, which runs on the express worker in batches of up to MOST."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.loop = loop
        model = make_model(accuracies={"only": 0.9}, classes=[ServiceClass("default")])
        catalog = make_catalog(model)
        (usual,) = make_profiles(catalog, {"only": (0.1 * MS, 0.1 * MS)}).everywhere("m")
        near = Profile(usual.variant, EXPRESS, usual.points, MOST)
        workers = [Worker(9, EXPRESS), Worker(0, "cpu")]
        self.executor = Breaking(ONE_VECTOR, lambda variant, rows: 10 * MS)
        self.executor.load(model, model.variants[0])
        self.telemetry = RecordingTelemetry()
        self.engine = Engine(
            catalog,
            Scheduler(
                catalog, Profiles(catalog.models, [usual, near]), {w.id: w.device for w in workers}
            ),
            workers,
            {"fake": self.executor},
            LoopClock(loop, loop.time),
            self.telemetry,
        )
        self.engine.start()
        self.answers: list[Answer | Exception] = []

    def submit(self, value: float, rows: int = 1, reply=None):
        request = Request(model="m", rows=rows, parameters={}, remaining=math.inf)
        inputs = {"x": np.full((rows, 3), value, np.float32)}
        return self.engine.submit(request, inputs, self.loop.time(), reply or self.answers.append)

    def values(self) -> list[float]:
        return [float(a.run.outputs["y"][a.row, 0]) for a in self.answers]


def test_arrivals_of_one_turn_are_answered_in_the_next_without_time_passing():
    async def run():
        bench = Bench()
        for value in (1.0, 2.0, 3.0):
            bench.submit(value)
        await asyncio.sleep(0)
        return bench, bench.loop.time()

    bench, now = run_virtual(run())
    assert now == 0.0
    assert bench.values() == [3.0, 6.0, 9.0]
    assert bench.executor.runs == [("only", 3)]


def test_what_is_too_many_for_it_goes_to_the_other_worker():
    async def run():
        bench = Bench()
        bench.submit(1.0, rows=MOST + 1)
        await asyncio.sleep(5 * MS)
        early = len(bench.answers)
        await asyncio.sleep(10 * MS)
        return bench, early

    bench, early = run_virtual(run())
    assert early == 0
    assert len(bench.answers) == 1
    assert [ran.device for ran in bench.telemetry.rans] == ["cpu"]


def test_a_run_that_breaks_fails_its_members_and_the_next_one_is_made():
    async def run():
        bench = Bench()
        bench.executor.broken = True
        bench.submit(1.0)
        bench.submit(2.0)
        await asyncio.sleep(1 * MS)
        bench.executor.broken = False
        bench.submit(3.0)
        await asyncio.sleep(1 * MS)
        return bench

    bench = run_virtual(run())
    first, second, third = bench.answers
    assert isinstance(first, ExecutorFailed)
    assert isinstance(second, ExecutorFailed)
    assert "no such kernel" not in str(first)
    assert isinstance(third, Answer)
    assert [event.outcome for event in bench.telemetry.settleds] == ["failed", "failed", "served"]


@pytest.mark.parametrize("leaver", [0, 2])
def test_who_is_sent_away_by_a_neighbours_answer_costs_no_other_its_rows(leaver):
    """A connection that breaks at one answer takes its other requests along, in the same batch."""

    async def run():
        bench = Bench()
        flights = []

        def first(answer: Answer | RequestError) -> None:
            bench.answers.append(answer)
            bench.engine.abandon(flights[leaver])

        flights.append(bench.submit(1.0))
        flights.append(bench.submit(2.0, reply=first))
        flights.append(bench.submit(3.0))
        flights.append(bench.submit(4.0))
        await asyncio.sleep(20 * MS)
        return bench

    bench = run_virtual(run())
    assert bench.values() == ([3.0, 6.0, 9.0, 12.0] if leaver == 0 else [3.0, 6.0, 12.0])
    assert max(ran.requests for ran in bench.telemetry.rans) >= 3
    assert len(bench.telemetry.settleds) == 4
