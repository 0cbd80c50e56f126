"""One generation of a model takes the place of another while requests are under way."""

from __future__ import annotations

import asyncio
import random
import weakref
from dataclasses import fields, replace

import pytest

import cascade_bench
from builders import make_catalog, make_model, make_profiles
from cascade_bench import PREDICTED as CASCADE_PREDICTED
from cascade_bench import SURE, UNSURE, outputs
from engine_bench import MS, PREDICTED, Bench
from gearshift.core.catalog import Model, Standing
from gearshift.core.profile import Profile, Profiles
from gearshift.errors import ModelNotFound, NotReady
from gearshift.ports import EXPRESS, Worker
from virtual import virtual

NOTHING = replace(make_catalog(), generation=2)


async def settle():
    """Let what is planned for the next turns of the loop happen."""
    for _ in range(3):
        await asyncio.sleep(0)


def start(bench, **parameters):
    return asyncio.ensure_future(bench.ask(latency_budget_ms=100, **parameters))


@virtual
async def test_requests_in_flight_end_on_the_generation_that_admitted_them():
    bench, retired = Bench(), []
    running = start(bench)
    await asyncio.sleep(1 * MS)
    waiting = start(bench)
    await asyncio.sleep(1 * MS)
    bench.engine.exchange(
        *bench.another(2, accuracies={"large": 0.97, "small": 0.9}), retired.append
    )
    assert bench.engine.generations("m") == 2
    new = await bench.ask(latency_budget_ms=100)
    assert new.variant.accuracy == 0.97
    assert (await running).variant.accuracy == (await waiting).variant.accuracy == 0.95
    await settle()
    assert [(model.name, model.generation) for model in retired] == [("m", 1)]
    assert bench.engine.generations("m") == 1


@virtual
async def test_a_model_that_is_unloaded_is_not_found_at_once_and_leaves_when_it_is_idle():
    bench, retired = Bench(), []
    running = start(bench)
    await asyncio.sleep(1 * MS)
    bench.engine.exchange(NOTHING, make_profiles(NOTHING, PREDICTED), retired.append)
    with pytest.raises(ModelNotFound, match="there are: none"):
        await bench.ask()
    assert not retired
    assert bench.engine.generations("m") == 1
    assert (await running).variant.name == "large"
    await settle()
    assert [model.generation for model in retired] == [1]
    assert bench.engine.generations("m") == 0
    bench.engine.exchange(*bench.another(3), retired.append)
    assert (await bench.ask()).variant.name == "large"


@virtual
async def test_one_that_nobody_uses_leaves_at_once_but_not_before_the_exchange_is_over():
    bench, retired = Bench(), []
    bench.engine.exchange(*bench.another(2), retired.append)
    assert not retired
    await settle()
    assert [model.generation for model in retired] == [1]


@virtual
async def test_the_same_generation_stays_with_all_that_has_been_learned():
    bench, retired = Bench(), []
    bench.engine.revise("m", {"large": 0.5}, {})
    same = replace(bench.catalog, generation=9)
    bench.engine.exchange(same, make_profiles(same, PREDICTED), retired.append)
    await settle()
    assert not retired
    assert bench.engine.catalog.generation == 9
    assert bench.engine.catalog.models["m"].best.name == "small"
    assert (await bench.ask()).variant.name == "small"


@virtual
async def test_a_catalog_that_cannot_be_served_changes_nothing():
    bench, retired = Bench(), []
    catalog, _ = bench.another(2, accuracies={"large": 0.97, "small": 0.9})
    running = start(bench)
    await asyncio.sleep(1 * MS)
    with pytest.raises(ValueError, match="runs on none of the workers' devices"):
        bench.engine.exchange(catalog, make_profiles(catalog, PREDICTED, "gpu"), retired.append)
    assert bench.engine.catalog is bench.catalog
    assert (await bench.ask()).variant.accuracy == (await running).variant.accuracy == 0.95
    await settle()
    assert not retired
    assert bench.engine.generations("m") == 1


@virtual
async def test_who_leaves_or_is_dropped_holds_a_generation_no_longer():
    bench, retired = Bench(), []
    running, leaving = start(bench), start(bench)
    await asyncio.sleep(1 * MS)
    short = asyncio.ensure_future(bench.ask(latency_budget_ms=11))
    await asyncio.sleep(0)
    bench.engine.exchange(*bench.another(2), retired.append)
    for task in (running, leaving):
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await settle()
    assert not retired, "its batch still runs"
    assert (await short).variant.name == "small"
    await asyncio.sleep(20 * MS)
    assert [model.generation for model in retired] == [1]


