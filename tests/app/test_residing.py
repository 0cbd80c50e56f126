"""The slow loop beside a real engine and core, in virtual time: what is loaded follows demand, and
nothing else happens."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gearshift.core.request import Request
from gearshift.core.residency import HOLD, LONGEST_DRAIN, RETRY, Place
from gearshift.engine.doorkeeper import SOMEBODY
from gearshift.errors import NotResident
from residing import a_model
from residing_site import Site
from virtual import run_virtual, virtual

SIZES = {("a", "large"): 10.0, ("a", "middle"): 6.0, ("a", "small"): 2.0}
CPU = {"cpu": 12.0}
LARGE, MIDDLE, SMALL = (Place("a", variant, "cpu") for variant in ("large", "middle", "small"))


def site(resident, limits=CPU, **others):
    return Site([a_model("a")], limits, SIZES, {*resident}, **others)


def decides(site, target):
    """Whatever is asked for, and whoever is left without an answer by that."""

    async def solve(problem):
        return (frozenset(target) if problem.resident != target else None), ()

    site.residing._solve = solve


def counted(site):
    """The counters by name and labels."""
    return {
        (sample.name.removeprefix("gearshift_"), *sample.labels.values()): sample.value
        for family in site.residing.counted.collect()
        for sample in family.samples
    }


@virtual
async def test_what_is_asked_for_and_away_is_loaded_and_what_is_in_its_way_makes_room():
    served = site([MIDDLE, SMALL])
    async with served.residing.running():
        with pytest.raises(NotResident, match="'large' of model 'a' is not resident"):
            await served.ask(variant="large")
        await served.stream(20, 8, variant="large")
    assert served.resident() == {"large", "small"}
    assert not served.shelf.broken
    # At least what was asked after the look, the solver, the unloading and the load.
    assert served.endings["large"] > 40
    told = counted(served)
    assert told["variant_loads_total", "cpu", "loaded"] == 1
    assert told["variant_unloads_total", "cpu"] == 1
    assert told["residency_decisions_total", "changed"] == 1
    assert told["variant_resident", "a", "large", "cpu"] == 1
    assert told["variant_resident", "a", "middle", "cpu"] == 0
    assert told["device_memory_used_bytes", "cpu"] == 12
    assert told["residency_solver_seconds_sum",] == pytest.approx(0.5)


@virtual
async def test_each_request_counts_once_also_if_it_is_refused_before_its_inputs_are_made():
    served = site([MIDDLE, SMALL])
    heard = Counter()
    served.engine.counts = lambda ticket, model: heard.update([ticket.variant])

    def foresee(variant):
        request = Request(model="a", rows=1, parameters={"variant": variant})
        return served.engine.foresee(request, served.loop.time(), SOMEBODY)

    foresee("small")
    assert not heard
    await served.ask(variant="small")
    assert heard == {"small": 1}
    with pytest.raises(NotResident):
        foresee("large")
    assert heard == {"small": 1, "large": 1}
    with pytest.raises(NotResident):
        await served.ask(variant="large")
    assert heard["large"] == 2


@virtual
async def test_nobody_asks_and_nothing_happens():
    served = site([MIDDLE, SMALL])
    async with served.residing.running():
        await asyncio.sleep(1000.0)
    assert served.solves == 0
    assert not served.shelf.loads


@virtual
async def test_whoever_can_be_answered_is_while_variants_change_places():
    """Room for one at a time beside the smallest: everybody without a wish is answered throughout,
    and nobody who was taken in is lost."""
    served = site([MIDDLE, SMALL])
    async with served.residing.running(), asyncio.TaskGroup() as group:
        group.create_task(served.stream(50, 12))
        group.create_task(served.stream(20, 12, variant="large"))
    assert not served.shelf.broken
    assert served.resident() == {"large", "small"}
    assert sum(served.endings.values()) == 50 * 12 + 20 * 12
    assert set(served.endings) == {"large", "middle", "small", "NotResident"}
    # All that is refused pinned what was not there yet.
    assert served.endings["NotResident"] < 20 * 5


@virtual
async def test_one_for_all_stays_until_another_is_there():
    """The only one that answers a floor leaves when another one that does is loaded, or never."""
    served = Site([a_model("a", floor=0.85)], {"cpu": 11.0}, SIZES, {MIDDLE})
    async with served.residing.running():
        await served.stream(20, 20, variant="large")
    assert served.resident() == {"middle"}
    assert served.endings == {"NotResident": 400}


@virtual
async def test_what_waits_for_a_leaving_variant_is_still_answered():
    served = Site([a_model("a", budget=20.0)], CPU, SIZES, {MIDDLE, SMALL}, workers={"cpu": 1})
    decides(served, {LARGE, SMALL})
    async with served.residing.running(), asyncio.TaskGroup() as group:
        # 4.8 s of work for the one worker, on what has to make room in the middle of it.
        for _ in range(60):
            group.create_task(served.ends(variant="middle", rows=8))
        await asyncio.sleep(3.5)
        assert set(served.residing._residency.leaving) == {MIDDLE}
        with pytest.raises(NotResident):
            await served.ask(variant="middle")
        assert served.endings["middle"] < 50
        await asyncio.sleep(5.0)
        assert served.resident() == {"large", "small"}
    assert served.endings["middle"] == 60
    assert not served.shelf.broken


@virtual
async def test_what_fails_to_load_is_tried_again_after_a_while():
    served = site([MIDDLE, SMALL])
    served.shelf.fails.add("large")
    async with served.residing.running():
        asking = asyncio.create_task(served.stream(10, 10 + RETRY + 2 * HOLD, variant="large"))
        await asyncio.sleep(12.0)
        assert served.shelf.loads.count("large") == 1
        assert counted(served)["variant_loads_total", "cpu", "failed"] == 1
        assert sum(served.shelf.taken.values()) < 10.0
        served.shelf.fails.clear()
        await asyncio.sleep(RETRY + HOLD)
        assert served.shelf.loads.count("large") == 2
        await asking
    assert "large" in served.resident()
    assert served.endings["large"] > 0
    assert not served.shelf.broken


@virtual
async def test_a_solver_that_raises_changes_nothing_and_is_asked_again():
    served = site([MIDDLE, SMALL])
    right, calls = served.solve, []

    async def wrong_at_first(problem):
        calls.append(served.loop.time())
        if len(calls) < 3:
            raise RuntimeError("no such solver")
        return await right(problem)

    served.residing._solve = wrong_at_first
    async with served.residing.running():
        await served.stream(20, 16, variant="large")
    assert len(calls) == 3
    told = counted(served)
    assert told["residency_decisions_total", "failed"] == 2
    assert served.resident() == {"large", "small"}


@virtual
async def test_a_solver_that_never_returns_is_given_up():
    served = site([MIDDLE, SMALL])
    never = asyncio.Event()
    served.residing._solve = lambda problem: never.wait()
    async with served.residing.running():
        await served.ask()
        await asyncio.sleep(450.0)
        assert counted(served)["residency_decisions_total", "failed"] == 1
    assert served.resident() == {"middle", "small"}


@virtual
async def test_a_load_that_hangs_keeps_its_memory_out_of_use():
    """Nobody knows whether it still takes some: nothing is loaded into that."""
    served = site([SMALL])

    async def hangs(model, variant, device):
        raise TimeoutError

    load, served.shelf.load = served.shelf.load, hangs
    async with served.residing.running():
        await served.stream(20, 6, variant="large")
        assert counted(served)["device_memory_used_bytes", "cpu"] == 12
        served.shelf.load = load
        await served.stream(20, RETRY + HOLD, variant="middle")
    assert served.resident() == {"small"}


@virtual
async def test_a_drain_in_the_middle_of_a_change_settles_everybody():
    served = site([MIDDLE, SMALL], seconds=5.0)
    async with asyncio.TaskGroup() as group:
        async with served.residing.running():
            group.create_task(served.stream(50, 3.9, variant="large"))
            group.create_task(served.stream(50, 3.9))
            await asyncio.sleep(4.0)
            # The one is unloaded, or the other is being loaded.
            assert served.resident() == {"small"}
        # Nobody waits for what is under way.
        assert served.loop.time() == pytest.approx(4.0, abs=0.1)
        await served.engine.drain(5.0)
    assert sum(served.endings.values()) == 2 * 195
    assert set(served.endings) <= {"middle", "small", "NotResident"}
    before = list(served.shelf.loads)
    await asyncio.sleep(60.0)
    assert served.shelf.loads == before
    assert not served.shelf.broken


@virtual
async def test_a_reload_waits_for_a_change_and_takes_its_residency_over():
    served = site([MIDDLE, SMALL], limits={"cpu": 30.0}, seconds=2.0)
    model = served.engine.catalog.models["a"]
    async with served.residing.running(), asyncio.TaskGroup() as group:
        group.create_task(served.stream(20, 15, variant="large"))
        group.create_task(served.stream(20, 15))
        await asyncio.sleep(3.5)
        # In the middle of the load.
        assert served.shelf.loads == ["large"]
        assert served.resident() == {"middle", "small"}
        served.shelf.limits = {"cpu": 36.0}
        served.residing.limits = {"cpu": 36.0}
        await served.reload(model, 2)
        assert served.resident(generation=2) == {"large", "middle", "small"}
        await asyncio.sleep(1.0)
        assert served.resident(generation=1) == set()
        assert counted(served)["device_memory_used_bytes", "cpu"] == 18
    assert not served.shelf.broken
    assert set(served.endings) <= {"large", "middle", "small", "NotResident"}
    assert sum(served.endings.values()) == 2 * 300


@virtual
async def test_what_was_decided_for_a_catalog_that_is_gone_is_not_done():
    served = site([MIDDLE, SMALL], limits={"cpu": 20.0})
    model = served.engine.catalog.models["a"]
    async with served.residing.running():
        asking = asyncio.create_task(served.stream(20, 4, variant="large"))
        await asyncio.sleep(2.3)
        assert served.solves == 1
        served.shelf.seconds = 0.01
        # Quicker than the solver.
        await served.reload(model, 2)
        assert served.solves == 1
        await asyncio.sleep(0.5)
        assert counted(served)["residency_decisions_total", "overtaken"] == 1
        assert "large" not in served.shelf.loads
        await asking
        await served.stream(20, 6, variant="large")
    # It was looked at again.
    assert "large" in served.resident(generation=2)
    assert not served.shelf.broken


@virtual
async def test_a_model_that_is_gone_leaves_its_room_to_others():
    sizes = {**SIZES, **{("b", name): size for (_, name), size in SIZES.items()}}
    small_b = Place("b", "small", "cpu")
    models = [a_model("a"), a_model("b")]
    served = Site(models, {"cpu": 12.0}, sizes, {SMALL, small_b})
    async with served.residing.running():
        await served.stream(20, 8, variant="large")
        assert served.resident() == {"small"}
        before = served.engine.catalog
        async with served.residing.turn:
            catalog = type(before)(2, {"a": before.models["a"]})
            served.engine.exchange(catalog, served.profiles([]), served._retired)
            served.residing.exchanged(before, {})
        assert ("variant_resident", "b", "small", "cpu") not in counted(served)
        await served.stream(20, 8, variant="large")
    assert served.resident() == {"large", "small"}
    assert served.resident("b") == set()
    assert not served.shelf.broken


@virtual
async def test_two_devices_are_loaded_side_by_side():
    limits = {"cpu": 12.0, "gpu": 12.0}
    served = Site([a_model("a")], limits, SIZES, {SMALL}, workers={"cpu": 1, "gpu": 1}, seconds=3.0)
    async with served.residing.running():
        await served.stream(60, 20, variant="large")
    assert {key[3] for key in served.shelf.ready if key[2] == "large"} == {"cpu", "gpu"}
    assert not served.shelf.broken


@virtual
async def test_a_request_that_never_ends_keeps_what_it_needs_and_the_change_is_given_up():
    served = site([MIDDLE, SMALL], hung_after=1e9)
    never = asyncio.Event()
    run = served.engine._executors["fake"].run

    async def hangs(worker, model, variant, inputs, within=0.0):
        if variant.name == "middle":
            served.shelf.running[model.name, model.generation, variant.name, worker.device] += 1
            await never.wait()
        return await run(worker, model, variant, inputs)

    served.engine._executors["fake"].run = hangs
    decides(served, {LARGE, SMALL})
    async with served.residing.running():
        stuck = asyncio.create_task(served.ends())
        await served.stream(20, 8, variant="small")
        assert set(served.residing._residency.leaving) == {MIDDLE}
        await served.stream(20, LONGEST_DRAIN, variant="small")
        assert served.resident() == {"middle", "small"}
        assert not served.residing._residency.leaving
        stuck.cancel()
    assert not served.shelf.broken


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_whatever_is_asked_for_memory_holds_and_everybody_is_settled_once(data):
    names = data.draw(st.sampled_from([("a",), ("a", "b")]))
    floors = [data.draw(st.sampled_from([0.0, 0.85])) for _ in names]
    models = [a_model(name, floor) for name, floor in zip(names, floors, strict=True)]
    sizes = {
        (name, v): float(data.draw(st.integers(1, 10)))
        for name in names
        for v in ("large", "middle", "small")
    }
    limits = {"cpu": float(data.draw(st.integers(6, 30)))}
    resident: set[Place] = set()
    for place in data.draw(st.permutations([Place(*each, "cpu") for each in sizes])):
        if sum(sizes[p[:2]] for p in [*resident, place]) <= limits["cpu"]:
            resident.add(place)
    seed = data.draw(st.integers(0, 2**16))
    reload_at = data.draw(st.sampled_from([None, 5.0, 11.0]))
    failing = data.draw(st.sampled_from(["", "large", "small"]))

    async def run():
        served = Site(models, limits, sizes, resident, seconds=data.draw(st.sampled_from([0.1, 3])))
        served.shelf.fails = {failing}
        chance, asked = random.Random(seed), 0
        able_before = {m.name: served.resident(m.name) for m in models}
        async with served.residing.running(), asyncio.TaskGroup() as group:
            for second in range(30):
                if second == reload_at and sum(sizes[p[:2]] for p in resident) * 2 <= limits["cpu"]:
                    served.shelf.fails = set()
                    await served.reload(models[0], 2)
                name = chance.choice(names)
                for _ in range(chance.choice([1, 20, 60])):
                    asked += 1
                    wishes = [{}, {"variant": "large"}, {"variant": "small"}]
                    wish = chance.choice([*wishes, {"latency_budget_ms": 5}, {"min_accuracy": 0.9}])
                    group.create_task(served.ends(name, **wish))
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.2)
        assert not served.shelf.broken
        assert sum(served.endings.values()) == asked == len(served.telemetry.settleds)
        assert "RuntimeError" not in served.endings
        assert "ExecutorFailed" not in served.endings
        # Who could be answered at the beginning still can: a class's need is never left alone.
        for model, floor in zip(models, floors, strict=True):
            enough = {v.name for v in model.variants if v.accuracy >= floor}
            generation = served.engine.catalog.models[model.name].generation
            if able_before[model.name] & enough:
                assert served.resident(model.name, generation) & enough

    run_virtual(run())
