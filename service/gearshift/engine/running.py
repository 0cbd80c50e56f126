"""Carries out dispatches: a batch goes to its worker, and its members are settled."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence

import structlog

from gearshift.core.catalog import Model, Variant
from gearshift.core.decisions import Dispatch
from gearshift.core.scheduler import Scheduler
from gearshift.engine.batch import assemble, failed, latest, report, tally
from gearshift.engine.cascade import unsure_rows
from gearshift.engine.faults import Faults
from gearshift.engine.flight import Flight, Guard, Run
from gearshift.engine.generations import Generations
from gearshift.engine.outputs import check_outputs, spoiled_rows
from gearshift.engine.settling import Settling, too_late
from gearshift.engine.shadows import Shadows
from gearshift.engine.traced import TracedBatches
from gearshift.engine.watch import Watch
from gearshift.errors import WorkerLost
from gearshift.ports import EXPRESS, REMOTE, Clock, Executor, Telemetry, Tensors, Worker

log = structlog.get_logger(__name__)

Times = tuple[float, float, float]
"""When a batch was begun, put together, and finished."""

MOST_STUCK = 4
"""Runs of one executor that hang and were given up, but hold a thread: the place of one more worker
that is lost stays empty, and the server should be started anew."""

REPLACE_WITHIN = 60.0
"""Seconds that a worker may take to be made anew."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds after which that is tried again, doubling."""


