"""An engine around the real core with a cascade and shadows, on the virtual loop."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import numpy as np

from builders import ONE_VECTOR, make_catalog, make_model, make_profiles
from gearshift.core.catalog import Cascade, Late, ServiceClass
from gearshift.core.request import Request
from gearshift.core.scheduler import Scheduler
from gearshift.engine import Answer, Engine, LoopClock
from gearshift.executors.fake import FakeExecutor
from gearshift.ports import Worker
from recording import RecordingJournal, RecordingTelemetry

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
        self.model = model = replace(model, metric="roc_auc", cascades=cascades)
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
