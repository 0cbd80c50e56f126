"""One run: the whole server on a virtual loop, its callers, and all that happens to them."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from builders import make_catalog, make_profiles
from gearshift.app.parts import LAST_ANSWERS, drain, with_express
from gearshift.core.catalog import Catalog, Model, Standing
from gearshift.core.limits import Usage
from gearshift.core.profile import Profiles
from gearshift.core.quota import SLOTS, Quotas
from gearshift.core.scheduler import Scheduler
from gearshift.engine import LoopClock
from gearshift.executors.fault_plan import Kind, Plan
from gearshift.executors.faulty import FaultyExecutor
from gearshift.executors.key import Key
from gearshift.ports import Worker
from gearshift.rpc import RpcServer, make_server
from gearshift.rpc.server import HEARD_WITHIN
from gearshift.telemetry import PrometheusTelemetry
from recording import RecordingJournal
from simulation import scenario as drawn
from simulation.caller import Caller
from simulation.clock import Loop, one_source
from simulation.doors import IDENTITY, guard
from simulation.executors import SIGNATURE, Answering, Watched
from simulation.history import History
from simulation.scenario import VARIANTS, Scenario, Step
from simulation.served import Prices, load_all, models
from simulation.watched_engine import WatchedEngine

QUIET = 12.0
"""Seconds after the last step until the server is told to end: all budgets are shorter."""


@dataclass(slots=True)
class Outcome:
    """A run that is over, as the judge gets it."""

    scenario: Scenario
    history: History
    engine: WatchedEngine
    executor: Watched
    server: RpcServer
    scheduler: Scheduler
    telemetry: PrometheusTelemetry
    connections: list[Any]
    logged: list[dict[str, Any]]
    loop_faults: list[str]
    left_over: list[str]
    drain_took: float
    drain_bound: float
    stood_still: float
    struck: Counter[Kind]
    loaded: set[Key]
    seconds: float
    turns: int


def run(scenario: Scenario) -> Outcome:
    """Run it to its end, in virtual time."""
    loop = Loop()
    try:
        with one_source(scenario, loop) as logged:
            return loop.run_until_complete(_World(scenario, loop, logged).run())
    finally:
        loop.close()


class _World:
    def __init__(self, scenario: Scenario, loop: Loop, logged: list[dict[str, Any]]) -> None:
        self.scenario = scenario
        self.loop = loop
        self.logged = logged
        self.history = History()
        self.callers: dict[int, Caller] = {}
        self.connections: list[Any] = []
        self.loop_faults: list[str] = []
        self.drain: asyncio.Task[None] | None = None
        self.drain_took = 0.0

    def _build(self) -> None:
        scenario = self.scenario
        random_runs = Random(scenario.seed + 2)

        def duration(variant: str, rows: int) -> float:
            fixed, row = scenario.seconds[variant]
            return (fixed + row * rows) * (1.0 + scenario.jitter * random_runs.random())

        self.models = models()
        self.workers: tuple[Worker, ...] = tuple(Worker(i, "cpu") for i in range(scenario.workers))
        catalog = make_catalog(*self.models)
        profiles, all_workers = self._placed(catalog)
        inner = self.inner = Answering(SIGNATURE, duration)
        load_all(inner, catalog)
        self.faulty = FaultyExecutor(
            inner, Plan(scenario.faults, scenario.seed), now=self.loop.time
        )
        self.executor = Watched(self.faulty, self.history)
        self.telemetry = PrometheusTelemetry(catalog, wall_clock=time.time)
        self.journal = RecordingJournal()
        self.usage = Usage(scenario.limits)
        self.scheduler = Scheduler(
            catalog,
            profiles,
            {w.id: w.device for w in all_workers},
            max_waiting=scenario.limits.max_queue,
        )
        self.engine = WatchedEngine(
            catalog,
            self.scheduler,
            all_workers,
            {"fake": self.executor},  # type: ignore[dict-item]
            LoopClock(self.loop, self.loop.time),
            self.telemetry,
            self.journal,
            scenario.shadow_share,
            usage=self.usage,
            hung_after=scenario.hung_after,
            seed=scenario.seed,
        )
        if scenario.planning != "real":
            planner = Prices(scenario.planning == "wild", Random(scenario.seed + 4))
            self.engine._planning._planner = planner  # type: ignore[assignment]
        self.engine.history = self.history
        if scenario.quotas is not None:
            doorkeeper = self.engine.doorkeeper
            doorkeeper.quotas = Quotas(scenario.quotas, array("d", bytes(8 * SLOTS)))
            doorkeeper.identity = IDENTITY

    def _placed(self, catalog: Catalog) -> tuple[Profiles, Sequence[Worker]]:
        profiles = make_profiles(catalog, self.scenario.seconds)
        return with_express(catalog, profiles, self.workers, 0)

    async def run(self) -> Outcome:
        self.loop.set_exception_handler(self._on_loop_fault)
        self._build()
        self.engine.start()
        access = guard() if self.scenario.guarded else None
        self.server = await make_server(self.engine, shared_memory=False, access=access)
        self.server._turns.now = self.loop.time
        begun = self.loop.time()
        for step in self.scenario.steps:
            self.loop.call_at(begun + step.at, self._do, step)
        await asyncio.sleep(self.scenario.ends + QUIET)
        if self.drain is None:
            self._begin_drain()
        assert self.drain is not None
        await self.drain
        # Callers hear the last of it, and who reads slowly reads on.
        await asyncio.sleep(5.0)
        return Outcome(
            scenario=self.scenario,
            history=self.history,
            engine=self.engine,
            executor=self.executor,
            server=self.server,
            scheduler=self.scheduler,
            telemetry=self.telemetry,
            connections=self.connections,
            logged=self.logged,
            loop_faults=self.loop_faults,
            left_over=self._left_over(),
            drain_took=self.drain_took,
            drain_bound=HEARD_WITHIN + self.scenario.drain_within + LAST_ANSWERS,
            stood_still=self.loop.stood_still,
            struck=self.faulty.struck,
            loaded=self.inner.loaded,
            seconds=self.loop.time(),
            turns=self.loop.turns,
        )

    def _on_loop_fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.loop_faults.append(f"{context.get('message')}: {context.get('exception')!r}")

    def _left_over(self) -> list[str]:
        mine = asyncio.current_task()
        tasks = [repr(task) for task in asyncio.all_tasks() if task is not mine]
        timers = [
            repr(timer)
            for timer in self.loop._scheduled  # type: ignore[attr-defined]
            if not timer.cancelled()
        ]
        return tasks + timers

    # --- steps -------------------------------------------------------------------------

    def _do(self, step: Step) -> None:
        self.history.note(self.loop.time(), "step", step)
        _DOERS[type(step)](self, step)

    def connect(self, step: drawn.Connect) -> None:
        def server_side() -> Any:
            connection = self.server._connect(lambda: self.usage.leave(peer))
            self.connections.append(connection)
            return connection

        peer = f"10.0.0.{step.caller}"
        if not self.server._elsewhere and self.usage.enter(peer):
            self.callers[step.caller] = Caller(self.loop, step, self.history, server_side)

    def ask(self, step: drawn.Ask) -> None:
        caller = self.callers.get(step.caller)
        if caller is not None:
            caller.ask(step)

    def other_step(self, step: Any) -> None:
        """Steps of one caller that have one argument."""
        caller = self.callers.get(step.caller)
        if caller is None:
            return
        if isinstance(step, drawn.Finish):
            caller.finish(step.stream)
        elif isinstance(step, drawn.Other):
            caller.other(step.rpc)
        elif isinstance(step, drawn.HangUp):
            caller.hang_up(step.reset)
        elif isinstance(step, drawn.Garbage):
            caller.garbage(step.data)
        else:
            caller.unread(step.seconds)

    def leap(self, step: drawn.Leap) -> None:
        self.loop.leap += step.seconds
        self.loop.wall += step.wall

    def reload(self, step: drawn.Reload) -> None:
        """As a reload does it once all is read and loaded."""
        served = self.engine.catalog
        generation = served.generation + 1
        models = dict(served.models)
        old = models.pop(step.model, None)
        if old is None and step.gone:
            return
        if not step.gone:
            fresh = next(m for m in self.models if m.name == step.model)
            models[step.model] = replace(fresh, generation=generation)
        catalog = Catalog(generation, models)
        profiles, _ = self._placed(catalog)
        load_all(self.inner, catalog)
        self.engine.exchange(catalog, profiles, self._retired)
        self.telemetry.follow(self.engine.catalog)
        self.server.follow(self.engine.catalog)

    def _retired(self, model: Model) -> None:
        self.history.note(self.loop.time(), "retired", model.name, model.generation)
        for variant in model.variants:
            self.inner.unload(model, variant)
        self.telemetry.forget(model)
        self.server.forget(model)

    def revise(self, step: drawn.Revise) -> None:
        if step.model not in self.engine.catalog.models:
            return
        standings = {
            name: Standing.WITHDRAWN if name in step.withdrawn else Standing.SERVING
            for name in VARIANTS
        }
        self.engine.revise(step.model, step.accuracies, standings)

    def begin_drain(self, step: drawn.Drain) -> None:
        if self.drain is None:
            self._begin_drain()

    def _begin_drain(self) -> None:
        self.drain = self.loop.create_task(self._drain())

    async def _drain(self) -> None:
        begun = self.loop.time()
        self.history.drained_at = begun
        await self.server.not_serving()
        await drain(self.scenario.drain_within, self.engine, self.server)
        self.drain_took = self.loop.time() - begun


_DOERS: Mapping[type[Step], Callable[[_World, Any], None]] = {
    drawn.Connect: _World.connect,
    drawn.Ask: _World.ask,
    drawn.Finish: _World.other_step,
    drawn.Other: _World.other_step,
    drawn.HangUp: _World.other_step,
    drawn.Garbage: _World.other_step,
    drawn.Unread: _World.other_step,
    drawn.Leap: _World.leap,
    drawn.Revise: _World.revise,
    drawn.Reload: _World.reload,
    drawn.Drain: _World.begin_drain,
}