class Running:
    """The batches under way. `decide` is called when a worker is free, `plan_decide` where that
    need not be at once."""

    def __init__(
        self,
        scheduler: Scheduler,
        settling: Settling,
        shadows: Shadows,
        faults: Faults,
        generations: Generations,
        workers: Mapping[int, Worker],
        executors: Mapping[str, Executor],
        clock: Clock,
        telemetry: Telemetry,
        traced: TracedBatches,
        hung_after: float,
        decide: Callable[[], None],
        plan_decide: Callable[[], None],
    ) -> None:
        self._scheduler = scheduler
        self._settling = settling
        self._shadows = shadows
        self._faults = faults
        self._generations = generations
        self._workers = workers
        self._executors = executors
        self._clock = clock
        self._telemetry = telemetry
        self._traced = traced
        self._decide, self._plan_decide = decide, plan_decide
        self._tasks: dict[asyncio.Task[None], Model] = {}
        self._watch = Watch(clock, hung_after, faults.overdue)

    @property
    def models(self) -> Collection[Model]:
        """Of all batches under way."""
        return self._tasks.values()

    @property
    def alive(self) -> bool:
        """False once so many runs hang that the place of a lost worker stays empty."""
        return all(executor.stuck < MOST_STUCK for executor in self._executors.values())

    def cancel(self) -> None:
        """Nothing is waited for any more."""
        self._watch.stop()
        for task in self._tasks:
            task.cancel()

    # --- dispatches --------------------------------------------------------------------

    def begin(self, dispatch: Dispatch, now: float) -> Callable[[], None] | None:
        """Carry it out. What runs on the spot is returned, to be called when all others of the
        same moment are under way."""
        if dispatch.spare:
            self._start(self._run_spare(dispatch), dispatch.model)
            return None
        members = self._dequeue(dispatch, now)
        self._faults.began(dispatch)
        if dispatch.profile.device == EXPRESS:
            return lambda: self._run_here(dispatch, members)
        # The variant as it is now: what is learned later says nothing about this choice.
        variant = dispatch.profile.runs.variant
        self._start(self._run(dispatch, variant, members, now), dispatch.model)
        return None

    def _dequeue(self, dispatch: Dispatch, now: float) -> list[Flight]:
        members = self._settling.dispatched(dispatch, now)
        self._traced.dispatched(dispatch, self._workers[dispatch.worker], members, now)
        return members

    def _start(self, work: Coroutine[None, None, None], model: Model) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = model
        task.add_done_callback(self._over)
        if self._generations.leaving:
            self._generations.began(model)

    def _over(self, task: asyncio.Task[None]) -> None:
        # Behind `_end`, which was planned before.
        model = self._tasks.pop(task)
        if self._generations.leaving:
            self._generations.released(model)

    # --- runs --------------------------------------------------------------------------

    async def _run(
        self, dispatch: Dispatch, variant: Variant, members: list[Flight], begun: float
    ) -> None:
        """Run one batch and settle its members.

        A member that left before the run began is taken out; one that leaves during the run
        keeps its rows, so that its neighbours get the answers to their own inputs.
        """
        predicted = dispatch.predicted()
        worker = self._workers[dispatch.worker]
        batch = [member for member in members if member in self._settling]
        rows = sum(member.ticket.rows for member in batch)
        assembled = begun
        inputs: Tensors = {}
        outcome: Run | Exception | None = None
        guard = Guard(self._clock, batch, lambda late: self._too_late(late, dispatch))
        try:
            if batch:
                inputs = assemble(dispatch.model, batch)
                assembled = self._clock.now()
                self._watch.began(dispatch, batch, predicted[1], assembled)
                executor = self._executors[variant.executor]
                if worker.device == REMOTE:
                    left = latest(batch) - assembled
                    running = executor.run(worker, dispatch.model, variant, inputs, left)
                else:
                    running = executor.run(worker, dispatch.model, variant, inputs)
                outputs = await running
                outcome = self._ran(dispatch, variant, outputs, rows, begun)
        except asyncio.CancelledError:
            if not self._watch.ended(dispatch):
                raise
            outcome = _hung()
        except Exception as error:  # noqa: BLE001 - whatever broke, every member must hear of it
            outcome = error
        self._watch.ended(dispatch)
        finished = self._clock.now()
        guard.cancel()
        lost = isinstance(outcome, WorkerLost)
        if isinstance(outcome, Run):
            self._faults.returned(dispatch, batch)
        if not lost:
            # The worker first: it must not idle while answers are taken apart.
            self._free(dispatch, finished, outcome, finished - begun)
        if outcome is None:
            self._traced.empty(dispatch)
            self._faults.empty(dispatch)
        else:
            # In the next turn: what has just been decided begins in this one.
            asyncio.get_running_loop().call_soon(
                self._end, dispatch, batch, outcome, inputs, (begun, assembled, finished), predicted
            )
        if lost:
            await self._replace(dispatch)

    def _run_here(self, dispatch: Dispatch, batch: list[Flight]) -> None:
        """Run one batch on the spot and settle its members; who has left in this very turn keeps
        its rows."""
        variant, predicted = dispatch.profile.runs.variant, dispatch.predicted()
        begun = assembled = self._clock.now()
        inputs: Tensors = {}
        outcome: Run | Exception
        try:
            inputs = assemble(dispatch.model, batch)
            assembled = self._clock.now()
            outputs = self._executors[variant.executor].run_here(dispatch.model, variant, inputs)
            outcome = self._ran(dispatch, variant, outputs, dispatch.rows, begun)
        except Exception as error:  # noqa: BLE001 - whatever broke, every member must hear of it
            outcome = error
        finished = self._clock.now()
        taught = math.nan if isinstance(outcome, Exception) else finished - begun
        self._scheduler.finished(dispatch.id, finished, taught)
        # In a later turn: what has come in meanwhile takes part in it.
        self._plan_decide()
        self._end(dispatch, batch, outcome, inputs, (begun, assembled, finished), predicted)

    async def _run_spare(self, dispatch: Dispatch) -> None:
        """Run what nobody waits for."""
        begun = self._clock.now()
        self._watch.began(dispatch, (), dispatch.predicted()[1], begun)
        broken: Exception | None
        try:
            broken = await self._shadows.run(
                dispatch, self._executors, self._workers[dispatch.worker]
            )
        except asyncio.CancelledError:
            if not self._watch.ended(dispatch):
                raise
            broken = _hung()
        self._watch.ended(dispatch)
        self._faults.shadowed(dispatch, broken)
        if isinstance(broken, WorkerLost):
            await self._replace(dispatch)
        else:
            finished = self._clock.now()
            self._free(dispatch, finished, broken, finished - begun)

    def _ran(
        self, dispatch: Dispatch, variant: Variant, outputs: Tensors, rows: int, begun: float
    ) -> Run:
        """The run as its answers need it; ValueError if that is not what was asked for."""
        model = dispatch.model
        check_outputs(model, outputs, rows)
        run = Run(variant, outputs, rows, begun, self._clock.now())
        run.spoiled = spoiled_rows(model, outputs, rows)
        if dispatch.profile.cascade is not None:
            run.unsure = unsure_rows(model, dispatch.profile.cascade, run)
        return run

    # --- ends --------------------------------------------------------------------------

    def _too_late(self, member: Flight, dispatch: Dispatch) -> None:
        if member.dispatch == dispatch.id:
            variant = dispatch.profile.runs.variant
            self._settling.fail(member, too_late(member.ticket), variant)

    def _free(
        self, dispatch: Dispatch, now: float, outcome: Run | Exception | None, took: float
    ) -> None:
        """The worker is free. What a run took that failed says nothing of those that do not."""
        taught = math.nan if isinstance(outcome, Exception) else took
        self._scheduler.finished(dispatch.id, now, taught)
        self._decide()

    async def _replace(self, dispatch: Dispatch) -> None:
        """The worker is lost: it takes no runs until its place is made anew."""
        worker = self._workers[dispatch.worker]
        executor = self._executors[dispatch.profile.runs.variant.executor]
        pause = FIRST_PAUSE
        while True:
            if executor.stuck < MOST_STUCK:
                try:
                    async with asyncio.timeout(REPLACE_WITHIN):
                        await executor.replace(worker)
                    break
                except Exception:
                    log.exception("a lost worker cannot be made anew yet", worker=worker.id)
            else:
                log.error("too many runs hang: a lost worker's place stays empty", worker=worker.id)
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, 2.0 * pause)
        now = self._clock.now()
        self._free(dispatch, now, None, math.nan)

    def _end(
        self,
        dispatch: Dispatch,
        batch: Sequence[Flight],
        outcome: Run | Exception,
        inputs: Tensors,
        times: Times,
        predicted: tuple[float, float],
    ) -> None:
        """Settle the members of a batch that has run, or with what broke. `predicted` are the p50
        and p99 of its duration."""
        worker = self._workers[dispatch.worker]
        # Before they are settled: who waits for another run then has another ticket.
        counted = tally(batch, times[0])
        if isinstance(outcome, Exception):
            variant, ids = dispatch.profile.runs.variant, [each.request_id for each in batch]
            told = failed(dispatch.model, variant, outcome, ids, self._traced.ids(dispatch))
            trace = self._traced.ended(dispatch, times, told)
            if isinstance(outcome, WorkerLost):
                self._telemetry.worker_lost(worker.device, outcome.reason)
            self._faults.broke(dispatch, batch, outcome, told)
        else:
            trace = self._traced.ended(dispatch, times, None)
            self._faults.ran(dispatch, batch, outcome, trace)
            answered = self._settling.answer(dispatch, outcome, batch, inputs)
            self._shadows.follow(dispatch, answered)
        broken, over = isinstance(outcome, Exception), (*times, self._clock.now())
        self._telemetry.ran(report(dispatch, worker, counted, over, predicted, broken, trace))


def _hung() -> WorkerLost:
    return WorkerLost("hung", "the run took so much longer than predicted that it is given up")
