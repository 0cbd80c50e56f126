"""A reload in one process: real repository, engine and followers, with an executor that is told
what to do."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import numpy as np
import pytest

from builders import ONE_VECTOR, make_profiles
from gearshift.app import exchanging as module
from gearshift.app.exchanging import Exchanging
from gearshift.app.learning import learning
from gearshift.app.parts import Loaded, load_variants
from gearshift.app.settings import load_settings
from gearshift.core.reload import Reload, Result
from gearshift.core.request import Request
from gearshift.core.scheduler import Scheduler
from gearshift.engine import Answer, Engine, LoopClock
from gearshift.errors import ModelNotFound
from gearshift.executors.fake import FakeExecutor
from gearshift.ports import EXPRESS, Worker
from gearshift.repository import contents, load, stamps
from gearshift.telemetry import PrometheusTelemetry

WITHIN = 20.0

TOML = """
metric = "top1"
max_batch_size = 4
default_class = "{service_class}"
[classes.{service_class}]
[[variants]]
name = "{variant}"
version = 1
executor = "fake"
accuracy = {accuracy}
"""


class Told(FakeExecutor):
    """Fails where it is told to."""

    fails_to_load = fails_to_run = ""

    def load(self, model, variant):
        if model.name == self.fails_to_load:
            raise ValueError("it needs 3 GB, and there is 1 GB")
        super().load(model, variant)

    def run_here(self, model, variant, inputs):
        if model.name == self.fails_to_run:
            raise RuntimeError("no such operator")
        return super().run_here(model, variant, inputs)

    @property
    def held(self):
        return sorted((model, generation) for model, _, generation in self._loaded)


class Place:
    def __init__(self, root, settings):
        self.root, self.settings = root, settings
        self.one_by_one = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.executor = Told(ONE_VECTOR, lambda variant, rows: 0.0, self.sleep)

    async def sleep(self, seconds):
        # Only callers' runs wait: those beside serving have a loop of their own.
        if asyncio.get_running_loop() is self.loop:
            await self.gate.wait()
            if self.one_by_one:
                self.gate.clear()

    def put(self, name, variant="only", accuracy=0.9, service_class="default"):
        folder = self.root / name
        (folder / variant).mkdir(parents=True, exist_ok=True)
        text = TOML.format(variant=variant, accuracy=accuracy, service_class=service_class)
        (folder / "model.toml").write_text(text)

    @asynccontextmanager
    async def serving(self):
        self.loop = asyncio.get_running_loop()
        held, before = contents(self.root), stamps(self.root)
        catalog = load(self.root, {"fake": self.executor.inspect})
        loaded = Loaded(catalog, held, before)
        for model in catalog.models.values():
            for variant in model.variants:
                self.executor.load(model, variant)
        self.telemetry = PrometheusTelemetry(catalog)
        workers = [Worker(0, "cpu")]
        profiles = make_profiles(catalog, {"only": (0.01, 0.0)})
        async with learning(self.settings, catalog, self.telemetry) as learned:
            self.engine = Engine(
                catalog,
                Scheduler(catalog, profiles, {0: "cpu"}),
                workers,
                {"fake": self.executor},
                LoopClock(self.loop),
                self.telemetry,
                learned.journal,
            )
            self.engine.start()
            learned.correct(self.engine)
            self.exchanging = Exchanging(
                self.settings,
                self.engine,
                loaded,
                {"fake": self.executor},
                workers,
                self.telemetry,
                learned.prepare,
            )
            self.exchanging.tell(self.telemetry, learned)
            yield self
            self.gate.set()
            await self.engine.drain(1.0)
            await self.exchanging.idle()

    async def reload(self, generation, **what):
        async with asyncio.timeout(WITHIN):
            return await self.exchanging.carry_out(Reload(generation, **what))

    def ask(self, name):
        answer = self.loop.create_future()
        self.begin(name, answer.set_result)
        return asyncio.wait_for(answer, WITHIN)

    def begin(self, name, reply=lambda ending: None):
        inputs = {"x": np.ones((1, 3), np.float32)}
        request = Request(model=name, rows=1)
        return self.engine.submit(request, inputs, self.engine.clock.now(), reply)

    async def retired(self):
        """Until every model holds memory once."""
        async with asyncio.timeout(WITHIN):
            while set(self.exchanging.generations.values()) != {1}:  # noqa: ASYNC110 - on threads
                await asyncio.sleep(0.005)

    def page(self):
        return self.telemetry.exposition()[0].decode()


@pytest.fixture
def place(tmp_path):
    settings = load_settings(repository=tmp_path / "repo", state_dir=tmp_path / "state")
    made = Place(tmp_path / "repo", settings)
    for name in ("a", "b"):
        made.put(name)
    return made


async def test_what_differs_is_exchanged_and_what_was_there_is_given_back(place):
    async with place.serving():
        stays = place.engine.catalog.models["b"]
        assert isinstance(await place.ask("a"), Answer)
        place.put("a", accuracy=0.7)
        place.put("c")
        told = await place.reload(2)
        assert told.results == {
            "a": Result.LOADED,
            "b": Result.UNCHANGED,
            "c": Result.LOADED,
        }
        await place.retired()
        assert place.executor.held == [("a", 2), ("b", 1), ("c", 2)]
        assert place.engine.catalog.models["b"] is stays
        assert (await place.ask("a")).accuracy == 0.7
        assert isinstance(await place.ask("c"), Answer)
        assert place.exchanging.generations == {"a": 1, "b": 1, "c": 1}
        page = place.page()
        assert "gearshift_catalog_generation 2.0" in page
        # Counters of what stays go on.
        served = 'requests_total{model="a",outcome="served",service_class="default",variant="only"}'
        assert f"gearshift_{served} 2.0" in page
        assert 'gearshift_variant_accuracy{model="a",source="declared",variant="only"} 0.7' in page


async def test_requests_in_flight_end_on_the_generation_that_took_them(place):
    async with place.serving():
        place.gate.clear()
        running = asyncio.ensure_future(place.ask("a"))
        await asyncio.sleep(0.01)
        place.put("a", accuracy=0.7)
        await place.reload(2)
        assert place.executor.held == [("a", 1), ("a", 2), ("b", 1)]
        assert place.exchanging.generations["a"] == 2
        new = asyncio.ensure_future(place.ask("a"))
        place.gate.set()
        assert ((await running).accuracy, (await new).accuracy) == (0.9, 0.7)
        await place.retired()
        assert place.executor.held == [("a", 2), ("b", 1)]


async def test_a_run_that_outlives_its_requests_keeps_its_generation(place):
    """It began after the exchange, for one who had waited before, and who has left since."""
    async with place.serving():
        place.gate.clear()
        first = asyncio.ensure_future(place.ask("a"))
        await asyncio.sleep(0.01)
        flight = place.begin("a")
        place.put("a", accuracy=0.7)
        await place.reload(2)
        place.one_by_one = True
        place.gate.set()
        await first
        await asyncio.sleep(0.01)  # the second one runs now, and goes on
        place.engine.abandon(flight)
        await asyncio.sleep(0.05)
        assert ("a", 1) in place.executor.held
        place.one_by_one = False
        place.gate.set()
        await place.retired()
        assert ("a", 1) not in place.executor.held


async def test_an_unloaded_model_answers_whom_it_has_and_nobody_else(place):
    async with place.serving():
        place.gate.clear()
        running = asyncio.ensure_future(place.ask("a"))
        await asyncio.sleep(0.01)
        told = await place.reload(2, look=(), out=("a",))
        assert told.results == {"a": Result.UNLOADED}
        with pytest.raises(ModelNotFound):
            place.ask("a")
        assert place.exchanging.unserved() == {
            "a": "unloaded; load it by name, or change its files"
        }
        place.gate.set()
        assert isinstance(await running, Answer)
        await place.retired()
        assert place.executor.held == [("b", 1)]
        # The same again is nothing, and it can come back.
        assert not (await place.reload(3, look=(), out=("a",))).changed
        assert (await place.reload(3, look=("a",))).results == {"a": Result.LOADED}
        assert isinstance(await place.ask("a"), Answer)


@pytest.mark.parametrize(
    ("breaks", "reason"),
    [
        ("fails_to_load", "c/only: it needs 3 GB, and there is 1 GB"),
        ("fails_to_run", "c: c/only on cpu does not run: RuntimeError: no such operator"),
    ],
)
async def test_a_generation_that_fails_changes_nothing_and_holds_nothing(place, breaks, reason):
    async with place.serving():
        before = place.engine.catalog
        place.put("a", accuracy=0.7)
        place.put("c")
        setattr(place.executor, breaks, "c")
        told = await place.reload(2)
        assert [str(problem) for problem in told.problems] == [reason]
        assert told.results == {"c": Result.FAILED}
        await place.retired()
        assert place.engine.catalog is before
        assert place.executor.held == [("a", 1), ("b", 1)]
        assert place.exchanging.generations == {"a": 1, "b": 1}
        assert place.exchanging.unserved() == {"c": reason}
        assert (await place.ask("a")).accuracy == 0.9
        # The same number again, once it is mended.
        setattr(place.executor, breaks, "")
        assert (await place.reload(2)).of(Result.LOADED) == ["a", "c"]
        assert place.exchanging.unserved() == {}


async def test_files_that_change_until_the_end_are_not_taken(place, monkeypatch):
    async with place.serving():
        place.put("a", accuracy=0.7)

        def late(*given):
            load_variants(*given)
            place.put("a", accuracy=0.75)

        monkeypatch.setattr(module, "load_variants", late)
        told = await place.reload(2)
        assert "changed while it was read" in str(told.problems[0])
        assert (await place.ask("a")).accuracy == 0.9


async def test_one_that_never_gets_ready_is_given_up(place, monkeypatch):
    async with place.serving():
        monkeypatch.setattr(module, "READY_WITHIN", 0.1)
        stuck = asyncio.Event()

        async def never(*_, **__):
            await stuck.wait()

        monkeypatch.setattr(module, "warm_up", never)
        place.put("a", accuracy=0.7)
        told = await place.reload(2)
        assert str(told.problems[0]) == "the repository: was not ready after 0.1 s"
        await place.retired()
        assert place.executor.held == [("a", 1), ("b", 1)]


async def test_the_first_model_with_short_runs_brings_the_express_worker(place):
    async with place.serving():
        assert EXPRESS not in place.page()
        place.put("c")
        await place.reload(2)
        assert isinstance(await place.ask("c"), Answer)
        assert 'gearshift_workers{device="express"} 1.0' in place.page()
        assert 'gearshift_workers{device="cpu"} 1.0' in place.page()


async def test_twenty_reloads_leave_no_more_behind_than_one(place):
    async with place.serving():
        place.put("a", accuracy=0.5)
        await place.reload(2)
        await place.ask("a")
        await place.retired()
        series = len(place.page().splitlines())
        for generation in range(3, 23):
            place.put("a", accuracy=0.5 + generation / 100)
            assert (await place.reload(generation)).of(Result.LOADED) == ["a"]
            assert isinstance(await place.ask("a"), Answer)
        await place.retired()
        assert len(place.page().splitlines()) == series
        assert place.executor.held == [("a", 22), ("b", 1)]
