"""What is loaded where, where memory does not hold every variant: carries out what
`gearshift.core.residency` decides, beside serving.

One change at a time, and none while models are loaded anew: whoever has the `turn` may take
memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Protocol

import structlog

from gearshift.app.aside import LAST, aside
from gearshift.core.catalog import Catalog, Model, Variant
from gearshift.core.request import Ticket
from gearshift.core.residency import Memory, Place, Placing, Problem, Residency, improved
from gearshift.engine import Engine
from gearshift.executors.providers import CPU
from gearshift.ports import EXPRESS
from gearshift.profiling import Taken
from gearshift.telemetry import Decided, Held, ResidencyCollector

log = structlog.get_logger(__name__)

LOOK = 0.25
"""Seconds between looks whether it is time to decide."""

POLL = 0.02
"""Seconds between looks whether what makes room is still in use."""

SOLVE_WITHIN = 400.0
"""Seconds that a decision may take: more than the solver's own limit on each of its programs."""

SHARED = {EXPRESS: CPU}
"""Short runs are made with what the processor holds."""

Answers = Sequence[frozenset[Place]]
Solve = Callable[[Problem], Awaitable[tuple[frozenset[Place] | None, Answers]]]
"""What should be loaded instead, None if all should stay; and the problem's `answers`."""


class Shelf(Protocol):
    """Does it (`gearshift.app.places.Places`)."""

    async def load(self, model: Model, variant: Variant, device: str) -> None: ...

    async def unload(self, model: Model, variant: Variant, device: str) -> None: ...


def beside(placing: Placing) -> Solve:
    """On a thread of its own, behind those that serve."""

    def work(problem: Problem) -> tuple[frozenset[Place] | None, Answers]:
        return improved(problem, placing), problem.answers

    async def solve(problem: Problem) -> tuple[frozenset[Place] | None, Answers]:
        return await aside(lambda: work(problem), LAST)

    return solve


class Sizes:
    """What variants take where, by model, variant and device."""

    def __init__(self, taken: Mapping[Place, Taken]) -> None:
        self._taken = dict(taken)

    @property
    def places(self) -> list[Place]:
        """All that could be loaded."""
        return list(self._taken)

    def follow(self, models: Collection[str], taken: Mapping[Place, Taken]) -> None:
        """These hold for these models from now on."""
        kept = {place: each for place, each in self._taken.items() if place.model not in models}
        self._taken = {**kept, **taken}

    def memory(self, limits: Mapping[str, float]) -> Memory:
        """Of devices that differ in what a variant takes there, the most of all."""
        sizes: dict[tuple[str, str], float] = {}
        seconds: dict[tuple[str, str], float] = {}
        for place, taken in self._taken.items():
            sizes[place[:2]] = max(sizes.get(place[:2], 0.0), taken.size)
            seconds[place[:2]] = max(seconds.get(place[:2], 0.0), taken.seconds)
        return Memory(limits=limits, sizes=sizes, seconds=seconds, shared=SHARED)


