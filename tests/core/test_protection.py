"""Short budgets beside long runs: nobody is locked out, and nothing is locked away."""

from __future__ import annotations

import math

import pytest

from builders import make_catalog, make_model, make_profiles, make_ticket
from gearshift.core.catalog import ServiceClass
from gearshift.core.columns import columns
from gearshift.core.decisions import Dispatch
from gearshift.core.gears import gears
from gearshift.core.guard import Guard, Length, Limit, guard
from gearshift.core.harm import least_harm
from gearshift.core.lane import Lane
from gearshift.core.profile import Profile, Profiles
from gearshift.core.scheduler import Scheduler
from gearshift.core.scoring import shorter_batches
from gearshift.core.strand import Strand

MS = 0.001
TIGHT = ServiceClass("realtime", budget=10 * MS)
WIDE = ServiceClass("critical", budget=250 * MS)
SECONDS = {
    "quick": (0.1 * MS, 0.01 * MS),
    "long": (60 * MS, 0.0),
    "middle": (5 * MS, 0.0),
    "turn": (12 * MS, 0.0),
}


def make(workers: int, *, declared: bool = True, wide=None) -> Scheduler:
    fraud = make_model("fraud", {"quick": 0.8}, classes=[TIGHT] if declared else [WIDE])
    tumor = make_model("tumor", wide or {"long": 0.95}, classes=[WIDE])
    catalog = make_catalog(fraud, tumor)
    return Scheduler(catalog, make_profiles(catalog, SECONDS), dict.fromkeys(range(workers), "cpu"))


def ask(scheduler: Scheduler, number: int, model: str, now: float = 0.0, **wish):
    wish.setdefault("budget", {"fraud": 10 * MS, "tumor": 250 * MS}[model])
    return scheduler.admit(make_ticket(number, model=model, arrival=now, **wish), now)


def started(scheduler: Scheduler, now: float) -> list[str]:
    actions = scheduler.decide(now).actions
    return [a.profile.variant.name for a in actions if isinstance(a, Dispatch)]


def test_the_last_worker_takes_no_long_run_even_before_the_first_short_budget_comes():
    scheduler = make(2)
    for number in range(1, 3):
        ask(scheduler, number, "tumor", rows=8)
    assert started(scheduler, 0.0) == ["long"]
    ask(scheduler, 3, "fraud", 1 * MS)
    assert started(scheduler, 1 * MS) == ["quick"]


def test_it_may_start_as_soon_as_another_will_be_free_in_time():
    scheduler = make(2)
    for number in range(1, 3):
        ask(scheduler, number, "tumor", rows=8)
    first = scheduler.decide(0.0)
    assert first.wake_at < 60 * MS
    assert started(scheduler, first.wake_at) == ["long"]


def test_the_kept_worker_is_lent_for_runs_within_its_reach():
    scheduler = make(2, wide={"long": 0.95, "middle": 0.9})
    for number in range(1, 3):
        ask(scheduler, number, "tumor", rows=8, budget=80 * MS)
    assert sorted(started(scheduler, 0.0)) == ["long", "middle"]


def test_a_class_that_nobody_declares_is_protected_from_its_first_ticket_on():
    scheduler = make(2, declared=False)
    ask(scheduler, 1, "fraud")
    assert started(scheduler, 0.0) == ["quick"]
    for number in range(2, 4):
        ask(scheduler, number, "tumor", rows=8)
    assert started(scheduler, 0.0) == ["long"]


def test_with_one_worker_a_long_run_has_to_be_worth_what_it_locks_out():
    scheduler = make(1)
    ask(scheduler, 1, "tumor")
    assert started(scheduler, 0.0) == ["long"]
    busy = make(1)
    for number in range(200):
        ask(busy, number, "fraud", number * MS / 10)
    busy.outlook(20 * MS)
    busy.outlook(40 * MS)
    busy.decide(40 * MS)
    for dispatch in range(1, 200):
        if dispatch not in busy._running:
            break
        busy.finished(dispatch, 41 * MS, 0.2 * MS)
    ask(busy, 1000, "tumor", 45 * MS)
    assert "long" not in started(busy, 46 * MS)


def test_with_many_workers_nothing_needs_to_be_kept():
    scheduler = make(8)
    for number in range(1, 9):
        ask(scheduler, number, "tumor", rows=8)
    assert started(scheduler, 0.0) == ["long"] * 7


