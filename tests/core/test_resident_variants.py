"""The scheduler where not every variant is loaded: what may run, and what becomes of who waits."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import make_catalog, make_model, make_profiles, make_ticket
from gearshift.core.catalog import Cascade, Late
from gearshift.core.decisions import Admitted, Dispatch, Drop, Refused
from gearshift.core.explain import Verdict, explain
from gearshift.core.lane import EVERYTHING_HERE, Away
from gearshift.core.scheduler import Scheduler
from gearshift.errors import NotResident, ending_of

MODEL = make_model()
SECONDS = {"large": (0.0, 0.010), "small": (0.0, 0.001)}


class Site:
    """One model on one worker, large and small."""

    def __init__(self, model=MODEL):
        self.model = model
        catalog = make_catalog(model)
        self.profiles = make_profiles(catalog, SECONDS)
        self.scheduler = Scheduler(catalog, self.profiles, {0: "cpu"})
        self.large, self.small = self.profiles.on(model.name, "cpu")

    def reside(self, absent=(), leaving=(), now=0.0):
        away = Away(frozenset(absent), frozenset(leaving))
        return self.scheduler.reside(self.model, away, now)

    def run(self, now):
        """What starts at `now`."""
        return [a for a in self.scheduler.decide(now).actions if isinstance(a, Dispatch)]


def refusal(site, ticket, now=0.0):
    verdict = site.scheduler.admit(ticket, now)
    assert isinstance(verdict, Refused)
    return verdict.error


def test_what_is_not_loaded_does_not_run():
    site = Site()
    site.reside(absent=[site.large])
    assert isinstance(site.scheduler.admit(make_ticket(budget=1.0), 0.0), Admitted)
    (dispatch,) = site.run(0.0)
    assert dispatch.profile is site.small


def test_what_is_loaded_again_runs_again():
    site = Site()
    site.reside(absent=[site.large])
    site.reside()
    site.scheduler.admit(make_ticket(budget=1.0), 0.0)
    (dispatch,) = site.run(0.0)
    assert dispatch.profile is site.large


@pytest.mark.parametrize("asks", [{"variant": "large"}, {"floor": 0.9}])
def test_who_needs_what_is_not_loaded_is_told_so_and_what_is(asks):
    site = Site()
    site.reside(absent=[site.large])
    error = refusal(site, make_ticket(budget=1.0, **asks))
    assert isinstance(error, NotResident)
    assert ending_of(error).status == "FAILED_PRECONDITION"
    for text in ("'large'", "'m'", "not resident", "'cpu'", "small"):
        assert text in str(error)


def test_a_floor_that_nobody_reaches_is_still_called_that():
    site = Site()
    site.reside(absent=[site.large])
    assert "reaches the floor" in str(refusal(site, make_ticket(floor=0.99)))


def test_nothing_of_a_model_may_be_loaded():
    site = Site()
    site.reside(absent=[site.large, site.small])
    assert "none of this model" in str(refusal(site, make_ticket(budget=1.0)))


# --- what waits ---------------------------------------------------------------------------


def test_who_waits_for_what_leaves_still_gets_it_and_nobody_new_does():
    site = Site()
    scheduler = site.scheduler
    scheduler.admit(make_ticket(1, budget=1.0), 0.0)
    site.run(0.0)  # the worker is busy
    for number, asks in enumerate([{"variant": "large"}, {"floor": 0.9}, {}], start=2):
        scheduler.admit(make_ticket(number, budget=1.0, **asks), 0.0)
    assert site.reside(leaving=[site.large]) == []
    assert isinstance(refusal(site, make_ticket(9, budget=1.0, floor=0.9)), NotResident)
    assert scheduler.in_use(site.model, site.large)
    now, served = 0.0, {}
    while scheduler.waiting:
        now += 0.1
        scheduler.finished(len(served) + 1, now, 0.01)
        for dispatch in site.run(now):
            served[dispatch.id] = dispatch
            scheduler.finished(dispatch.id, now, 0.01)
    numbers = {t.id: d.profile for d in served.values() for t in d.tickets}
    assert numbers.keys() == {2, 3, 4}
    assert numbers[2] is numbers[3] is site.large
    assert not scheduler.in_use(site.model, site.large)
    assert site.reside(absent=[site.large], now=now) == []


def test_a_run_that_is_under_way_keeps_it():
    site = Site()
    site.scheduler.admit(make_ticket(1, budget=1.0), 0.0)
    (dispatch,) = site.run(0.0)
    site.reside(leaving=[site.large])
    assert site.scheduler.in_use(site.model, site.large)
    site.scheduler.finished(dispatch.id, 0.01, 0.01)
    assert not site.scheduler.in_use(site.model, site.large)


def test_who_has_no_deadline_does_not_hold_what_leaves_if_another_would_do():
    site = Site()
    site.scheduler.admit(make_ticket(1, budget=1.0), 0.0)
    (first,) = site.run(0.0)
    site.scheduler.admit(make_ticket(2), 0.0)
    site.reside(leaving=[site.large])
    site.scheduler.finished(first.id, 0.01, 0.01)
    assert not site.scheduler.in_use(site.model, site.large)
    (dispatch,) = site.run(0.01)
    assert dispatch.profile is site.small


def test_who_waits_in_vain_is_told():
    """It cannot happen while what leaves is let drain, and would not be silent if it did."""
    site = Site()
    site.scheduler.admit(make_ticket(1, budget=1.0), 0.0)
    site.run(0.0)
    site.scheduler.admit(make_ticket(2, budget=1.0, floor=0.9), 0.0)
    (drop,) = site.reside(absent=[site.large])
    assert isinstance(drop, Drop)
    assert isinstance(drop.error, NotResident)
    assert site.scheduler.waiting == 0


def test_a_late_answer_may_come_from_what_leaves():
    site = Site()
    site.scheduler.admit(make_ticket(1, budget=1.0), 0.0)
    site.run(0.0)
    late = make_ticket(2, budget=0.05, variant="large", late=Late.SERVE)
    assert isinstance(site.scheduler.admit(late, 0.0), Admitted)
    site.reside(leaving=[site.large])
    site.scheduler.decide(0.2)  # its deadline has passed
    assert site.scheduler.in_use(site.model, site.large)
    site.scheduler.finished(1, 0.3, 0.3)
    (dispatch,) = site.run(0.3)
    assert [ticket.id for ticket in dispatch.tickets] == [2]


def test_a_cascade_needs_both_of_its_variants():
    cascade = Cascade(
        name="both", first="small", then="large", threshold=0.9, escalated=0.2, accuracy=0.93
    )
    site = Site(replace(MODEL, cascades=(cascade,)))
    site.reside(absent=[site.large])
    assert isinstance(refusal(site, make_ticket(budget=1.0, variant="both")), NotResident)
    site.reside()
    assert isinstance(
        site.scheduler.admit(make_ticket(2, budget=1.0, variant="both"), 0.0), Admitted
    )


def test_what_is_learned_of_a_model_changes_nothing_of_what_is_loaded():
    site = Site()
    site.reside(absent=[site.large])
    site.scheduler.revise(site.model, 0.0)
    site.scheduler.take_out(site.model, {}, 0.0)
    site.scheduler.admit(make_ticket(budget=1.0), 0.0)
    (dispatch,) = site.run(0.0)
    assert dispatch.profile is site.small


def test_spare_time_is_not_for_what_is_not_loaded():
    site = Site()
    site.reside(absent=[site.large])
    site.scheduler.offer(make_ticket(1, variant="large"))
    assert site.run(0.0) == []


def test_explain_says_not_resident():
    site = Site()
    site.reside(absent=[site.large])
    told = explain(site.scheduler, make_ticket(budget=1.0), 0.0)
    verdicts = {gear.name: gear for gear in told.gears}
    assert told.chosen == "small"
    assert verdicts["large"].verdict is Verdict.NOT_RESIDENT
    assert "not resident" in verdicts["large"].why


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_nobody_who_was_taken_in_is_lost_to_a_change(data):
    """Requests of every kind, and changes at any moment, each drained before the variant goes."""
    site = Site()
    scheduler = site.scheduler
    now, number, running = 0.0, 0, {}
    waiting, leaving, absent = set(), frozenset(), frozenset()
    for _ in range(data.draw(st.integers(5, 40))):
        now += data.draw(st.sampled_from([0.0, 0.001, 0.01]))
        what = data.draw(st.sampled_from(["ask", "ask", "run", "change"]))
        if what == "ask":
            number += 1
            ticket = make_ticket(
                number,
                arrival=now,
                budget=data.draw(st.sampled_from([5.0, math.inf])),
                floor=data.draw(st.sampled_from([-math.inf, 0.9])),
                variant=data.draw(st.sampled_from([None, "large", "small"])),
            )
            if isinstance(scheduler.admit(ticket, now), Admitted):
                waiting.add(number)
        elif what == "change":
            if leaving:
                if not any(scheduler.in_use(site.model, profile) for profile in leaving):
                    absent, leaving = absent | leaving, frozenset()
            elif absent:
                absent = frozenset()
            else:
                leaving = frozenset([data.draw(st.sampled_from([site.large, site.small]))])
            assert scheduler.reside(site.model, Away(absent, leaving), now) == []
        else:
            for dispatch_id, end in list(running.items()):
                scheduler.finished(dispatch_id, max(now, end), 0.001)
                now = max(now, end)
            running.clear()
        for action in scheduler.decide(now).actions:
            assert isinstance(action, Dispatch)
            assert action.profile not in absent
            waiting -= {ticket.id for ticket in action.tickets}
            running[action.id] = now + 0.001
    for _ in range(2 * number + 2):
        for dispatch_id in running:
            scheduler.finished(dispatch_id, now, 0.001)
        running.clear()
        now += 0.001
        for action in scheduler.decide(now).actions:
            assert isinstance(action, Dispatch)
            waiting -= {ticket.id for ticket in action.tickets}
            running[action.id] = now
    assert not waiting


def test_where_everything_is_loaded_nothing_is_looked_up():
    site = Site()
    assert site.scheduler._lanes.of(site.model).away is EVERYTHING_HERE
