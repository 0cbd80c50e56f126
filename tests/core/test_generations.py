"""Two generations of a model side by side in the scheduler."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from builders import make_catalog, make_model, make_profiles, make_ticket
from gearshift.core import room
from gearshift.core.catalog import Cascade, Late, ServiceClass
from gearshift.core.decisions import Admitted, Dispatch, Drop, Refused
from gearshift.core.explain import explain
from gearshift.core.revision import revised, shared
from gearshift.core.scheduler import Scheduler
from gearshift.errors import FloorUnreachable, Overloaded

MS = 0.001
SECONDS = {"large": (10 * MS, 0.0), "small": (1 * MS, 0.0)}
CLASSES = (ServiceClass("default", budget=50 * MS),)


def make_generation(number, accuracies=None, classes=CLASSES, hashes=None, name="m"):
    model = make_model(name, accuracies, classes=classes)
    variants = [replace(v, artifact_sha256=(hashes or {}).get(v.name, "")) for v in model.variants]
    return replace(model, generation=number, variants=tuple(variants))


def make(first=None, workers=1):
    catalog = make_catalog(first or make_generation(1))
    profiles = make_profiles(catalog, SECONDS)
    return Scheduler(catalog, profiles, dict.fromkeys(range(workers), "cpu"))


def exchange(scheduler, *models, now=0.0, seconds=SECONDS):
    catalog = make_catalog(*models)
    return scheduler.exchange(catalog.models, make_profiles(catalog, seconds), now)


def admit(scheduler, *tickets, now=0.0):
    for ticket in tickets:
        assert scheduler.admit(ticket, now) == Admitted(), ticket


def dispatched(scheduler, now):
    (dispatch,) = [a for a in scheduler.decide(now).actions if isinstance(a, Dispatch)]
    return dispatch.model.generation, [ticket.id for ticket in dispatch.tickets], dispatch


def test_those_of_both_generations_run_by_deadline_each_on_its_own():
    scheduler = make()
    old, second = make_generation(1), make_generation(2)
    admit(scheduler, make_ticket(1, budget=15 * MS))
    _, _, running = dispatched(scheduler, 0.0)
    admit(scheduler, make_ticket(2, budget=90 * MS), make_ticket(3, budget=200 * MS))
    exchange(scheduler, second)
    admit(scheduler, make_ticket(4, budget=80 * MS, generation=2))
    scheduler.set_prices({"cpu": 0.0})
    order, now = [], 10 * MS
    scheduler.finished(running.id, now, now)
    while scheduler.waiting:
        generation, ids, running = dispatched(scheduler, now)
        order.append((generation, ids))
        now += 10 * MS
        scheduler.finished(running.id, now, 10 * MS)
    assert order == [(2, [4]), (1, [2, 3])]
    scheduler.retire(old)
    assert [lane.model.generation for lane in scheduler._lanes.every] == [2]


def test_a_ticket_that_is_cancelled_leaves_its_own_lane():
    scheduler = make()
    admit(scheduler, make_ticket(1), make_ticket(2))
    exchange(scheduler, make_generation(2))
    admit(scheduler, make_ticket(3, generation=2))
    scheduler.cancel(1, 0.0)
    scheduler.cancel(3, 0.0)
    assert scheduler.waiting == 1
    assert [lane.count for lane in scheduler._lanes.every] == [1, 0]


def test_who_waits_in_an_old_lane_expires_there_and_wakes_the_scheduler():
    scheduler = make()
    admit(scheduler, make_ticket(1, budget=9 * MS), make_ticket(2, budget=9 * MS, late=Late.SERVE))
    running = scheduler.decide(0.0).actions[0]
    admit(scheduler, make_ticket(3, budget=5 * MS))
    exchange(scheduler, now=0.0)
    assert scheduler.decide(1 * MS).wake_at == pytest.approx(4 * MS)
    (drop,) = scheduler.decide(4.1 * MS).actions
    assert isinstance(drop, Drop)
    assert drop.ticket.id == 3
    scheduler.finished(running.id, 5 * MS, 5 * MS)


def test_what_does_not_run_here_changes_nothing():
    scheduler = make()
    admit(scheduler, make_ticket(1))
    other = make_generation(2, name="other")
    catalog = make_catalog(make_generation(2), other)
    mine = make_profiles(make_catalog(catalog.models["m"]), SECONDS)
    profiles = make_profiles(catalog, SECONDS, device="gpu")
    profiles._by_model["m"] = mine._by_model["m"]
    with pytest.raises(ValueError, match=r"'other' runs on none of the workers' devices \(cpu\)"):
        scheduler.exchange(catalog.models, profiles, 0.0)
    assert scheduler.exchange({"m": make_generation(1)}, profiles, 0.0) == []
    assert [lane.model.generation for lane in scheduler._lanes.every] == [1]
    assert dispatched(scheduler, 0.0)[:2] == (1, [1])


def test_the_number_of_a_generation_that_has_not_left_is_not_used_again():
    scheduler = make()
    admit(scheduler, make_ticket(1))
    exchange(scheduler)
    with pytest.raises(ValueError, match="needs a number that was never used"):
        exchange(scheduler, make_generation(1))
    exchange(scheduler, make_generation(2))
    scheduler.cancel(1, 0.0)
    scheduler.retire(make_generation(1))
    exchange(scheduler, make_generation(1))


def test_a_new_generation_expects_the_arrivals_of_the_one_before():
    scheduler = make()
    for number in range(40):
        scheduler.admit(make_ticket(number, arrival=number * MS, budget=500 * MS), number * MS)
    scheduler.outlook(40 * MS)
    (before,) = [strand.rate for strand in scheduler._selector.strands() if strand.rate]
    demands = len(scheduler.outlook(40 * MS).demands)
    exchange(scheduler, make_generation(2), now=40 * MS)
    rates = {s.model.generation: s.rate for s in scheduler._selector.strands() if s.rate}
    assert rates == {2: before}, "counted once"
    # What waits in the old one is seen by the planner as well.
    assert len(scheduler.outlook(40 * MS).demands) == demands + 1


def test_the_guard_keeps_workers_for_the_new_generation_only():
    scheduler = make(workers=4)
    admit(scheduler, make_ticket(1, budget=3 * MS, service_class="default"))
    scheduler.decide(0.0)
    assert any(s.live(1 * MS) for s in scheduler._selector.strands())
    exchange(scheduler, now=1 * MS)
    assert not any(s.live(1 * MS) for s in scheduler._selector.strands())


def test_latencies_are_known_of_an_artifact_that_both_generations_have():
    hashes = {"large": "a" * 64, "small": "b" * 64}
    scheduler = make(make_generation(1, hashes=hashes))
    (lane,) = scheduler._lanes.every
    old = {p.variant.name: p for p in lane.runnable}
    for _ in range(200):
        old["large"].observe(1, 20 * MS, 0.0)
        old["small"].observe(1, 2 * MS, 0.0)
    learned = old["large"].p50s[1]
    assert learned == pytest.approx(20 * MS, rel=0.1)
    exchange(scheduler, make_generation(2, hashes={**hashes, "small": "c" * 64}))
    new = {p.variant.name: p for p in scheduler._lanes.at("m", 2).runnable}
    assert new["large"].p50s[1] == pytest.approx(20 * MS, rel=0.1)
    assert new["small"].p50s[1] == 1 * MS
    for _ in range(200):
        new["large"].observe(1, 40 * MS, 0.0)
    assert old["large"].p50s[1] == learned, "apart from each other"


def test_no_more_wait_in_all_generations_than_may_wait_for_one_model(monkeypatch):
    monkeypatch.setattr(room, "MAX_WAITING", 3)
    scheduler = make()
    admit(scheduler, make_ticket(1))
    exchange(scheduler, make_generation(2))
    admit(scheduler, make_ticket(2, generation=2))
    exchange(scheduler, make_generation(3))
    admit(scheduler, make_ticket(3, generation=3))
    verdict = scheduler.admit(make_ticket(4, generation=3), 0.0)
    assert isinstance(verdict, Refused)
    assert isinstance(verdict.error, Overloaded)


def test_who_waits_on_the_old_generation_is_ahead_of_who_comes_for_the_new_one():
    scheduler = make()
    asked = {"budget": 26 * MS, "floor": 0.9}
    admit(scheduler, *(make_ticket(number, rows=8, **asked) for number in (1, 2)))
    exchange(scheduler, make_generation(2))
    verdict = scheduler.admit(make_ticket(3, rows=8, generation=2, **asked), 0.0)
    assert isinstance(verdict, Refused)
    assert "2 requests wait before it" in str(verdict.error)
    # Who asks for something else waits for nobody.
    admit(scheduler, make_ticket(4, rows=8, generation=2, budget=26 * MS))


def test_what_is_learned_of_an_old_generation_holds_for_those_who_wait_in_it():
    scheduler = make(workers=1)
    admit(scheduler, make_ticket(1, floor=0.9, budget=90 * MS), make_ticket(2, budget=90 * MS))
    exchange(scheduler, make_generation(2))
    (drop,) = scheduler.revise(revised(make_generation(1), {"large": 0.85}, {}), 0.0)
    assert drop.ticket.id == 1
    assert isinstance(drop.error, FloorUnreachable)
    admit(scheduler, make_ticket(3, floor=0.9, budget=90 * MS, generation=2))
    assert not any(s.live(0.0) for s in scheduler._lanes.at("m", 1).strands if not len(s))


def test_an_explanation_is_of_the_new_generation():
    scheduler = make()
    admit(scheduler, make_ticket(1, budget=90 * MS))
    exchange(scheduler, make_generation(2, {"only": 0.97}), seconds={"only": (5 * MS, 0.0)})
    found = explain(scheduler, make_ticket(2, budget=90 * MS, generation=2), 0.0)
    assert found.chosen == "only"
    assert [gear.name for gear in found.gears] == ["only"]


def test_shadows_of_an_old_generation_are_given_up():
    scheduler = make()
    waiting = make_ticket(1, budget=0.0, variant="large")
    assert scheduler.offer(waiting) is None
    assert exchange(scheduler, make_generation(2)) == [waiting]
    late = make_ticket(2, budget=0.0, variant="large")
    assert scheduler.offer(late) is late
    new = make_ticket(3, budget=0.0, variant="small", generation=2)
    assert scheduler.offer(new) is None
    assert dispatched(scheduler, 0.0)[:2] == (2, [3])


def test_a_lost_worker_is_replaced_and_its_run_is_over():
    scheduler = make()
    admit(scheduler, make_ticket(1, budget=90 * MS))
    _, _, running = dispatched(scheduler, 0.0)
    before = running.profile.p50s[1]
    admit(scheduler, make_ticket(2, arrival=5 * MS, budget=90 * MS), now=5 * MS)
    assert scheduler.decide(5 * MS).actions == ()
    assert scheduler.replace_worker(running.worker, 7, 6 * MS) == running.id
    _, ids, second = dispatched(scheduler, 6 * MS)
    assert (ids, second.worker) == ([2], 7)
    scheduler.finished(running.id, 9.0, 9.0)
    assert running.profile.p50s[1] == before, "a hang is no measurement"
    admit(scheduler, make_ticket(3, arrival=9.0, budget=90 * MS), now=9.0)
    assert scheduler.decide(9.0).actions == (), "the new one still runs"
    with pytest.raises(ValueError, match="no worker 0"):
        scheduler.replace_worker(0, 8, 9.0)
    with pytest.raises(ValueError, match="worker 7 already"):
        scheduler.replace_worker(7, 7, 9.0)


def test_a_device_that_nobody_had_is_used_once_it_has_a_worker():
    scheduler = make()
    catalog = make_catalog(make_generation(2))
    fast = make_profiles(catalog, {"large": (1 * MS, 0.0), "small": (1 * MS, 0.0)}, "express")
    with pytest.raises(ValueError, match="none of the workers' devices"):
        scheduler.exchange(catalog.models, fast, 0.0)
    admit(scheduler, make_ticket(1, budget=90 * MS))
    scheduler.employ(10, "express", 0.0, first=True)
    assert list(scheduler._workers.idle) == ["express", "cpu"]
    assert scheduler.exchange(catalog.models, fast, 0.0) == []
    admit(scheduler, make_ticket(2, budget=90 * MS, generation=2))
    actions = scheduler.decide(0.0).actions
    assert [(a.profile.device, a.worker) for a in actions] == [("express", 10), ("cpu", 0)]
    scheduler.set_prices({"cpu": 0.1, "express": 0.1})
    scheduler.outlook(1.0)
    assert math.isfinite(sum(scheduler.outlook(2.0).capacity.values()))


def test_generations_share_what_has_the_same_artifact_and_the_cascades_of_that():
    cascade = Cascade(
        name="both", first="small", then="large", threshold=0.9, escalated=0.25, accuracy=0.94
    )
    hashes = {"large": "a" * 64, "small": "b" * 64}
    old = replace(make_generation(1, hashes=hashes), cascades=(cascade,))
    assert shared(old, replace(old, generation=2)) == {"large", "small", "both"}
    other = replace(make_generation(2, hashes={**hashes, "small": "c" * 64}), cascades=(cascade,))
    assert shared(old, other) == {"large"}
    sharper = replace(old, cascades=(replace(cascade, threshold=0.8),))
    assert shared(old, sharper) == {"large", "small"}
    assert shared(make_generation(1), make_generation(2)) == set(), "without hashes nobody knows"