@virtual
async def test_a_run_that_began_after_the_exchange_holds_it_though_nobody_waits():
    bench, retired = Bench(), []
    running = start(bench)
    await asyncio.sleep(1 * MS)
    waiting = start(bench)
    await asyncio.sleep(1 * MS)
    bench.engine.exchange(*bench.another(2), retired.append)
    await running
    await asyncio.sleep(1 * MS)
    waiting.cancel()
    await settle()
    assert bench.executor.runs == [("large", 1)] * 2
    assert not retired, "the second batch still runs"
    assert bench.engine.generations("m") == 2
    await asyncio.sleep(20 * MS)
    assert [model.generation for model in retired] == [1]


@virtual
async def test_it_leaves_while_the_server_drains_and_with_what_is_cut_off_in_the_end():
    bench, retired = Bench(duration=lambda variant, rows: 50 * MS), []
    start(bench)
    await asyncio.sleep(1 * MS)
    bench.engine.exchange(*bench.another(2), retired.append)
    endless = asyncio.ensure_future(bench.ask())
    await asyncio.sleep(0)
    draining = asyncio.ensure_future(bench.engine.drain(70 * MS))
    await asyncio.sleep(60 * MS)
    assert [model.generation for model in retired] == [1]
    bench.engine.exchange(NOTHING, make_profiles(NOTHING, PREDICTED), retired.append)
    await draining
    with pytest.raises(NotReady):
        await endless
    await settle()
    assert [model.generation for model in retired] == [1, 2]


@virtual
async def test_who_cannot_give_back_what_it_held_stops_nobody(capsys):
    bench = Bench()

    def broken(model):
        raise OSError("stuck")

    bench.engine.exchange(*bench.another(2), broken)
    await settle()
    assert bench.engine.generations("m") == 1
    assert (await bench.ask()).variant.name == "large"
    assert "what a generation held was not given back" in capsys.readouterr().out


def exchanged(bench, generation, retired, **changed):
    """The model of a bench with a cascade takes the place of itself, as another generation."""
    model = replace(bench.model, generation=generation, **changed)
    for variant in model.variants:
        bench.executor.load(model, variant)
    catalog = make_catalog(model)
    bench.engine.exchange(catalog, make_profiles(catalog, CASCADE_PREDICTED), retired.append)


@virtual
async def test_a_cascade_goes_on_where_it_began():
    bench, retired = cascade_bench.Bench(), []
    exchanged(bench, 2, retired)
    unsure = bench.ask(UNSURE, variant="both")
    await asyncio.sleep(1 * MS)
    only = make_model(accuracies={"small": 0.9})
    exchanged(bench, 3, retired, variants=only.variants, cascades=())
    assert (await bench.ask(SURE)).accuracy == 0.9
    answer = await unsure
    assert (answer.run.variant.name, outputs(answer)) == ("large", [10.6])
    await settle()
    assert [model.generation for model in retired] == [1, 2]


@virtual
async def test_shadows_that_wait_are_given_up():
    bench, retired = cascade_bench.Bench(share=1.0, cascades=(), workers=3), []
    await bench.ask(SURE, variant="small")
    await settle()
    assert bench.engine._shadows._waiting
    exchanged(bench, 2, retired)
    assert not bench.engine._shadows._waiting
    await asyncio.sleep(50 * MS)
    assert bench.journal.shadows == []
    assert [model.generation for model in retired] == [1]


@virtual
async def test_shadows_never_run_on_another_generation_and_hold_only_while_they_run():
    bench, retired = cascade_bench.Bench(share=1.0, cascades=(), workers=3), []
    await bench.ask(SURE, variant="small")
    await settle()
    old = bench.ask(SURE, variant="small")  # now the shadow of the first one begins
    await asyncio.sleep(1 * MS)
    exchanged(bench, 2, retired)
    await old
    await settle()
    assert not retired, "the shadow of the first one runs"
    assert not bench.engine._shadows._waiting, "that of the second one has no place any more"
    await asyncio.sleep(20 * MS)
    assert [model.generation for model in retired] == [1]
    assert [batch.model.generation for batch in bench.journal.shadows] == [1]
    for _ in range(2):
        await bench.ask(SURE, variant="small")
        await asyncio.sleep(20 * MS)
    assert {batch.model.generation for batch in bench.journal.shadows[1:]} == {2}


