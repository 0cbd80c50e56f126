"""The closed loop as the server wires it: labels in, routing changes, the traffic leaves."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from builders import make_catalog, make_model, make_profiles
from feedback_place import CLASSES, SCORE
from gearshift.app.learning import learning
from gearshift.app.settings import load_settings
from gearshift.core.card import SCHEMA, Card, DataSource, Measurement, Recipe
from gearshift.core.catalog import Cascade, Standing
from gearshift.core.reports import Report, Ruling
from gearshift.core.request import Request
from gearshift.core.scheduler import Scheduler
from gearshift.engine import Answer, Engine, LoopClock
from gearshift.errors import FloorUnreachable
from gearshift.executors.fake import FakeExecutor
from gearshift.feedback import learning as learner
from gearshift.ports import Worker
from gearshift.telemetry import PrometheusTelemetry

LEARNED_WITHIN = 20.0
CHUNK = 20
PREDICTED = {"large": (1e-6, 0.0), "small": (1e-6, 0.0)}


class Kinds(FakeExecutor):
    """Answers the class that stands in the input; the variant that is `broken` the next one, and
    so does the small one every fifth time."""

    broken = ""

    def run_here(self, model, variant, inputs):
        (outputs,) = super().run_here(model, variant, inputs).values()
        if outputs.shape[1] == 1:
            return {"y": outputs}
        wrong = variant.name == self.broken or (variant.name == "small" and len(self.runs) % 5 == 0)
        kinds = (outputs[:, 0].astype(int) + wrong) % 4
        return {"y": np.eye(4, dtype=np.float32)[kinds]}


class Loop:
    """One server without its doors, and callers who report what was true."""

    ids = count()

    def __init__(self, catalog, telemetry, learned):
        loop = asyncio.get_running_loop()
        model = catalog.model("m")
        self.telemetry, self.feedback = telemetry, learned.feedback
        self.executor = Kinds(model.signature, lambda variant, rows: 0.0)
        for variant in model.variants:
            self.executor.load(model, variant)
        self.engine = Engine(
            catalog,
            Scheduler(catalog, make_profiles(catalog, PREDICTED), {0: "cpu"}),
            [Worker(0, "cpu")],
            {"fake": self.executor},
            LoopClock(loop, loop.time),
            telemetry,
            learned.journal,
        )
        self.engine.start()
        learned.correct(self.engine)

    async def ask(self, value=2.0, name="", **parameters) -> Answer:
        loop = asyncio.get_running_loop()
        future = loop.create_future()

        def reply(ending):
            if isinstance(ending, Answer):
                future.set_result(ending)
            else:
                future.set_exception(ending)

        inputs = {"x": np.array([[value, 0.0, 0.0]], np.float32)}
        request = Request(model="m", rows=1, parameters=parameters)
        self.engine.submit(request, inputs, loop.time(), reply, name.encode())
        async with asyncio.timeout(LEARNED_WITHIN):
            return await future

    async def learn(self, requests=CHUNK, **parameters) -> list[Answer]:
        """Ask, and report that class 2 was right each time."""
        ids = [f"r{next(self.ids)}" for _ in range(requests)]
        answers = [await self.ask(name=each, **parameters) for each in ids]
        told = [Report("m", each.encode(), (2,)) for each in ids]
        results = await self.feedback.report(told)
        assert {result.ruling for result in results} == {Ruling.COUNTED}
        return answers

    def figure(self, name: str, **labels: str) -> float:
        page = self.telemetry.exposition()[0].decode()
        (value,) = (
            sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )
        return value

    async def until(self, is_so) -> None:
        async with asyncio.timeout(LEARNED_WITHIN):
            while not is_so():  # noqa: ASYNC110 - a page tells nobody that it has changed
                await asyncio.sleep(0.01)


@pytest.fixture
def serving(tmp_path, monkeypatch):
    """A server on the database of this test, which looks often."""
    monkeypatch.setattr(learner, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(learner, "LARGEST_PART", 1.0)
    settings = load_settings(state_dir=tmp_path, drift=False)

    @asynccontextmanager
    async def started(model):
        catalog = make_catalog(model)
        telemetry = PrometheusTelemetry(catalog)
        async with learning(settings, catalog, telemetry) as learned:
            yield Loop(catalog, telemetry, learned)

    return started


def variants_of(answers) -> set[str]:
    return {answer.run.variant.name for answer in answers}


async def test_a_variant_that_breaks_loses_its_traffic_and_a_restart_knows_it(serving):
    model = make_model(signature=CLASSES)
    with capture_logs() as logs:
        async with serving(model) as loop:
            assert variants_of(await loop.learn(300)) == {"large"}
            labels = {"model": "m", "variant": "large"}
            await loop.until(lambda: loop.figure("gearshift_feedback_labels", **labels) == 300)
            assert loop.figure("gearshift_variant_fallen", **labels) == 0.0

            loop.executor.broken = "large"
            wrong = 0
            while variants_of(await loop.learn()) == {"large"}:
                wrong += CHUNK
                assert wrong <= 500
                # What has been reported is looked at before more is asked.
                await loop.until(
                    lambda: loop.figure("gearshift_variant_accuracy", source="live", **labels) < 1
                )
                await asyncio.sleep(0.1)
            assert wrong > 0
            await loop.until(lambda: loop.figure("gearshift_variant_fallen", **labels) == 1.0)

            after = await loop.learn(40)
            assert variants_of(after) == {"small"}
            assert {answer.accuracy for answer in after} == {0.80}
            pinned = await loop.ask(variant="large")
            used = loop.figure("gearshift_variant_accuracy_used", **labels)
            assert pinned.accuracy == pytest.approx(used)
            assert used < 0.5
            with pytest.raises(FloorUnreachable):
                await loop.ask(min_accuracy=0.9)
        async with serving(model) as loop:
            await loop.until(lambda: loop.figure("gearshift_variant_fallen", **labels) == 1.0)
            assert variants_of(await loop.learn(5)) == {"small"}
    told = [log["event"] for log in logs if log.get("variant") == "large"]
    assert told == ["a variant's live accuracy has fallen below its card"] * 2


@pytest.mark.parametrize(
    ("broken", "standing", "answers"),
    [("", Standing.SERVING, "large"), ("large", Standing.WITHDRAWN, "small")],
)
async def test_labels_alone_decide_about_a_canary(serving, broken, standing, answers):
    model = make_model(signature=CLASSES)
    canary = replace(
        model.variants[0], standing=Standing.CANARY, share=0.5, card=card("large", 0.95)
    )
    model = replace(model, variants=(canary, *model.variants[1:]))
    labels = {"model": "m", "variant": "large", "standing": standing}
    with capture_logs() as logs:
        async with serving(model) as loop:
            loop.executor.broken = broken
            first = await loop.learn(200)
            assert sum(answer.run.variant.name == "large" for answer in first) == 100
            assert loop.figure("gearshift_variant_standing", **labels) == 0.0
            await loop.learn(500)
            await loop.until(lambda: loop.figure("gearshift_variant_standing", **labels) == 1.0)
            assert variants_of(await loop.learn()) == {answers}
        async with serving(model) as loop:
            await loop.until(lambda: loop.figure("gearshift_variant_standing", **labels) == 1.0)
            assert variants_of(await loop.learn()) == {answers}
    verdict = "promoted" if standing is Standing.SERVING else "withdrawn"
    told = [(log["event"], log["verdict"]) for log in logs if "verdict" in log]
    assert told == [("a canary is decided", verdict), ("a canary was decided before", verdict)]


def card(variant: str, value: float) -> Card:
    measured = Measurement(
        metric="top1", value=value, n=2_000, low=value - 0.01, high=value + 0.01, method="test"
    )
    data = DataSource(name="", source="", licence="", training_sha256="a", evaluation_sha256="b")
    return Card(
        schema=SCHEMA,
        model="m",
        variant=variant,
        artifact=f"{variant}.bin",
        artifact_sha256="",
        artifact_bytes=1_000,
        parameters=1,
        accuracy=measured,
        data=data,
        recipe=Recipe(description="", command="", sha256=""),
    )


async def test_answers_through_a_cascade_say_nothing_of_its_variants_but_of_the_whole(serving):
    """Its first variant keeps the sure rows, its second gets the unsure ones: of either lot alone
    a sound variant looks broken."""
    cascade = Cascade(
        name="both", first="small", then="large", threshold=0.9, escalated=0.5, accuracy=0.94
    )
    model = make_model(signature=SCORE)
    model = replace(model, metric="average_precision", cascades=(cascade,))
    async with serving(model) as loop:
        reports = []
        for number in range(200):
            # Sure that it is negative, or not sure; half of those that are not are positive.
            value, label = ((0.01, 0), (0.4, 0), (0.01, 0), (0.6, 1))[number % 4]
            # A few positives are taken for sure negatives: all that the first variant keeps.
            label = 1 if number % 16 == 0 else label
            name = f"c{number}"
            await loop.ask(value, name, variant="both")
            reports.append(Report("m", name.encode(), (label,)))
        await loop.feedback.report(reports)
        both = {"model": "m", "cascade": "both"}
        await loop.until(lambda: loop.figure("gearshift_cascade_feedback_labels", **both) == 200)
        for variant in ("small", "large"):
            labels = {"model": "m", "variant": variant}
            assert loop.figure("gearshift_feedback_labels", **labels) == 0
            assert loop.figure("gearshift_variant_fallen", **labels) == 0.0
        used = loop.figure("gearshift_cascade_accuracy_used", **both)
        (answer,) = [await loop.ask(0.01, variant="both")]
        assert answer.accuracy == pytest.approx(used)