@pytest.mark.parametrize(("rate", "keep"), [(10.0, 1), (20_000.0, 1), (150_000.0, 5)])
def test_as_many_are_kept_as_the_short_budgets_need(rate, keep):
    fraud, tumor = (make_model("fraud", {"quick": 0.8}), make_model("tumor", {"long": 0.95}))
    catalog = make_catalog(fraud, tumor)
    profiles = make_profiles(catalog, SECONDS)
    strands = []
    for model, budget in ((fraud, 10 * MS), (tumor, 250 * MS)):
        lane = Lane(model, profiles.everywhere(model.name))
        strand = lane.strand(lane.key(make_ticket(model=model.name)))
        strand.expect(budget, 0.0)
        strand.rate = rate if model is fraud else 1.0
        strands.append(strand)
    limit = guard(strands, {"cpu": 40}, 0.0).limits["cpu"]
    assert limit.keep == keep
    assert 9 * MS < limit.reach < 10 * MS
    assert limit.toll == math.inf


def test_the_short_budgets_own_head_is_not_passed_over_for_a_better_gear():
    """A gear that is too slow for the first in line must not run while the first is lost."""
    fraud = make_model("fraud", {"large": 0.9, "quick": 0.8}, classes=[TIGHT])
    catalog = make_catalog(fraud)
    seconds = {"large": (2 * MS, 0.0), "quick": (0.1 * MS, 0.0)}
    scheduler = Scheduler(catalog, make_profiles(catalog, seconds), {0: "cpu"})
    ask(scheduler, 1, "fraud", 0.0)
    ask(scheduler, 2, "fraud", 8 * MS)
    (dispatch,) = scheduler.decide(9 * MS).actions
    assert dispatch.tickets[0].id == 1
    assert dispatch.profile.variant.name == "quick"


def test_long_runs_take_turns_where_one_always_ends_within_the_reach():
    """Runs of 12 ms on both workers, 10 ms for fraud: the second begins when the first has no
    more than fraud's reach to go, and the plan counts on it."""
    scheduler = make(2, wide={"turn": 0.95})
    for number in range(1, 4):
        ask(scheduler, number, "tumor", rows=8)
    first = scheduler.decide(0.0)
    assert [a.profile.variant.name for a in first.actions] == ["turn"]
    assert 2 * MS < first.wake_at < 4 * MS
    second = scheduler.decide(first.wake_at)
    assert [a.profile.variant.name for a in second.actions] == ["turn"]
    scheduler.finished(1, 12 * MS, 12 * MS)
    assert started(scheduler, 12 * MS) == ["turn"]  # the second has 2 to 4 ms to go
    demand = next(d for d in scheduler.outlook(13 * MS).demands if d.columns[0].need > 10 * MS)
    assert [column.length for column in demand.columns] == [Length.SPREAD]


def test_who_would_be_lost_goes_before_a_long_run_though_waiting_seems_right_to_it():
    """At this price a batch of one is too small for fraud, which has 5 ms left, so it is no
    candidate. But the only other worker is busy for 8 ms, and this one is about to be, too."""
    fraud = make_model("fraud", {"quick": 0.8})
    tumor = make_model("tumor", {"turn": 0.95})
    catalog = make_catalog(fraud, tumor)
    profiles = make_profiles(catalog, SECONDS)
    limits = Guard({"cpu": Limit(reach=9 * MS, keep=1, toll=math.inf, others=0.5)})
    prices = {"cpu": 500.0}
    waiting = {}
    for number, (model, due) in enumerate(((fraud, 5 * MS), (tumor, 200 * MS)), 1):
        strand = Strand(model, {"cpu": profiles.everywhere(model.name)}, weight=1.0 + 10 * number)
        strand.rate, strand.budget = 2_000.0, 10 * MS
        strand.measure_quickest()
        strand.add((due, number, make_ticket(number, model=model.name, budget=due)))
        found = columns(strand, limits, 0.0)
        waiting[strand] = gears(strand, found, prices, limits, {"cpu": 2}, 0.0)
    first, second = waiting
    (single,) = shorter_batches(first, waiting[first], "cpu", 0.0, 9 * MS, -math.inf)
    assert single[0] < -0.02  # waiting seems right
    tumor_run = (0.0, 2, second, (0.0, profiles.everywhere("tumor")[0], 0, 1))
    for next_free, expected in ((8 * MS, first), (4 * MS, second)):
        in_haste = [(first, waiting[first])]
        chosen = least_harm(
            [tumor_run],
            in_haste,
            waiting.__getitem__,
            "cpu",
            0.0,
            next_free,
            limits.limit("cpu"),
            lesser=True,
        )
        assert chosen[0] is expected


