"""What is learned of variants changes who may answer whom, at once and for those who wait."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import make_catalog, make_model, make_profiles, make_ticket
from gearshift.core.catalog import Cascade, Standing
from gearshift.core.decisions import Admitted, Dispatch, Drop, Refused
from gearshift.core.revision import revised
from gearshift.core.scheduler import Scheduler
from gearshift.errors import FloorUnreachable

MS = 0.001
SECONDS = {"large": (10 * MS, 0.0), "middle": (4 * MS, 0.0), "small": (1 * MS, 0.0)}
ACCURACIES = {"large": 0.95, "middle": 0.90, "small": 0.80}


def make(workers=1, **changes):
    model = make_model(accuracies=ACCURACIES)
    variants = tuple(replace(v, **changes.get(v.name, {})) for v in model.variants)
    model = replace(model, variants=variants)
    catalog = make_catalog(model)
    profiles = make_profiles(catalog, SECONDS)
    return Scheduler(catalog, profiles, dict.fromkeys(range(workers), "cpu")), model


def chosen(scheduler, now=0.0):
    return [
        (a.profile.variant.name, [t.id for t in a.tickets])
        for a in scheduler.decide(now).actions
        if isinstance(a, Dispatch)
    ]


def test_a_variant_that_has_gone_bad_is_passed_over():
    scheduler, model = make()
    assert scheduler.revise(revised(model, {"large": 0.7}, {}), 0.0) == []
    scheduler.admit(make_ticket(budget=50 * MS), 0.0)
    assert chosen(scheduler) == [("middle", [1])]


def test_a_floor_goes_by_what_is_known_now():
    scheduler, model = make()
    scheduler.revise(revised(model, {"large": 0.89}, {}), 0.0)
    refused = scheduler.admit(make_ticket(floor=0.93), 0.0)
    assert isinstance(refused, Refused)
    assert "the best is 'middle'" in str(refused.error)


def test_those_who_wait_go_on_waiting_or_hear_that_nobody_is_left():
    scheduler, model = make()
    scheduler.admit(make_ticket(budget=50 * MS), 0.0)
    assert chosen(scheduler)
    for ticket in (
        make_ticket(2, budget=90 * MS, floor=0.93),
        make_ticket(3, budget=90 * MS),
        make_ticket(4, floor=0.85),
    ):
        assert scheduler.admit(ticket, 0.0) == Admitted()
    (drop,) = scheduler.revise(revised(model, {"large": 0.7}, {}), 1 * MS)
    assert isinstance(drop, Drop)
    assert drop.ticket.id == 2
    assert isinstance(drop.error, FloorUnreachable)
    assert scheduler.waiting == 2
    scheduler.cancel(4, 2 * MS)
    assert scheduler.waiting == 1
    scheduler.finished(1, 10 * MS, 10 * MS)
    assert chosen(scheduler, 10 * MS) == [("middle", [3])]


def test_what_is_known_of_arrivals_stays():
    scheduler, model = make()
    for number in range(40):
        scheduler.admit(make_ticket(number, arrival=number * MS, budget=500 * MS), number * MS)
    scheduler.outlook(40 * MS)
    before = next(iter(scheduler._selector.strands())).rate
    assert before > 0.0
    scheduler.revise(revised(model, {"large": 0.85}, {}), 41 * MS)
    assert before in [strand.rate for strand in scheduler._selector.strands()]
    assert scheduler.waiting == 40


def test_a_withdrawn_variant_answers_only_who_names_it():
    scheduler, model = make()
    scheduler.revise(revised(model, {}, {"large": Standing.WITHDRAWN}), 0.0)
    scheduler.admit(make_ticket(budget=50 * MS), 0.0)
    assert chosen(scheduler) == [("middle", [1])]
    scheduler.finished(1, 4 * MS, 4 * MS)
    scheduler.admit(make_ticket(2, variant="large"), 4 * MS)
    assert chosen(scheduler, 4 * MS) == [("large", [2])]


def test_the_last_that_serves_is_not_withdrawn():
    _, model = make()
    found = revised(model, {}, dict.fromkeys(ACCURACIES, Standing.WITHDRAWN))
    assert [v.standing for v in found.variants] == [Standing.SERVING] * 3


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_a_canary_gets_its_share_of_what_it_could_answer(share):
    scheduler, _ = make(workers=2, large={"standing": Standing.CANARY, "share": share})
    got = []
    now = 0.0
    for number in range(1, 201):
        # Every second one is too short for it.
        budget = 50 * MS if number % 2 else 5 * MS
        scheduler.admit(make_ticket(number, arrival=now, budget=budget), now)
        ((name, _),) = chosen(scheduler, now)
        got.append(name)
        scheduler.finished(number, now + SECONDS[name][0], SECONDS[name][0])
        now += 20 * MS
    assert got.count("large") == pytest.approx(100 * share, abs=1)
    assert got.count("middle") == 200 - got.count("large")


def test_a_canary_is_no_measure_of_what_is_best():
    _, model = make(large={"standing": Standing.CANARY, "share": 0.1})
    assert model.best.name == "middle"


def test_promoted_it_serves_all():
    scheduler, model = make(large={"standing": Standing.CANARY, "share": 0.1})
    scheduler.revise(revised(model, {}, {"large": Standing.SERVING}), 0.0)
    scheduler.admit(make_ticket(budget=50 * MS), 0.0)
    assert chosen(scheduler) == [("large", [1])]


def test_an_accuracy_says_where_it_comes_from():
    model = make_model(accuracies=ACCURACIES)
    found = revised(model, {"large": 0.7, "small": ACCURACIES["small"]}, {})
    sources = {variant.name: variant.source for variant in found.variants}
    assert sources == {"large": "live", "middle": "declared", "small": "declared"}
    again = revised(found, {"small": ACCURACIES["small"]}, {})
    assert again.by_name("large").source == "live"


def test_a_cascade_keeps_to_what_its_own_labels_say():
    cascade = Cascade(
        name="both", first="small", then="large", threshold=0.9, escalated=0.25, accuracy=0.94
    )
    model = replace(make_model(accuracies=ACCURACIES), cascades=(cascade,))
    assert revised(model, {"small": 0.7, "both": 0.6}, {}).cascades[0].accuracy == 0.6


def test_a_cascade_follows_its_variants():
    cascade = Cascade(
        name="both", first="small", then="large", threshold=0.9, escalated=0.25, accuracy=0.94
    )
    model = replace(make_model(accuracies=ACCURACIES), cascades=(cascade,))
    found = revised(model, {"small": 0.70, "large": 0.99}, {})
    assert found.cascades[0].accuracy == pytest.approx(0.94 - 0.75 * 0.10 + 0.25 * 0.04)


@given(
    st.dictionaries(st.sampled_from(sorted(ACCURACIES)), st.floats(0.5, 1.0)),
    st.lists(st.tuples(st.floats(0.0, 0.96), st.booleans()), max_size=20),
)
def test_nobody_is_lost_and_nobody_answered_below_the_floor(accuracies, floors):
    scheduler, model = make()
    waiting = set()
    for number, (floor, patient) in enumerate(floors, start=1):
        budget = 500 * MS if not patient else float("inf")
        verdict = scheduler.admit(make_ticket(number, budget=budget, floor=floor), 0.0)
        if verdict == Admitted():
            waiting.add(number)
    found = revised(model, accuracies, {})
    dropped = {drop.ticket.id for drop in scheduler.revise(found, 0.0)}
    assert all(floors[n - 1][0] > found.best_accuracy for n in dropped)
    assert dropped <= waiting
    now, served, expired = 0.0, set(), set()
    while scheduler.waiting:
        decisions = scheduler.decide(now)
        for action in decisions.actions:
            if isinstance(action, Drop):
                expired.add(action.ticket.id)
                continue
            for ticket in action.tickets:
                assert action.profile.variant.accuracy >= ticket.floor
                served.add(ticket.id)
            now += 10 * MS
            scheduler.finished(action.id, now, 10 * MS)
        now = max(now, min(decisions.wake_at, now + 1.0))
    assert sorted([*served, *dropped, *expired]) == sorted(waiting)