@virtual
async def test_what_is_learned_holds_for_old_requests_too_if_it_is_the_same_variant():
    bench = Bench()

    def hashed(catalog, **hashes):
        model = catalog.models["m"]
        variants = [replace(v, artifact_sha256=hashes[v.name]) for v in model.variants]
        return replace(catalog, models={"m": replace(model, variants=tuple(variants))})

    def exchange(generation, **hashes):
        catalog, _ = bench.another(generation)
        catalog = hashed(catalog, **hashes)
        profiles = make_profiles(catalog, PREDICTED)
        bench.engine.exchange(catalog, profiles, lambda model: None)

    exchange(2, large="a" * 64, small="b" * 64)
    running = start(bench)
    await asyncio.sleep(1 * MS)
    waiting = start(bench)
    await asyncio.sleep(0)
    exchange(3, large="a" * 64, small="c" * 64)
    bench.engine.revise("m", {"small": 0.99}, {"large": Standing.WITHDRAWN})
    await running
    answer = await waiting
    assert (answer.variant.name, answer.variant.accuracy) == ("small", 0.80)
    new = await bench.ask()
    assert (new.variant.name, new.variant.accuracy) == ("small", 0.99)


@virtual
async def test_a_first_model_for_the_express_worker_brings_it():
    bench = Bench()
    catalog, _ = bench.another(2)
    usual = make_profiles(catalog, {"large": (0.1 * MS, 0.0), "small": (0.1 * MS, 0.0)})
    near = [Profile(p.variant, EXPRESS, p.points, 8) for p in usual.everywhere("m")]
    bench.engine.employ(Worker(9, EXPRESS))
    with pytest.raises(ValueError, match="worker 9 already"):
        bench.engine.employ(Worker(9, "cpu"))
    bench.engine.exchange(catalog, Profiles(catalog.models, near), lambda model: None)
    before = bench.loop.time()
    assert (await bench.ask(latency_budget_ms=1)).variant.name == "large"
    assert bench.loop.time() == before, "on the spot"


class Watched(Model):
    """A model that weak references can be had of."""

    __slots__ = ("__weakref__",)


EXCHANGES = 1000


@virtual
async def test_a_thousand_exchanges_under_load_fail_nobody_and_keep_nothing():
    """Requests at 70 % of the worker's time with budgets of 30 ms to none; every 10 ms another
    generation or, one time in ten, none for a moment."""
    bench, rng = Bench(), random.Random(7)
    loop, engine = bench.loop, bench.engine
    models, retired, most, answers = [], [], 0, 0

    def retire(model):
        for variant in model.variants:
            bench.executor.unload(model, variant)
        retired.append(model.generation)

    async def one(parameters):
        nonlocal answers
        accuracy = {v.name: v.accuracy for v in engine.catalog.models["m"].variants}
        answer = await bench.ask(**parameters)
        assert answer.variant.accuracy == accuracy[answer.variant.name]
        answers += 1

    tasks, served = set(), [1]
    end = loop.time() + EXCHANGES * 10 * MS
    generation, next_exchange = 1, 10 * MS
    while loop.time() < end:
        await asyncio.sleep(rng.expovariate(1 / (8 * MS)))
        if loop.time() >= next_exchange:
            next_exchange += 10 * MS
            generation += 1
            if generation % 10 == 0:
                empty = replace(NOTHING, generation=generation)
                engine.exchange(empty, make_profiles(empty, PREDICTED), retire)
                with pytest.raises(ModelNotFound):
                    await bench.ask()
                generation += 1
            large = 0.9 + 0.0001 * (generation % 100)
            catalog, profiles = bench.another(
                generation, accuracies={"large": large, "small": large - 0.1}
            )
            model = catalog.models["m"]
            watched = Watched(**{f.name: getattr(model, f.name) for f in fields(Model)})
            models.append(weakref.ref(watched))
            catalog = replace(catalog, models={"m": watched})
            engine.exchange(catalog, profiles, retire)
            served.append(generation)
            del model, watched, catalog, profiles
            most = max(most, engine.generations("m"))
        budget = rng.choice([30, 60, 200, 1000])
        parameters = {"latency_budget_ms": budget} if rng.random() < 0.9 else {}
        task = loop.create_task(one(parameters))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        if rng.random() < 0.05:
            task.add_done_callback(lambda each: each.cancelled())
            loop.call_later(rng.uniform(0, 20 * MS), task.cancel)
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(2.0)
    failed = [
        e for e in bench.telemetry.unanswered if str(e.outcome) not in ("cancelled", "invalid")
    ]
    assert failed == []
    assert answers > EXCHANGES
    assert set(retired) == set(served[:-1])
    assert len(retired) == len(served) - 1, "each of them once"
    assert 2 <= most < 40
    assert engine.generations("m") == 1
    alive = [ref for ref in models if ref() is not None]
    assert len(alive) <= 1
    assert len(bench.executor._loaded) == 2
    scheduler = engine._scheduler
    assert not scheduler._places
    assert len(scheduler._lanes.every) == 1
    assert len(scheduler._selector._gears) < 20