def test_whom_the_guard_is_for_may_run_however_slow_that_has_become():
    """Fraud's own run takes more than half of its budget: it locks out others of its kind for
    so long, but not to run would be no help to them."""
    fraud = make_model("fraud", {"turn": 0.8}, classes=[ServiceClass("realtime", budget=20 * MS)])
    tumor = make_model("tumor", {"long": 0.95}, classes=[WIDE])
    catalog = make_catalog(fraud, tumor)
    scheduler = Scheduler(catalog, make_profiles(catalog, SECONDS), {0: "cpu", 1: "cpu"})
    ask(scheduler, 1, "tumor", rows=8)
    assert started(scheduler, 0.0) == ["long"]
    ask(scheduler, 2, "fraud", 1 * MS, budget=20 * MS)
    assert started(scheduler, 1 * MS) == ["turn"]


def test_who_runs_on_a_worker_of_its_own_needs_none_kept_elsewhere():
    """Fraud's only gear runs on the express worker: tumor may have both of the others."""
    fraud = make_model("fraud", {"quick": 0.8}, classes=[TIGHT])
    tumor = make_model("tumor", {"long": 0.95}, classes=[WIDE])
    catalog = make_catalog(fraud, tumor)
    on_cpu = make_profiles(catalog, SECONDS)
    (quick,) = on_cpu.everywhere("fraud")
    express = Profile(quick.variant, "express", quick.points, fraud.max_batch_size)
    placed = Profiles(catalog.models, [express, *on_cpu.everywhere("tumor")])
    for profiles, together in ((placed, 2), (on_cpu, 1)):
        scheduler = Scheduler(catalog, profiles, {0: "cpu", 1: "cpu", 2: "express"})
        for number in range(1, 3):
            ask(scheduler, number, "tumor", rows=8)
        assert started(scheduler, 0.0) == ["long"] * together


def with_a_near_worker(most: int) -> tuple[Scheduler, Profiles]:
    """Two workers for runs of any length, and one for fraud's batches of at most `most`."""
    fraud = make_model("fraud", {"quick": 0.8}, classes=[TIGHT], max_batch_size=64)
    tumor = make_model("tumor", {"long": 0.95}, classes=[WIDE])
    catalog = make_catalog(fraud, tumor)
    usual = make_profiles(catalog, SECONDS)
    (quick,) = usual.everywhere("fraud")
    near = Profile(quick.variant, "near", quick.points, most)
    profiles = Profiles(catalog.models, [quick, *usual.everywhere("tumor"), near])
    return Scheduler(catalog, profiles, {0: "near", 1: "cpu", 2: "cpu"}), profiles


def test_no_worker_is_kept_for_who_has_room_where_nobody_runs_long():
    scheduler, _ = with_a_near_worker(most=8)
    for number in range(1, 3):
        ask(scheduler, number, "tumor", rows=8)
    assert started(scheduler, 0.0) == ["long", "long"]
    ask(scheduler, 3, "fraud", 1 * MS)
    assert started(scheduler, 1 * MS) == ["quick"]


def test_a_worker_is_kept_for_more_than_the_other_device_can_do():
    scheduler, _ = with_a_near_worker(most=1)
    for number in range(1000):  # 0.11 ms each, and 20,000 a second
        ask(scheduler, number, "fraud", number * 0.05 * MS)
        for action in scheduler.decide(number * 0.05 * MS).actions:
            if isinstance(action, Dispatch):
                scheduler.finished(action.id, number * 0.05 * MS, 0.11 * MS)
    now = 60 * MS
    scheduler.outlook(now)
    for number in range(2001, 2003):
        ask(scheduler, number, "tumor", now, rows=8)
    assert started(scheduler, now).count("long") == 1


def test_a_batch_takes_no_more_than_fits_on_its_device():
    scheduler, profiles = with_a_near_worker(most=8)
    for number in range(20):
        ask(scheduler, number, "fraud")
    sizes = {
        action.profile.device: action.rows
        for action in scheduler.decide(0.0).actions
        if isinstance(action, Dispatch)
    }
    assert sizes.pop("near") <= 8
    assert profiles.on("fraud", "near")[0].p99(9) == math.inf


def test_a_request_of_more_rows_than_fit_goes_elsewhere():
    scheduler, _ = with_a_near_worker(most=8)
    ask(scheduler, 1, "fraud", rows=9)
    (dispatch,) = scheduler.decide(0.0).actions
    assert dispatch.profile.device == "cpu"
