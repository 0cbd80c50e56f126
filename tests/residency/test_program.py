"""What the solver says should be loaded."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import assume, given, settings

from gearshift.core.demand import Need
from gearshift.core.residency import Place, assumed, improved, reachable
from gearshift.residency import Program
from residing import a_model, all_places, need, problem_of, problems

PROGRAM = Program()
SIZES = {("a", "large"): 10, ("a", "middle"): 6, ("a", "small"): 2}


def on(device, *variants, model="a"):
    return frozenset(Place(model, variant, device) for variant in variants)


@settings(max_examples=100, deadline=None)
@given(problems())
def test_what_is_to_be_loaded_fits_and_if_so_wanted_keeps_whoever_is_answered(problem):
    kept = PROGRAM.best(problem, keeping=True)
    for able in problem.answers:
        assert able & problem.resident & kept
    assert reachable(problem, kept)
    check_fits(problem, kept)
    check_fits(problem, PROGRAM.best(problem))


def check_fits(problem, found):
    memory = problem.memory
    for device, used in memory.used(found).items():
        assert used <= memory.limits[device] + 1e-6
    assert not [place for place in found if memory.too_large(place)]


def answered(problem, places):
    """How many needs these can answer."""
    able = [
        [problem.memory.place(each.model, profile) for profile in problem.able(each)]
        for each in problem.demand
    ]
    return sum(any(p is None or p in places for p in each) for each in able)


@settings(max_examples=60, deadline=None)
@given(problems(most=2))
def test_as_many_needs_are_answered_as_can_be_at_all(problem):
    """Against every set of places that fits."""
    memory, places = problem.memory, all_places(problem)
    assume(len(places) <= 9)
    possible = 0
    for size in range(len(places) + 1):
        for chosen in map(frozenset, combinations(places, size)):
            used = memory.used(chosen)
            if all(used[device] <= memory.limits[device] for device in used):
                possible = max(possible, answered(problem, chosen))
    assert answered(problem, PROGRAM.best(problem)) == possible


@settings(max_examples=60, deadline=None)
@given(problems())
def test_under_steady_demand_a_change_is_followed_by_no_other(problem):
    resident = problem.resident
    changes = 0
    for _ in range(6):
        found = improved(replace(problem, resident=resident), PROGRAM)
        if found is None:
            break
        changes += 1
        assert PROGRAM.worth(problem, found) > PROGRAM.worth(problem, resident)
        resident = found
    # Who has to stay answered may make it two or three.
    assert changes < 5


def test_the_most_accurate_while_there_is_time_and_quick_ones_beside_it_for_load():
    models = {"a": a_model("a")}
    limits = {"cpu": 12.0, "gpu": 0.0}
    calm = problem_of(models, limits, SIZES, {need("a"): 1.0})
    assert on("cpu", "large") <= PROGRAM.best(calm)
    loaded = problem_of(models, limits, SIZES, {need("a"): 500.0})
    assert on("cpu", "small") <= PROGRAM.best(loaded)


def test_what_fits_only_a_gpu_is_used_there_only():
    models = {"a": a_model("a")}
    found = PROGRAM.best(problem_of(models, {"cpu": 7.0, "gpu": 20.0}, SIZES, {need("a"): 10.0}))
    assert Place("a", "large", "gpu") in found
    assert Place("a", "large", "cpu") not in found


def test_a_model_that_fits_nowhere_takes_nothing_from_the_others():
    models = {"a": a_model("a"), "b": a_model("b")}
    sizes = {**SIZES, **{("b", v): 100 for v in ("large", "middle", "small")}}
    problem = problem_of(
        models, {"cpu": 20.0, "gpu": 20.0}, sizes, {need("b"): 100.0, need("a"): 1}
    )
    found = PROGRAM.best(problem)
    assert {place.model for place in found} == {"a"}


def test_a_floor_that_nobody_asks_for_yet_has_somebody_loaded():
    models = {"a": a_model("a", floor=0.94), "b": a_model("b")}
    sizes = {**SIZES, **{("b", v): s for (_, v), s in SIZES.items()}}
    problem = problem_of(models, {"cpu": 12.0, "gpu": 0.0}, sizes, {need("b"): 800.0})
    assert Place("a", "large", "cpu") in PROGRAM.best(problem)


def test_of_what_answers_now_one_stays():
    models = {"a": a_model("a")}
    problem = problem_of(
        models, {"cpu": 10.0, "gpu": 0.0}, SIZES, {need("a"): 900.0}, on("cpu", "large")
    )
    # The small one would be better, and does not fit beside it.
    assert not reachable(problem, PROGRAM.best(problem))
    assert PROGRAM.best(problem, keeping=True) == on("cpu", "large")
    assert improved(problem, PROGRAM) is None
    # With room for both for a while it goes.
    more = replace(problem, memory=replace(problem.memory, limits={"cpu": 12.0, "gpu": 0.0}))
    assert on("cpu", "small") <= improved(more, PROGRAM)


def test_what_takes_longer_to_load_than_it_can_gain_is_let_be():
    models = {"a": a_model("a")}
    # What is small can go only if what is large comes in its place.
    limits, now = {"cpu": 12.0, "gpu": 0.0}, on("cpu", "small", "middle")
    quick = problem_of(models, limits, SIZES, {need("a"): 20.0}, now, seconds=1.0)
    assert improved(quick, PROGRAM) is not None
    slow = problem_of(models, limits, SIZES, {need("a"): 20.0}, now, seconds=59.9)
    assert improved(slow, PROGRAM) is None


def test_what_failed_to_load_is_not_asked_for_again():
    models = {"a": a_model("a")}
    limits, barred = {"cpu": 12.0, "gpu": 0.0}, on("cpu", "large")
    problem = problem_of(models, limits, SIZES, {need("a"): 1.0}, barred=barred)
    found = PROGRAM.best(problem)
    assert on("cpu", "middle") <= found
    assert not found & barred


def test_who_pins_a_variant_is_demand_for_it():
    models = {"a": a_model("a"), "b": a_model("b")}
    sizes = {**SIZES, **{("b", v): s for (_, v), s in SIZES.items()}}
    pinned = Need("b", 0.80, 1.0, "middle", 1.0)
    problem = problem_of(models, {"cpu": 10.0, "gpu": 0.0}, sizes, {pinned: 50.0, need("a"): 1.0})
    assert Place("b", "middle", "cpu") in PROGRAM.best(problem)


def test_before_anybody_has_asked_every_model_has_something():
    models = {name: a_model(name) for name in "abc"}
    sizes = {(name, v): s for name in models for (_, v), s in SIZES.items()}
    bare = problem_of(models, {"cpu": 9.0, "gpu": 9.0}, sizes)
    first = assumed(models, bare.profiles, bare.workers, bare.memory)
    assert sum(first.demand.values()) > 0
    assert {place.model for place in PROGRAM.best(first)} == {"a", "b", "c"}


def test_the_worth_of_everything_is_no_more_than_one():
    models = {"a": a_model("a", budget=math.inf)}
    problem = problem_of(models, {"cpu": 99.0, "gpu": 99.0}, SIZES, {need("a"): 1.0})
    assert PROGRAM.worth(problem, all_places(problem)) == pytest.approx(1.0)
    assert PROGRAM.worth(problem, ()) == 0.0
