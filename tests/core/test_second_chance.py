"""Who has a second chance, with what, and that it runs alone."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import make_catalog, make_model, make_profiles, make_ticket
from gearshift.core.breaker import Breaker
from gearshift.core.catalog import Cascade, Late
from gearshift.core.decisions import Admitted, Dispatch, Refused
from gearshift.core.lane import Lane
from gearshift.core.profile import LatencyPoint, Profile
from gearshift.core.scheduler import Scheduler
from gearshift.core.second_chance import NOBODY, again
from gearshift.errors import ExecutorUnavailable

MS = 0.001
ACCURACIES = {"large": 0.95, "middle": 0.9, "small": 0.8}
SECONDS = {"large": (10 * MS, 0.0), "middle": (4 * MS, 0.0), "small": (1 * MS, 0.0)}
CASCADE = Cascade(
    name="both", first="small", then="large", threshold=0.5, escalated=0.2, accuracy=0.9
)


def make(workers: int = 1) -> Scheduler:
    catalog = make_catalog(make_model(accuracies=ACCURACIES))
    devices = dict.fromkeys(range(workers), "cpu")
    return Scheduler(catalog, make_profiles(catalog, SECONDS), devices)


def test_it_keeps_everything_but_its_number():
    ticket = make_ticket(1, arrival=2.0, budget=0.5, floor=0.7, rows=3)
    assert again(ticket, "large", 2) == replace(ticket, id=2, without="large")


def test_who_has_none():
    assert again(make_ticket(variant="large"), "large", 2) is None
    assert again(replace(make_ticket(), without="small"), "large", 2) is None
    assert again(replace(make_ticket(), fallback=True), "large", 2) is None
    assert again(make_ticket(variant="both"), "large", 2, CASCADE) is None


def test_pins_stay_where_no_variant_is_to_blame_and_cascades_go_on():
    pinned = again(make_ticket(variant="large"), NOBODY, 2)
    assert pinned is not None
    assert (pinned.variant, pinned.without) == ("large", NOBODY)
    second = again(make_ticket(variant="both"), "small", 2, CASCADE)
    assert second is not None
    assert (second.variant, second.without) == ("large", "small")


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*ACCURACIES, NOBODY]),
            st.sampled_from([0.0, 0.85, 0.92]),
            st.integers(1, 3),
            st.sampled_from([30 * MS, 400 * MS, math.inf]),
        ),
        max_size=12,
    )
)
def test_they_run_alone_above_their_floor_and_never_on_what_failed_them(chances):
    scheduler, now, waiting = make(2), 0.0, {}
    for number, (without, floor, rows, budget) in enumerate(chances, start=1):
        ticket = make_ticket(number, budget=budget, floor=floor, rows=rows)
        verdict = scheduler.admit(replace(ticket, without=without), now)
        alone = without == "large" and floor > 0.9
        if alone:
            assert isinstance(verdict, Refused)
            assert isinstance(verdict.error, ExecutorUnavailable)
        if isinstance(verdict, Admitted):
            assert not alone
            waiting[number] = without
        fresh = make_ticket(100 + number, rows=1)
        assert scheduler.admit(fresh, now) == Admitted()
    for _ in range(200):
        for action in scheduler.decide(now).actions:
            if isinstance(action, Dispatch):
                for ticket in action.tickets:
                    if ticket.without is not None:
                        assert action.tickets == (ticket,)
                        assert action.profile.variant.name != ticket.without
                        assert action.profile.variant.accuracy >= ticket.floor
                    waiting.pop(ticket.id, None)
                scheduler.finished(action.id, now + 10 * MS, 10 * MS)
            else:
                waiting.pop(action.ticket.id, None)
        now += 10 * MS
    assert not waiting
    assert scheduler.waiting == 0


def test_no_trial_on_any_device_before_the_time_of_the_one_that_failed_last():
    catalog = make_catalog(make_model(accuracies={"only": 0.9}))
    model = catalog.models["m"]
    gears = [
        Profile(model.variants[0], device, [LatencyPoint(1, MS, MS)], 1)
        for device in ("cpu", "express")
    ]
    soon, late = Breaker(random.Random(1)), Breaker(random.Random(1))
    soon.failed(1, 0.0, lost=True)
    for turn in range(5):
        late.began(turn)
        late.failed(turn, 0.0, lost=True)
    lane = Lane(model, gears, dict(zip(gears, (soon, late), strict=True)))
    first, last = soon.retry_after(0.0), late.retry_after(0.0)
    assert first < last
    for pinned in (None, "only"):
        ticket = make_ticket(1, variant=pinned, budget=100.0)
        assert lane.draw(ticket, first) == (None, False)
        with pytest.raises(ExecutorUnavailable) as told:
            lane.check(ticket, first)
        assert told.value.retry_after == pytest.approx(last - first)
        assert lane.draw(ticket, last) == ("only", True)


@pytest.mark.parametrize("late", Late)
def test_a_late_tolerant_ticket_tries_what_is_out_after_its_deadline_if_all_is_out(late):
    catalog = make_catalog(make_model(accuracies={"only": 0.9}))
    model = catalog.models["m"]
    profiles = make_profiles(catalog, {"only": (5 * MS, 0.0)})
    scheduler = Scheduler(catalog, profiles, {0: "cpu"})
    (profile,) = profiles.everywhere("m")
    # The only worker is busy until after the second ticket's deadline.
    scheduler.admit(make_ticket(1), 0.0)
    ((busy,), _) = scheduler.decide(0.0)
    assert isinstance(busy, Dispatch)
    breaker = Breaker(random.Random(1))
    breaker.failed(7, 0.0, lost=True)
    assert scheduler.take_out(model, {profile: breaker}, 0.0) == []
    now = breaker.retry_after(0.0)
    ticket = replace(make_ticket(2, arrival=now, budget=10 * MS), late=late)
    assert isinstance(scheduler.admit(ticket, now), Admitted)
    assert scheduler.decide(now).actions == ()
    now += 11 * MS
    told = scheduler.decide(now).actions
    assert (told == ()) == (late is Late.SERVE)
    scheduler.finished(busy.id, now, 5 * MS)
    ran = [a.tickets for a in scheduler.decide(now).actions if isinstance(a, Dispatch)]
    assert ran == ([(ticket,)] if late is Late.SERVE else [])
