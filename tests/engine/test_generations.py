"""One generation of a model takes the place of another while requests are under way."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from builders import make_catalog, make_model, make_profiles
from engine_bench import CLASSES, MS, PREDICTED, Bench
from gearshift.errors import ModelNotFound
from virtual import virtual


def another(bench, generation, *, predicted=PREDICTED, **changed):
    """A catalog whose only model is of this generation, loaded, and its profiles."""
    model = make_model(classes=CLASSES, **changed)
    model = replace(model, generation=generation)
    for variant in model.variants:
        bench.executor.load(model, variant)
    catalog = replace(make_catalog(model), generation=generation)
    return catalog, make_profiles(catalog, predicted)


@virtual
async def test_requests_in_flight_end_on_the_generation_that_admitted_them():
    bench = Bench()
    retired = []
    running = asyncio.ensure_future(bench.ask(latency_budget_ms=100))
    await asyncio.sleep(1 * MS)
    waiting = asyncio.ensure_future(bench.ask(latency_budget_ms=100))
    await asyncio.sleep(1 * MS)
    catalog, profiles = another(bench, 2, accuracies={"large": 0.97, "small": 0.9})
    bench.engine.exchange(catalog, profiles, retired.append)
    assert bench.engine.generations("m") == 2
    new = await bench.ask(latency_budget_ms=100)
    assert new.variant.accuracy == 0.97
    assert (await running).variant.accuracy == (await waiting).variant.accuracy == 0.95
    await asyncio.sleep(0)
    assert [(model.name, model.generation) for model in retired] == [("m", 1)]
    assert bench.engine.generations("m") == 1


@virtual
async def test_a_model_that_is_unloaded_is_not_found_at_once_and_leaves_when_it_is_idle():
    bench = Bench()
    retired = []
    running = asyncio.ensure_future(bench.ask(latency_budget_ms=100))
    await asyncio.sleep(1 * MS)
    empty = replace(make_catalog(), generation=2)
    bench.engine.exchange(empty, make_profiles(empty, PREDICTED), retired.append)
    with pytest.raises(ModelNotFound, match="there are: none"):
        await bench.ask(latency_budget_ms=100)
    assert not retired
    assert (await running).variant.name == "large"
    await asyncio.sleep(0)
    assert [model.generation for model in retired] == [1]
    assert bench.engine.generations("m") == 0
