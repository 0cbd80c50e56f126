"""What is explained is what happens, and asking changes nothing."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import make_catalog, make_model, make_profiles, make_ticket
from gearshift.core.catalog import Cascade, Late, ServiceClass, Standing
from gearshift.core.decisions import Dispatch, Drop, Refused
from gearshift.core.explain import Verdict, explain
from gearshift.core.lane import Lane
from gearshift.core.lanes import Lanes
from gearshift.core.prices import Planner
from gearshift.core.profile import Profile, Profiles
from gearshift.core.router import Reason
from gearshift.core.scheduler import Scheduler
from gearshift.core.selector import Selector
from gearshift.core.spare import Spare
from gearshift.core.strand import Strand
from gearshift.core.workers import Workers
from gearshift.errors import BudgetInfeasible, FloorUnreachable, Overloaded

MS = 0.001
ASKED = 2**40
SECONDS = {"large": (2.0, 6.0), "middle": (2.0, 2.0), "small": (1.0, 0.25)}
ACCURACIES = {"large": 0.95, "middle": 0.9, "small": 0.8}


def make(*, workers=1):
    catalog = make_catalog(make_model("m"))
    profiles = make_profiles(catalog, {"large": (10 * MS, 0.0), "small": (1 * MS, 0.0)})
    return Scheduler(catalog, profiles, dict.fromkeys(range(workers), "cpu"))


def ask(scheduler, now=0.0, **wishes):
    return explain(scheduler, make_ticket(ASKED, arrival=now, **wishes), now)


def verdicts(explanation):
    return {gear.name: gear.verdict for gear in explanation.gears}


def test_on_an_idle_server():
    found = ask(make(), budget=20 * MS)
    assert (found.chosen, found.reason, found.refused) == ("large", Reason.MOST_ACCURATE, None)
    assert verdicts(found) == {"large": Verdict.CHOSEN, "small": Verdict.BETTER_CHOSEN}
    large, small = found.gears
    assert (large.wait, large.p50, large.p99) == (0.0, 10 * MS, 10 * MS)
    assert (large.why, small.why) == (
        "the most accurate of all",
        "in time, but 'large' is more accurate with 0.9500",
    )
    assert (small.version, small.accuracy, small.source) == (2, 0.8, "declared")


def test_too_slow_for_the_budget():
    found = ask(make(), budget=5 * MS)
    assert (found.chosen, found.reason) == ("small", Reason.BUDGET)
    assert verdicts(found) == {"large": Verdict.TOO_SLOW, "small": Verdict.CHOSEN}
    assert found.gears[0].why == "its p99 of 10 ms is above the budget of 5 ms"


def test_below_the_floor_and_not_pinned():
    found = ask(make(), floor=0.9)
    assert verdicts(found) == {"large": Verdict.CHOSEN, "small": Verdict.BELOW_FLOOR}
    found = ask(make(), variant="small")
    assert (found.chosen, found.reason) == ("small", Reason.PINNED)
    assert verdicts(found) == {"large": Verdict.NOT_PINNED, "small": Verdict.CHOSEN}


def test_refused_as_it_would_be():
    found = ask(make(), floor=0.99)
    assert isinstance(found.refused, FloorUnreachable)
    assert (found.chosen, found.reason) == ("", None)
    assert set(verdicts(found).values()) == {Verdict.BELOW_FLOOR}
    found = ask(make(), budget=0.5 * MS)
    assert isinstance(found.refused, BudgetInfeasible)
    assert set(verdicts(found).values()) == {Verdict.TOO_SLOW}


def test_more_rows_than_fit_anywhere():
    catalog = make_catalog(make_model("m"))
    (large, small) = make_profiles(
        catalog, {"large": (10 * MS, 0.0), "small": (1 * MS, 0.0)}
    ).everywhere("m")
    short = Profile(large.variant, "cpu", large.points, 2)
    scheduler = Scheduler(catalog, Profiles(catalog.models, [short, small]), {0: "cpu"})
    found = ask(scheduler, rows=3)
    assert verdicts(found) == {"large": Verdict.TOO_MANY_ROWS, "small": Verdict.CHOSEN}
    assert found.gears[0].p99 == math.inf


def busy(scheduler, budget=100 * MS):
    """Its one worker runs `large` from 0 on, for 10 ms."""
    scheduler.admit(make_ticket(1, budget=budget), 0.0)
    (action,) = scheduler.decide(0.0).actions
    return action


def test_behind_a_run_that_leaves_room_for_the_quick_one_alone():
    scheduler = make()
    busy(scheduler)
    found = ask(scheduler, now=2 * MS, budget=12 * MS)
    assert (found.chosen, found.reason) == ("small", Reason.LOAD)
    assert found.after == pytest.approx(8 * MS)
    assert verdicts(found) == {"large": Verdict.BUSY, "small": Verdict.CHOSEN}
    assert "free for it in 8 ms" in found.gears[0].why
    assert "after 8 ms of waiting" in found.gears[1].why


def test_behind_a_run_that_leaves_no_room():
    scheduler = make()
    busy(scheduler)
    found = ask(scheduler, now=2 * MS, budget=5 * MS)
    assert isinstance(found.refused, Overloaded)
    assert verdicts(found) == {"large": Verdict.TOO_SLOW, "small": Verdict.BUSY}


def test_too_dear_at_the_present_prices():
    scheduler = make(workers=2)
    # Enough waits for the price to say something, and none of it can run now.
    scheduler.set_prices({"cpu": 50.0})
    found = ask(scheduler, budget=20 * MS)
    assert found.chosen == "small"
    assert verdicts(found)["large"] is Verdict.TOO_DEAR


def test_more_waits_than_can_be_followed():
    scheduler = make()
    busy(scheduler)
    for number in range(2, 2000):
        scheduler.admit(make_ticket(number, budget=10.0), 0.0)
    found = ask(scheduler, budget=9.99, late=Late.SERVE)
    assert found.chosen
    assert found.refused is None


REQUEST = st.fixed_dictionaries(
    {
        "budget": st.sampled_from([1.25, 4.0, 9.0, 30.0, math.inf]),
        "floor": st.sampled_from([-math.inf, 0.85, 0.95, 0.97]),
        "rows": st.integers(1, 4),
        "variant": st.sampled_from([None, None, None, "small", "large"]),
        "late": st.sampled_from([Late.DROP, Late.DROP, Late.SERVE]),
        "model": st.sampled_from("ab"),
    }
)
PAST = st.lists(
    st.tuples(st.sampled_from(["admit", "decide", "finish", "plan", "wait"]), REQUEST), max_size=30
)


def lived(past, *, to_the_end):
    """A scheduler after such a past, the time, and what still runs; idle at the end if told."""
    classes = (ServiceClass("default"), ServiceClass("quick", budget=4.0))
    catalog = make_catalog(*(make_model(n, ACCURACIES, classes, 4) for n in "ab"))
    everywhere = [p for n in "ab" for p in make_profiles(catalog, SECONDS).everywhere(n)]
    near = [Profile(p.variant, "near", p.points, 2) for p in everywhere if p.p99(1) < 8.0]
    scheduler = Scheduler(
        catalog, Profiles(catalog.models, [*everywhere, *near]), {0: "cpu", 1: "cpu", 2: "near"}
    )
    planner, ids, now, running = Planner(), count(1), 0.0, []

    def decide():
        running.extend(a for a in scheduler.decide(now).actions if isinstance(a, Dispatch))

    def finish():
        dispatch = running.pop(0)
        scheduler.finished(dispatch.id, now, dispatch.profile.p99(dispatch.rows))

    for event, wishes in past:
        if event == "admit":
            scheduler.admit(make_ticket(next(ids), arrival=now, **wishes), now)
        elif event == "decide":
            decide()
        elif event == "finish" and running:
            finish()
        elif event == "plan":
            scheduler.set_prices(planner.prices(scheduler.outlook(now)))
        now += 0.75 if event == "wait" else 0.0
    while to_the_end and (running or scheduler.waiting):
        now += 5.0
        decide()
        while running:
            finish()
    return scheduler, now


def happens(scheduler, ticket, now, *, patient=False):
    """What the real one does with the ticket at once, or in the end if told to wait; and when.
    None if it lets it wait."""
    verdict = scheduler.admit(ticket, now)
    if isinstance(verdict, Refused):
        return verdict.error, now
    while True:
        decisions = scheduler.decide(now)
        for action in decisions.actions:
            if isinstance(action, Drop) and action.ticket.id == ticket.id:
                return action.error, now
            if isinstance(action, Dispatch) and ticket in action.tickets:
                return action, now
        if not patient:
            return None, now
        now = decisions.wake_at


def agree(found, real, ticket, after):
    assert found.after == after
    if isinstance(real, Dispatch):
        assert found.chosen == real.profile.variant.name
        assert found.reason is real.reason(ticket)
        assert [g.name for g in found.gears if g.verdict is Verdict.CHOSEN] == [found.chosen]
    else:
        assert (type(found.refused), str(found.refused)) == (type(real), str(real))
        assert not found.chosen
        assert Verdict.CHOSEN not in verdicts(found).values()


@given(PAST, REQUEST)
def test_on_an_idle_server_what_is_explained_is_what_happens(past, wishes):
    scheduler, now = lived(past, to_the_end=True)
    ticket = make_ticket(ASKED, arrival=now, **wishes)
    found = explain(scheduler, ticket, now)
    real, end = happens(scheduler, ticket, now, patient=True)
    agree(found, real, ticket, end - now)


@given(PAST, REQUEST)
def test_under_load_too_what_happens_at_once_is_explained_so(past, wishes):
    scheduler, now = lived(past, to_the_end=False)
    ticket = make_ticket(ASKED, arrival=now, **wishes)
    found = explain(scheduler, ticket, now)
    real, _ = happens(scheduler, ticket, now)
    if real is None:
        assert found.after > 0.0
        assert found.chosen or found.refused is not None
    else:
        agree(found, real, ticket, 0.0)


@given(PAST, REQUEST, REQUEST)
def test_asking_changes_nothing(past, asked, coming):
    scheduler, now = lived(past, to_the_end=False)
    other, _ = lived(past, to_the_end=False)
    explain(scheduler, make_ticket(ASKED, arrival=now, **asked), now)
    assert state(scheduler) == state(other)
    later = now + 1.0
    for one in (scheduler, other):
        one.admit(make_ticket(10_000, arrival=later, **coming), later)
    assert told(scheduler.decide(later)) == told(other.decide(later))
    assert state(scheduler) == state(other)


def told(decisions):
    actions = [
        (type(a), a.ticket.id)
        if isinstance(a, Drop)
        else (a.id, a.worker, a.profile.variant.name, [t.id for t in a.tickets], a.rows)
        for a in decisions.actions
    ]
    return actions, decisions.wake_at


OWN = (Scheduler, Lanes, Lane, Strand, Spare, Workers, Selector)
DERIVED = ("gears", "model", "runnable", "every", "strands", "_gears", "_columns", "_better")
"""What never changes, and what is worked out anew whenever it is wanted."""


def state(thing):
    """Everything that the scheduler remembers, as plain values."""
    if isinstance(thing, Profile):
        return (thing.variant.name, thing.device, tuple(thing.p50s), tuple(thing.p99s))
    if isinstance(thing, dict):
        return [(state(key), state(value)) for key, value in thing.items()]
    if isinstance(thing, list | tuple | deque):
        return [state(part) for part in thing]
    if not isinstance(thing, OWN):
        return thing
    names = getattr(type(thing), "__slots__", None) or vars(thing)
    skipped = DERIVED if isinstance(thing, Scheduler) else (*DERIVED, "_lanes", "_workers")
    return {name: state(getattr(thing, name)) for name in names if name not in skipped}


def test_a_cascade_is_bound_by_the_floor_of_its_lesser_variant():
    cascade = Cascade(
        name="both", first="small", then="large", threshold=0.9, escalated=0.25, accuracy=0.94
    )
    model = replace(make_model(), cascades=(cascade,))
    catalog = make_catalog(model)
    profiles = make_profiles(catalog, {"large": (10 * MS, 0.0), "small": (1 * MS, 0.0)})
    scheduler = Scheduler(catalog, profiles, {0: "cpu"})
    found = explain(scheduler, make_ticket(ASKED, budget=50 * MS, floor=0.9), 0.0)
    assert verdicts(found) == {"large": "chosen", "both": "below_floor", "small": "below_floor"}
    assert next(g for g in found.gears if g.name == "both").version == 0
    found = explain(scheduler, make_ticket(ASKED, budget=50 * MS, variant="both"), 0.0)
    assert found.chosen == "both"


def test_what_does_not_serve_everybody_is_said_to_be_so():
    model = make_model(accuracies={"new": 0.97, "large": 0.95, "old": 0.9})
    standings = {"new": Standing.CANARY, "old": Standing.WITHDRAWN}
    variants = tuple(
        replace(v, standing=standings.get(v.name, v.standing), share=0.05) for v in model.variants
    )
    catalog = make_catalog(replace(model, variants=variants))
    seconds = dict.fromkeys(("new", "large", "old"), (1 * MS, 0.0))
    scheduler = Scheduler(catalog, make_profiles(catalog, seconds), {0: "cpu"})
    for _ in range(40):
        found = explain(scheduler, make_ticket(ASKED, budget=50 * MS), 0.0)
        assert verdicts(found) == {"new": "canary", "large": "chosen", "old": "withdrawn"}
