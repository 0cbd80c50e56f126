"""An engine around the real core, with the fake executor, on the virtual loop."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from builders import ONE_VECTOR, make_catalog, make_model, make_profiles
from gearshift.core.catalog import Late, ServiceClass
from gearshift.core.request import Request
from gearshift.core.scheduler import Scheduler
from gearshift.engine import Answer, Engine, LoopClock
from gearshift.executors.fake import FakeExecutor
from gearshift.ports import Worker
from recording import RecordingTelemetry

MS = 0.001
CLASSES = (
    ServiceClass("default"),
    ServiceClass("realtime", budget=20 * MS),
    ServiceClass("archive", budget=20 * MS, late=Late.SERVE),
)
PREDICTED = {"large": (10 * MS, 0.0), "small": (1 * MS, 0.0)}


def told(answer: Answer) -> SimpleNamespace:
    """What the caller of one request gets."""
    run, ticket, reason, first, _ = answer
    return SimpleNamespace(
        variant=run.variant,
        outputs={name: whole[first : first + ticket.rows] for name, whole in run.outputs.items()},
        reason=reason,
        service_class=ticket.service_class,
        batch_size=run.rows,
        queue=answer.queue,
        compute=answer.compute,
        budget=answer.budget,
    )


async def infer(engine: Engine, request: Request, inputs, arrival: float) -> SimpleNamespace:
    """Submit and wait; a cancelled task is a caller who leaves."""
    future = asyncio.get_running_loop().create_future()

    def reply(ending: Answer | Exception) -> None:
        if future.cancelled():
            return  # only `abandon` is quicker than that
        if isinstance(ending, Answer):
            future.set_result(told(ending))
        else:
            future.set_exception(ending)

    flight = engine.submit(request, inputs, arrival, reply)
    try:
        return await future
    except asyncio.CancelledError:
        engine.abandon(flight)
        raise


class Bench:
    """An engine with one model, and what it would tell its telemetry."""

    def __init__(
        self,
        predicted=PREDICTED,
        duration: Callable[[str, int], float] | None = None,
        workers: int = 1,
        max_batch_size: int = 8,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.loop = loop
        self.catalog = make_catalog(make_model(classes=CLASSES, max_batch_size=max_batch_size))
        profiles = make_profiles(self.catalog, predicted)

        def as_predicted(variant: str, rows: int) -> float:
            fixed, per_row = predicted[variant]
            return fixed + per_row * rows

        self.executor = FakeExecutor(ONE_VECTOR, duration or as_predicted)
        for variant in self.catalog.models["m"].variants:
            self.executor.load(self.catalog.models["m"], variant)
        places = [Worker(index, "cpu") for index in range(workers)]
        self.telemetry = RecordingTelemetry()
        self.engine = Engine(
            self.catalog,
            Scheduler(self.catalog, profiles, {w.id: w.device for w in places}),
            places,
            {"fake": self.executor},
            LoopClock(loop, loop.time),
            self.telemetry,
        )
        self.engine.start()

    def another(self, generation: int, *, predicted=PREDICTED, accuracies=None):
        """A catalog of another generation of the model, loaded, and its profiles."""
        made = make_model(accuracies=accuracies, classes=CLASSES)
        model = replace(made, generation=generation)
        for variant in model.variants:
            self.executor.load(model, variant)
        catalog = replace(make_catalog(model), generation=generation)
        return catalog, make_profiles(catalog, predicted)

    async def ask(self, value: float = 1.0, rows: int = 1, remaining=math.inf, **parameters):
        inputs = {"x": np.full((rows, 3), value, np.float32)}
        request = Request(model="m", rows=rows, parameters=parameters, remaining=remaining)
        return await infer(self.engine, request, inputs, self.loop.time())
