"""What is loaded where: the rules of a change, whatever the solver says."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from builders import make_ticket
from gearshift.core.demand import Demand
from gearshift.core.residency import (
    EVERY,
    FIRST,
    HOLD,
    LONGEST_DRAIN,
    RETRY,
    Doing,
    Memory,
    Place,
    Residency,
    filled,
    improved,
)
from residing import a_model, all_places, need, problem_of, problems

MODEL = a_model("a")
SIZES = {("a", "large"): 10.0, ("a", "middle"): 6.0, ("a", "small"): 2.0}
LARGE, MIDDLE, SMALL = (Place("a", variant, "gpu") for variant in ("large", "middle", "small"))


def residency(limit=12.0, resident=(MIDDLE, SMALL)):
    seconds = dict.fromkeys(SIZES, 1.0)
    return Residency(Memory(limits={"gpu": limit}, sizes=SIZES, seconds=seconds), resident)


def asked(found, now=0.0):
    """One request came, and the loop looked."""
    found.count(make_ticket(model="a", arrival=now, budget=1.0), MODEL, now)
    assert found.due(now + FIRST)
    return found.problem({"a": MODEL}, {"a": ()}, {"gpu": 1}, now + FIRST)


def nobody(place):
    return False


def everybody(place):
    return True


class Says:
    """A solver that has been told what to say: the best, and what each set is worth."""

    def __init__(self, best, worth=len):
        self._best, self._worth = frozenset(best), worth

    def best(self, problem, *, keeping=False):
        return self._best

    def worth(self, problem, places):
        return self._worth(frozenset(places))


# --- when, and whether --------------------------------------------------------------------


def test_it_looks_soon_after_the_first_request_and_then_every_now_and_then():
    found = residency()
    assert not found.due(1000.0)
    asked(found, now=10.0)
    assert not found.due(10.0 + FIRST + 1000.0)  # the solver still thinks
    found.decided(None, 20.0)
    assert not found.due(20.0 + EVERY - 0.01)
    assert found.due(20.0 + EVERY)


def test_after_a_change_there_is_no_other_for_a_while():
    found = residency(limit=20.0)
    asked(found)
    found.decided(frozenset({MIDDLE, SMALL, LARGE}), 3.0)
    assert found.steps(3.0, nobody) == Doing(load=(LARGE,))
    assert not found.due(100.0)
    found.loaded(LARGE)
    assert found.steps(4.0, nobody) == Doing()
    assert not found.due(4.0 + HOLD - 0.01)
    assert found.due(4.0 + HOLD)


def gaining(gain, seconds):
    """A change of `middle` for `large` that gains so much, and takes so long; meanwhile `small`
    answers, which is worth 0.2 less."""
    now = frozenset({MIDDLE, SMALL})
    limits = {"gpu": 12.0, "cpu": 0.0}
    problem = problem_of({"a": MODEL}, limits, SIZES, {need("a"): 1.0}, now, seconds=seconds)
    worth = {now: 0.5, frozenset({LARGE, SMALL}): 0.5 + gain, frozenset({SMALL}): 0.3}
    return improved(problem, Says({LARGE, SMALL}, worth.__getitem__)) is not None


def test_a_change_must_gain_more_than_a_trifle_and_pay_for_its_loading():
    assert gaining(0.1, seconds=1.0)
    assert not gaining(0.004, seconds=0.0)
    assert gaining(0.006, seconds=0.0)
    # For 30 of 60 seconds there would be less.
    assert not gaining(0.2, seconds=30.0)
    assert gaining(0.22, seconds=30.0)


def test_what_is_in_nobodys_way_stays():
    wants_large = Says({LARGE}, lambda places: 1.0 if LARGE in places else 0.0)
    problem = problem_of({"a": MODEL}, {"gpu": 18.0}, SIZES, resident=frozenset({MIDDLE, SMALL}))
    assert improved(problem, wants_large) == {LARGE, MIDDLE, SMALL}
    problem = replace(problem, memory=replace(problem.memory, limits={"gpu": 13.0}))
    assert improved(problem, wants_large) == {LARGE, SMALL}


# --- doing it -----------------------------------------------------------------------------


def test_what_makes_room_drains_first_and_then_the_new_one_loads():
    found = residency()
    asked(found)
    found.decided(frozenset({LARGE, SMALL}), 3.0)
    assert found.steps(3.0, everybody) == Doing(leave=(MIDDLE,))
    assert found.steps(3.1, everybody) == Doing()
    assert found.steps(3.2, nobody) == Doing(unload=(MIDDLE,))
    assert found.steps(3.3, nobody) == Doing()  # its memory is not free yet
    found.unloaded(MIDDLE)
    assert found.steps(3.4, nobody) == Doing(load=(LARGE,))
    found.loaded(LARGE)
    assert found.resident == {LARGE, SMALL}


def test_the_last_that_answers_leaves_when_another_one_is_there():
    found = residency(limit=12.0, resident=(LARGE,))
    found.decided(frozenset({SMALL, MIDDLE}), 3.0, [frozenset({LARGE, MIDDLE, SMALL})])
    assert found.steps(3.0, nobody) == Doing(load=(SMALL,))
    found.loaded(SMALL)
    assert found.steps(4.0, nobody) == Doing(leave=(LARGE,))


def test_where_there_is_room_for_one_only_it_stays():
    found = residency(limit=11.0, resident=(LARGE,))
    found.decided(frozenset({SMALL, MIDDLE}), 3.0, [frozenset({LARGE, MIDDLE, SMALL})])
    assert found.steps(3.0, nobody) == Doing()
    assert found.resident == {LARGE}
    assert found.due(3.0 + HOLD)  # and it is looked again


def test_what_does_not_drain_stays_after_all():
    found = residency()
    asked(found)
    found.decided(frozenset({LARGE, SMALL}), 3.0)
    found.steps(3.0, everybody)
    assert found.steps(3.0 + LONGEST_DRAIN + 0.1, everybody) == Doing(stay=(MIDDLE,))
    assert found.resident == {MIDDLE, SMALL}
    assert found.due(3.1 + LONGEST_DRAIN + HOLD)


def test_what_fails_to_load_is_left_alone_for_a_while():
    found = residency(limit=20.0)
    asked(found)
    found.decided(frozenset({MIDDLE, SMALL, LARGE}), 3.0)
    found.steps(3.0, nobody)
    found.failed(LARGE, 4.0)
    assert found.steps(4.0, nobody) == Doing()
    ask = ({"a": MODEL}, {"a": ()}, {"gpu": 1})
    assert found.problem(*ask, 4.0 + HOLD).barred == {LARGE}
    assert found.problem(*ask, 4.0 + RETRY + 1.0).barred == frozenset()


@settings(max_examples=200, deadline=None)
@given(problems(), st.data())
def test_whatever_the_solver_says_memory_is_never_exceeded_and_nobody_is_left(problem, data):
    """Any targets that a solver may give, one after the other; loads that fail, drains that take
    their time or never end, unloads that do."""
    memory = problem.memory
    found = Residency(memory, problem.resident)
    now = 0.0
    chance = data.draw(st.randoms(use_true_random=False))
    for _ in range(data.draw(st.integers(1, 4))):
        problem = replace(problem, resident=frozenset(found.resident))
        target = set()
        for place in chance.sample(all_places(problem), len(all_places(problem))):
            if memory.used({*target, place})[place.device] <= memory.limits[place.device]:
                target.add(place)
        found.decided(frozenset(target), now, problem.answers)
        for _ in range(60):
            now += chance.choice([0.1, 1.0, 10.0])
            doing = found.steps(now, lambda place: chance.random() < 0.5)
            taken = [*found.resident, *found.leaving, *found.unloading, *found.loading]
            assert len(taken) == len(set(taken))
            assert not [place for place in taken if memory.too_large(place)]
            for device, used in memory.used(taken).items():
                assert used <= memory.limits[device] + 1e-9
            for able in problem.answers:
                assert able & found.resident
            assert not set(doing.unload) & found.resident
            for place in list(found.unloading):
                if chance.random() < 0.7:
                    found.unloaded(place)
            for place in list(found.loading):
                if chance.random() < 0.7:
                    if chance.random() < 0.2:
                        found.failed(place, now)
                    else:
                        found.loaded(place)
        # However it went, it came to an end and is looked at again.
        if not found.loading and not found.leaving:
            assert found.target <= found.resident
            assert found.due(now + HOLD)


# --- what is asked for --------------------------------------------------------------------


def test_demand_is_counted_by_what_could_answer_it():
    demand = Demand()
    for number in range(100):
        demand.count(make_ticket(number, model="a", budget=0.9, floor=0.85), MODEL, number / 100)
        demand.count(make_ticket(number, model="a", budget=0.6, floor=0.90), MODEL, number / 100)
        demand.count(make_ticket(number, model="a", floor=0.99), MODEL, number / 100)
    rates = demand.rates(1.0)
    # Floors between the same two variants are one need, and so are budgets of about a size; nobody
    # could answer the third.
    assert rates == {need("a", 0.90, 0.6): 200.0}
    assert demand.rates(1.0) == rates  # no time has passed


def test_what_is_not_asked_for_any_more_is_forgotten():
    demand = Demand()
    demand.count(make_ticket(1, model="a", budget=0.9), MODEL, 0.0)
    assert demand.rates(1.0)
    for second in range(2, 400, 10):
        demand.rates(float(second))
    assert demand.rates(400.0) == {}


# --- what comes and goes ------------------------------------------------------------------


def test_what_was_asked_of_a_model_that_is_gone_is_no_demand():
    found = residency()
    assert need("a", 0.80) in asked(found).demand
    found.decided(None, 3.0)
    assert not found.problem({}, {}, {"gpu": 1}, 8.0).demand


def test_after_an_exchange_it_looks_soon_and_decides_with_what_is_there_now():
    found = residency()
    asked(found)
    found.decided(None, 3.0)
    other = Memory(limits={"gpu": 5.0}, sizes=SIZES, seconds={})
    found.exchange(other, {SMALL}, 4.0)
    assert not found.due(4.0 + FIRST - 0.01)
    assert found.due(4.0 + FIRST)
    problem = found.problem({"a": MODEL}, {"a": ()}, {"gpu": 1}, 6.0)
    assert (problem.resident, problem.memory) == ({SMALL}, other)
    found.decided(None, 6.0)
    assert found.steps(6.0, nobody) == Doing()
    assert found.taken == [SMALL]


def test_an_exchange_before_anybody_has_asked_is_no_reason_to_look():
    found = residency()
    found.exchange(found.memory, {SMALL}, 4.0)
    assert not found.due(1000.0)


@given(problems())
def test_room_that_is_left_over_is_filled_and_never_more(problem):
    chosen = frozenset(problem.resident)
    found = filled(problem, chosen)
    assert chosen <= found
    used = problem.memory.used(found)
    for device, limit in problem.memory.limits.items():
        assert used[device] <= limit
    for place in set(all_places(problem)) - found:
        limit = problem.memory.limits[place.device]
        assert used[place.device] + problem.memory.size(place) > limit