class Residing:
    """Before one engine. `resident` is what is loaded already."""

    def __init__(
        self,
        engine: Engine,
        limits: Mapping[str, float],
        sizes: Sizes,
        resident: Collection[Place],
        shelf: Shelf,
        solve: Solve,
    ) -> None:
        self.turn = asyncio.Lock()
        self.limits = limits
        self._engine = engine
        self._sizes = sizes
        self._shelf = shelf
        self._solve = solve
        self._residency = Residency(sizes.memory(limits), resident)
        self._others: dict[object, Mapping[Place, float]] = {}
        """Bytes by place of what is loaded beside what is served: by whose they are."""
        self._exchanges = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.counted = ResidencyCollector(self._held)
        engine.counts = self._count
        self._tell(engine.catalog.models)

    # --- what is asked for ---------------------------------------------------------------

    def _count(self, ticket: Ticket, model: Model) -> None:
        self._residency.count(ticket, model, self._engine.clock.now())

    # --- the slow loop -------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Until the block ends; a change under way stops where it is then."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            tasks = [task, *self._tasks]
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            try:
                await self._look()
            except Exception:
                log.exception("what is loaded could not be changed; it is tried again")

    async def _look(self) -> None:
        residency = self._residency
        if not residency.changing:
            if not residency.due(self._engine.clock.now()):
                return
            exchanges, (target, answers) = self._exchanges, await self._decided()
            async with self.turn:
                if exchanges != self._exchanges:
                    target = None
                residency.decided(target, self._engine.clock.now(), answers)
                await self._change()
        else:
            async with self.turn:
                await self._change()

    async def _decided(self) -> tuple[frozenset[Place] | None, Answers]:
        now = self._engine.clock.now()
        models = self._engine.catalog.models
        profiles = {name: self._engine.profiles(name) for name in models}
        problem = self._residency.problem(models, profiles, self._engine.devices, now)
        exchanges, what = self._exchanges, Decided.FAILED
        target: frozenset[Place] | None = None
        answers: Answers = ()
        try:
            async with asyncio.timeout(SOLVE_WITHIN):
                target, answers = await self._solve(problem)
            what = Decided.KEPT if target is None else Decided.CHANGED
            if exchanges != self._exchanges:
                what = Decided.OVERTAKEN
        except Exception:
            log.exception("it could not be decided what to load: what is loaded stays")
        self.counted.decided(what, self._engine.clock.now() - now)
        return target, answers

    async def _change(self) -> None:
        """Until it is done, as far as it goes."""
        residency = self._residency
        while residency.changing:
            doing = residency.steps(self._engine.clock.now(), self._in_use)
            changed = [*doing.leave, *doing.unload, *doing.stay]
            self._tell({place.model for place in changed})
            for place in doing.unload:
                self._begin(self._unload(place))
            for place in doing.load:
                self._begin(self._load(place))
            if self._tasks:
                await asyncio.wait(
                    self._tasks,
                    timeout=POLL if residency.leaving else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            elif residency.changing:
                await asyncio.sleep(POLL)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load(self, place: Place) -> None:
        model = self._engine.catalog.models[place.model]
        log.info("loading a variant", **place._asdict())
        try:
            await self._shelf.load(model, model.by_name(place.variant), place.device)
        except Exception as error:  # noqa: BLE001 - whatever keeps it from being loaded
            if isinstance(error, TimeoutError):
                self._lose(place)
            log.warning(
                "a variant cannot be loaded now; it is tried again later",
                **place._asdict(),
                reason=f"{type(error).__name__}: {error}",
            )
            self.counted.failed(place.device)
            self._residency.failed(place, self._engine.clock.now())
            return
        self.counted.loaded(place.device)
        self._residency.loaded(place)
        self._tell([place.model])

    async def _unload(self, place: Place) -> None:
        model = self._engine.catalog.models[place.model]
        log.info("unloading a variant", **place._asdict())
        try:
            await self._shelf.unload(model, model.by_name(place.variant), place.device)
        except Exception:
            self._lose(place)
            log.exception("a variant was not unloaded: its memory counts as taken")
        self.counted.unloaded(place.device)
        self._residency.unloaded(place)

    def _lose(self, place: Place) -> None:
        """What hangs while it is loaded or unloaded may hold its memory for good."""
        self._others["lost", place] = {place: self._residency.memory.size(place)}
        self._recount()

    def _in_use(self, place: Place) -> bool:
        return any(
            self._engine.in_use(place.model, profile)
            for profile in self._engine.profiles(place.model)
            if self._residency.memory.place(place.model, profile) == place
        )

    def _tell(self, models: Iterable[str]) -> None:
        """Let the engine know what is loaded of these."""
        for name in models:
            profiles = self._engine.profiles(name)
            self._engine.reside(name, self._residency.away(name, profiles))

    # --- who else takes memory: with the turn ----------------------------------------------

    @property
    def resident(self) -> frozenset[Place]:
        """What is loaded of what is served."""
        return frozenset(self._residency.resident)

    def free(self, device: str) -> float:
        """Bytes that may still be taken there."""
        memory = self._residency.memory
        return memory.limits[device] - memory.used(self._residency.taken)[device]

    def take(self, model: Model, places: Mapping[Place, float]) -> None:
        """A generation that is not served yet takes so much memory, now or in a moment."""
        self._others[_key(model)] = dict(places)
        self._recount()

    def given_back(self, model: Model) -> None:
        """Nothing of a generation is loaded any more."""
        self._others.pop(_key(model), None)
        self._recount()

    def exchanged(self, before: Catalog, taken: Mapping[Place, Taken]) -> None:
        """The engine serves another catalog than `before`: of what is new in it, what was `taken`
        stands here. In the same turn of the loop, so that nobody runs what is not loaded."""
        served, resident = self._engine.catalog.models, set(self._residency.resident)
        gone = [m for m in before.models.values() if _key(m) != _key(served.get(m.name))]
        for model in gone:
            places = {place for place in resident if place.model == model.name}
            resident -= places
            self._others[_key(model)] = {
                place: self._residency.memory.size(place) for place in places
            }
        new = [m for m in served.values() if _key(m) != _key(before.models.get(m.name))]
        for model in new:
            resident.update(self._others.pop(_key(model), {}))
        self._sizes.follow({model.name for model in [*gone, *new]}, taken)
        self._exchanges += 1
        self._residency.exchange(self._memory(), resident, self._engine.clock.now())
        self._tell([model.name for model in new])

    def _memory(self) -> Memory:
        """With the limits that others leave."""
        memory = self._sizes.memory(self.limits)
        left = dict(self.limits)
        for places in self._others.values():
            for place, size in places.items():
                left[place.device] -= size
        return replace(memory, limits=left)

    def _recount(self) -> None:
        self._residency.memory = self._memory()

    # --- what is shown -----------------------------------------------------------------------

    def _held(self) -> Held:
        """On any thread."""
        residency = self._residency
        memory, here = residency.memory, {*residency.resident, *residency.leaving}
        ours = memory.used(residency.taken)
        # The limits in `memory` are what others leave.
        others = {device: limit - memory.limits[device] for device, limit in self.limits.items()}
        return Held(
            self.limits,
            {device: others[device] + ours[device] for device in self.limits},
            [(place, place in here) for place in self._sizes.places],
        )


def _key(model: Model | None) -> tuple[str, int] | None:
    return None if model is None else (model.name, model.generation)
