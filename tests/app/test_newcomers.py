"""Reloads where memory has limits: real repository and exchange, with an executor that counts."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from gearshift.app.exchanging import Exchanging
from gearshift.app.first_places import first_places
from gearshift.app.parts import Loaded
from gearshift.app.settings import load_settings
from gearshift.core import residency as core
from gearshift.core.reload import Reload, Result
from gearshift.core.request import Request
from gearshift.core.scheduler import Scheduler
from gearshift.engine import Engine, LoopClock
from gearshift.errors import NotResident
from gearshift.repository import contents, load, stamps
from gearshift.telemetry import PrometheusTelemetry
from sized_executor import MIB, SizedExecutor

WITHIN = 20.0
SIZES = {"large": 1000, "middle": 600, "small": 200, "huge": 5000}
TOML = """
metric = "{}"
max_batch_size = {}
default_class = "default"
[classes.default]
"""
VARIANT = """
[[variants]]
name = "{}"
version = {}
executor = "fake"
accuracy = {}
"""


class Place:
    def __init__(self, root, state, limit):
        self.root = root
        self.settings = load_settings(
            repository=root, state_dir=state, workers=1, device_memory_mib={"cpu": limit}
        )
        self.executor = SizedExecutor(SIZES)
        self.generation = 1

    def put(self, name, *variants, metric="top1", largest=2):
        (self.root / name).mkdir(parents=True, exist_ok=True)
        text = TOML.format(metric, largest)
        for version, variant in enumerate(variants, start=1):
            (self.root / name / variant).mkdir(exist_ok=True)
            text += VARIANT.format(variant, version, 1 - version / 10)
        (self.root / name / "model.toml").write_text(text)

    @asynccontextmanager
    async def serving(self):
        held, before = contents(self.root), stamps(self.root)
        executors = {"fake": self.executor}
        catalog = load(self.root, {"fake": self.executor.inspect})
        first = await first_places(self.settings, catalog, executors, lambda *_: None, 0)
        self.executor.most["cpu"] = 0
        telemetry = PrometheusTelemetry(catalog)
        loop = asyncio.get_running_loop()
        workers = {worker.id: worker.device for worker in first.workers}
        self.engine = Engine(
            catalog,
            Scheduler(catalog, first.profiles, workers),
            first.workers,
            executors,
            LoopClock(loop),
            telemetry,
        )
        self.residing, newcomers = first.served_by(self.engine)
        self.engine.start()
        self.exchanging = Exchanging(
            self.settings,
            self.engine,
            Loaded(catalog, held, before),
            executors,
            first.workers,
            telemetry,
            lambda models: None,
            newcomers=newcomers,
        )
        yield self
        await self.engine.drain(1.0)
        await self.exchanging.idle()

    async def reload(self, **what):
        self.generation += 1
        async with asyncio.timeout(WITHIN):
            told = await self.exchanging.carry_out(Reload(self.generation, **what))
            # Retired in one of the next turns, and then given back.
            await asyncio.sleep(0.01)
            await self.exchanging.idle()
        return told

    def explained(self, model):
        """By variant, whether it can be had."""
        gears = self.engine.explain(Request(model=model, rows=1)).gears
        return {gear.name: gear.verdict.value != "not_resident" for gear in gears}

    def used(self):
        """MiB, as far as is counted."""
        return self.residing.limits["cpu"] / MIB - self.residing.free("cpu") / MIB


@pytest.fixture
def place(tmp_path):
    def placed(limit):
        return Place(tmp_path / "repo", tmp_path / "state", limit)

    return placed


async def test_a_new_generation_is_loaded_where_its_predecessor_is(place):
    here = place(2500)
    here.put("m", "large", "middle", "small", "huge")
    async with here.serving():
        # There is no room for all of it, and none for `huge` at all.
        here.put("m", "large", "middle", "small", "huge", metric="top5")
        assert here.explained("m") == {"large": True, "middle": True, "small": True}
        told = await here.reload()
        assert "does not fit into the memory of cpu beside what is loaded" in str(told.problems)
        assert here.engine.catalog.models["m"].metric == "top1"
        assert here.executor.held() == [("large", 1), ("middle", 1), ("small", 1)]
        assert here.used() == pytest.approx(1800, abs=100)
        # What is known is not even tried.
        assert here.executor.most["cpu"] <= 2500 * MIB


async def test_what_fits_beside_it_is_exchanged_and_the_old_memory_is_given_back(
    place, monkeypatch
):
    here = place(1500)
    here.put("m", "middle", "large")
    middle = frozenset({core.Place("m", "middle", "cpu")})
    monkeypatch.setattr("gearshift.residency.Program.best", lambda self, problem: middle)
    async with here.serving():
        here.put("m", "middle", "large", metric="top5")
        assert here.executor.held() == [("middle", 1)]
        told = await here.reload()
        assert told.results == {"m": Result.LOADED}
        assert here.engine.catalog.models["m"].metric == "top5"
        assert here.executor.held() == [("middle", 2)]
        assert here.explained("m") == {"middle": True, "large": False}
        assert here.used() == pytest.approx(600, abs=50)
        assert here.executor.most["cpu"] <= 1500 * MIB
        with pytest.raises(NotResident):
            here.engine.submit(
                Request(model="m", rows=1, parameters={"variant": "large"}),
                {},
                here.engine.clock.now(),
                lambda ending: None,
            )


async def test_a_model_that_comes_takes_what_is_free_and_one_that_goes_leaves_it(place):
    here = place(1500)
    here.put("m", "middle")
    async with here.serving():
        here.put("n", "small", "large")
        told = await here.reload()
        # To be measured, `large` would have to be loaded.
        assert "n/large" in str(told.problems)
        assert "it takes 1000 MiB" in str(told.problems)
        assert here.executor.held() == [("middle", 1)]
        assert here.used() == pytest.approx(600, abs=50)
        here.put("n", "small")
        assert (await here.reload()).results["n"] is Result.LOADED
        assert here.explained("n") == {"small": True}
        assert here.used() == pytest.approx(800, abs=50)
        assert (await here.reload(out=("m",))).results["m"] is Result.UNLOADED
        assert here.used() == pytest.approx(200, abs=50)
        here.put("n", "small", "large")
        assert (await here.reload(out=("m",))).results["n"] is Result.LOADED
        assert here.explained("n") == {"small": True, "large": True}
        # Only the size of its artifact is known before it is measured, and there is none here.
        assert here.executor.most["cpu"] == 1800 * MIB


async def test_a_reload_that_fails_gives_back_what_it_took(place):
    here = place(2500)
    here.put("m", "small", "middle")
    async with here.serving():
        here.put("m", "small", "middle", metric="top5")
        here.executor.fails = {"middle"}
        told = await here.reload()
        assert [str(each) for each in told.problems] == ["m/middle: middle is broken"]
        assert here.executor.held() == [("middle", 1), ("small", 1)]
        assert here.used() == pytest.approx(800, abs=50)
        here.executor.fails = set()
        assert (await here.reload()).results == {"m": Result.LOADED}
        assert len(here.executor.held()) == 2


async def test_what_its_predecessor_has_not_loaded_is_measured_and_unloaded(place):
    here = place(1700)
    here.put("n", "large")
    here.put("m", "middle", "small")
    async with here.serving():
        # One of m's beside n's; which one depends on how quickly each was measured to be.
        ((kept, _),) = [each for each in here.executor.held() if each[0] != "large"]
        away = "small" if kept == "middle" else "middle"
        assert (await here.reload(out=("n",))).results["n"] is Result.UNLOADED
        here.put("m", "middle", "small", largest=4)
        assert (await here.reload(out=("n",))).results["m"] is Result.LOADED
        assert here.executor.held() == [(kept, 3)]
        assert here.explained("m") == {kept: True, away: False}
        assert {p.max_batch for p in here.engine.profiles("m")} == {4}
        assert here.used() == pytest.approx(SIZES[kept], abs=50)
        # What it takes is known now.
        memory = here.residing._residency.memory
        assert memory.sizes["m", away] == pytest.approx(SIZES[away] * MIB, abs=50 * MIB)
