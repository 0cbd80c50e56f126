"""An engine in virtual time whose devices do not hold every variant, with a shelf that counts."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from builders import ONE_VECTOR, make_catalog
from engine_bench import infer
from gearshift.app.residing import Residing, Sizes
from gearshift.core.catalog import Model
from gearshift.core.profile import Profiles
from gearshift.core.request import Request
from gearshift.core.residency import Place, improved
from gearshift.core.scheduler import Scheduler
from gearshift.engine import Engine, LoopClock
from gearshift.executors.fake import FakeExecutor
from gearshift.ports import Worker
from gearshift.profiling import Taken
from gearshift.residency import Program
from recording import RecordingTelemetry
from residing import DEVICES, SECONDS, profiles_of

SOLVER = 0.5
"""Seconds that it takes here."""

Key = tuple[str, int, str, str]
"""Model, generation, variant, device."""


class OnShelf(FakeExecutor):
    """Runs as long as its profiles say, and only what is on the shelf."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(ONE_VECTOR, lambda variant, rows: 0.0)
        self._shelf = shelf

    async def run(self, worker, model, variant, inputs, within=math.inf):
        rows = len(next(iter(inputs.values())))
        place = model.name, model.generation, variant.name, worker.device
        if place not in self._shelf.ready:
            self._shelf.broken.append(f"{place} runs and is not loaded")
            raise RuntimeError("not loaded")
        self._shelf.running[place] += 1
        try:
            await asyncio.sleep(rows * DEVICES[worker.device] * SECONDS[variant.name])
        finally:
            self._shelf.running[place] -= 1
        return {"y": np.zeros((rows, 1), np.float32)}


class Shelf:
    """Takes `seconds` for a load and half of it to unload; memory is taken from the beginning of
    the one until the end of the other. `fails` holds the variants that do not load."""

    def __init__(self, limits: Mapping[str, float], sizes, seconds: float = 1.0) -> None:
        self.limits, self.sizes, self.seconds = limits, sizes, seconds
        self.taken: dict[Key, float] = {}
        self.ready: set[Key] = set()
        self.running: Counter[Key] = Counter()
        self.fails: set[str] = set()
        self.broken: list[str] = []
        """What must not happen."""
        self.loads: list[str] = []

    def put(self, model: Model, variant: str, device: str) -> Key:
        key = model.name, model.generation, variant, device
        if key in self.taken:
            self.broken.append(f"{key} is loaded twice")
        self.taken[key] = self.sizes[model.name, variant]
        used = sum(size for each, size in self.taken.items() if each[3] == device)
        if used > self.limits.get(device, math.inf):
            self.broken.append(f"{used} on {device}")
        return key

    async def load(self, model, variant, device):
        key = self.put(model, variant.name, device)
        self.loads.append(variant.name)
        await asyncio.sleep(self.seconds)
        if variant.name in self.fails:
            del self.taken[key]
            raise ValueError("its file is gone")
        self.ready.add(key)

    async def unload(self, model, variant, device):
        key = model.name, model.generation, variant.name, device
        if self.running[key]:
            self.broken.append(f"{key} is unloaded while it runs")
        self.ready.remove(key)
        await asyncio.sleep(self.seconds / 2)
        del self.taken[key]

    def drop(self, model: Model) -> None:
        """Nothing of a generation is needed any more."""
        for key in [key for key in self.taken if key[:2] == (model.name, model.generation)]:
            if self.running[key]:
                self.broken.append(f"{key} is dropped while it runs")
            self.ready.discard(key)
            del self.taken[key]


class Site:
    """Serves `models`. On devices without a limit everything is loaded; where there is one, what is
    `resident`."""

    def __init__(
        self,
        models,
        limits,
        sizes,
        resident,
        *,
        workers=None,
        seconds=1.0,
        hung_after=10.0,
    ) -> None:
        loop = self.loop = asyncio.get_running_loop()
        self.sizes = sizes
        self.shelf = Shelf(limits, sizes, seconds)
        workers = workers or {"cpu": 2}
        places = [
            Worker(100 * index + number, device)
            for index, (device, count) in enumerate(workers.items())
            for number in range(count)
        ]
        self.devices = {device: DEVICES[device] for device in workers}
        self.telemetry = RecordingTelemetry()
        catalog = make_catalog(*models)
        for model in models:
            for variant in model.variants:
                for device in self.devices:
                    if device not in limits or Place(model.name, variant.name, device) in resident:
                        self.shelf.ready.add(self.shelf.put(model, variant.name, device))
        self.engine = Engine(
            catalog,
            Scheduler(catalog, self.profiles(models), {w.id: w.device for w in places}),
            places,
            {"fake": OnShelf(self.shelf)},
            LoopClock(loop, loop.time),
            self.telemetry,
            hung_after=hung_after,
        )
        self.program = Program()
        self.solves = 0
        self.residing = Residing(
            self.engine, limits, Sizes(self.taken(models, limits)), resident, self.shelf, self.solve
        )
        self.engine.start()
        self.endings: Counter[str] = Counter()

    def profiles(self, models) -> Profiles:
        """As long as runs take, on the devices that there are workers of."""
        found = [p for model in models for p in profiles_of(model, self.devices)]
        return Profiles({model.name: model for model in models}, found)

    def taken(self, models, limits) -> dict[Place, Taken]:
        return {
            Place(model.name, variant.name, device): Taken(
                self.sizes[model.name, variant.name], self.shelf.seconds
            )
            for model in models
            for variant in model.variants
            for device in limits
        }

    async def solve(self, problem):
        self.solves += 1
        await asyncio.sleep(SOLVER)
        return improved(problem, self.program), problem.answers

    async def ask(self, model="a", rows=1, **parameters):
        request = Request(model=model, rows=rows, parameters=parameters)
        inputs = {"x": np.zeros((rows, 3), np.float32)}
        return await infer(self.engine, request, inputs, self.loop.time())

    async def ends(self, model="a", rows=1, **parameters) -> None:
        """Ask, and count how it ends: by the variant that answers, or by the error."""
        try:
            answer = await self.ask(model, rows, **parameters)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
            self.endings[type(error).__name__] += 1
        else:
            self.endings[answer.variant.name] += 1

    async def stream(self, rate: float, seconds: float, **asked) -> None:
        """So many requests a second, evenly; returns when all have ended."""
        async with asyncio.TaskGroup() as group:
            for _ in range(round(rate * seconds)):
                group.create_task(self.ends(**asked))
                await asyncio.sleep(1 / rate)

    def resident(self, model="a", generation=1) -> set[str]:
        """The variants that can run on limited devices."""
        return {
            variant
            for name, number, variant, device in self.shelf.ready
            if (name, number) == (model, generation) and device in self.shelf.limits
        }

    async def reload(self, model: Model, generation: int) -> None:
        """Another generation takes the place of the model, loaded where that is, as
        `gearshift.app.newcomers` does it."""
        new = replace(model, generation=generation)
        async with self.residing.turn:
            before = self.engine.catalog
            places = [p for p in self.residing.resident if p.model == model.name]
            sizes = {place: self.sizes[place[:2]] for place in places}
            self.residing.take(new, sizes)
            for place in places:
                assert self.residing.free(place.device) >= 0
                await self.shelf.load(new, new.by_name(place.variant), place.device)
            models = {**before.models, model.name: new}
            catalog = replace(before, generation=generation, models=models)
            self.engine.exchange(catalog, self.profiles([new]), self._retired)
            self.residing.exchanged(before, self.taken([new], self.shelf.limits))

    def _retired(self, model: Model) -> None:
        self.shelf.drop(model)
        self.residing.given_back(model)
