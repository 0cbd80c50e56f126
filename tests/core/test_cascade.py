"""A cascade is one more gear: chosen by the same rule, bound by the same floors."""

import math
from dataclasses import replace

import pytest

from builders import make_catalog, make_model, make_profiles, make_ticket
from gearshift.core.cascade import Together, gain, second_ticket, with_cascades
from gearshift.core.catalog import Cascade, Late
from gearshift.core.columns import columns
from gearshift.core.decisions import Admitted, Dispatch, Drop, Refused
from gearshift.core.gears import gears
from gearshift.core.guard import Guard, Length, Limit, guard
from gearshift.core.prices import blocking
from gearshift.core.router import Reason
from gearshift.core.scheduler import Scheduler
from gearshift.core.scoring import best_batches
from gearshift.core.strand import Strand
from gearshift.errors import FloorUnreachable

MS = 0.001
CASCADE = Cascade(
    name="both", first="small", then="large", threshold=0.9, escalated=0.25, accuracy=0.94
)
SECONDS = {"large": (10 * MS, 0.0), "small": (1 * MS, 0.0)}


def make(seconds=None, *, workers=1, cascade=CASCADE, accuracies=None, max_batch_size=8):
    model = replace(
        make_model(accuracies=accuracies, max_batch_size=max_batch_size), cascades=(cascade,)
    )
    catalog = make_catalog(model)
    profiles = make_profiles(catalog, seconds or SECONDS)
    return Scheduler(catalog, profiles, dict.fromkeys(range(workers), "cpu")), model


def only(scheduler, now=0.0):
    (dispatch,) = (a for a in scheduler.decide(now).actions if isinstance(a, Dispatch))
    return dispatch


def test_an_idle_server_prefers_the_better_variant_alone():
    scheduler, _ = make()
    scheduler.admit(make_ticket(budget=50 * MS), 0.0)
    assert only(scheduler).profile.variant.name == "large"


def test_where_a_worker_costs_the_cascade_is_worth_more_than_either():
    scheduler, _ = make()
    # Large costs 10 ms x 5 = 0.05 of its worth 1, small 0.005 of 0.84, the cascade 0.005 and a
    # quarter of 0.05 of 0.99.
    scheduler.admit(make_ticket(budget=50 * MS), 0.0)
    scheduler.set_prices({"cpu": 5.0})
    dispatch = only(scheduler)
    assert dispatch.profile.variant.name == "both"
    assert dispatch.profile.runs.variant.name == "small"
    assert dispatch.profile.cascade == CASCADE
    assert dispatch.reason(dispatch.tickets[0]) == Reason.LOAD


def test_where_going_on_is_not_worth_its_price_the_first_alone_is_no_worse():
    scheduler, _ = make()
    lane = next(iter(scheduler._lanes.every))
    scheduler.admit(make_ticket(budget=50 * MS), 0.0)
    scheduler.set_prices({"cpu": 1000.0})
    (strand,) = lane.strands
    gears = scheduler._selector.gears_of(strand)
    nets = {option.profile.variant.name: option.nets[1] for _, option in gears.options["cpu"][0]}
    assert nets["both"] == pytest.approx(nets["small"])


def test_it_is_chosen_only_where_there_is_time_for_both():
    scheduler, _ = make()
    scheduler.admit(make_ticket(budget=10.5 * MS), 0.0)
    scheduler.set_prices({"cpu": 60.0})
    assert only(scheduler).profile.variant.name == "small"


def test_its_worker_is_free_after_the_first_run():
    scheduler, _ = make()
    scheduler.admit(make_ticket(budget=50 * MS, variant="both"), 0.0)
    dispatch = only(scheduler)
    assert dispatch.profile.cascade is CASCADE
    scheduler.finished(dispatch.id, 1 * MS, 1 * MS)
    scheduler.admit(make_ticket(2, arrival=1 * MS, budget=50 * MS), 1 * MS)
    assert only(scheduler, 1 * MS).profile.variant.name == "large"


def test_a_floor_holds_for_both_of_its_variants():
    scheduler, _ = make()
    # 0.94 on average, but the small one with its 0.80 may answer.
    scheduler.admit(make_ticket(budget=50 * MS, floor=0.9), 0.0)
    scheduler.set_prices({"cpu": 5.0})
    assert only(scheduler).profile.variant.name == "large"


def test_pinned_below_the_floor_it_is_refused_with_the_reason():
    scheduler, _ = make()
    refused = scheduler.admit(make_ticket(variant="both", floor=0.9), 0.0)
    assert isinstance(refused, Refused)
    assert isinstance(refused.error, FloorUnreachable)
    assert "may answer by a variant below" in str(refused.error)


def test_the_second_ticket_is_worth_what_the_second_answer_adds():
    _, model = make()
    assert gain(model, CASCADE) == pytest.approx((0.94 - 0.80) / 0.25)
    first = replace(make_ticket(budget=50 * MS, late=Late.SERVE), weight=2.0)
    second = second_ticket(first, model, CASCADE, 9, 1, 3 * MS)
    assert second.id == 9
    assert second.deadline == first.deadline
    assert second.budget == pytest.approx(47 * MS)
    assert (second.variant, second.late, second.fallback) == ("large", Late.DROP, True)
    # Its worth is weight x accuracy over the best: 2 x 0.56 / 0.95.
    assert second.weight * 0.95 == pytest.approx(2.0 * 0.56)


def test_a_second_ticket_waits_like_others_and_is_dropped_at_its_latest_start():
    scheduler, model = make()
    scheduler.admit(make_ticket(budget=50 * MS, variant="large"), 0.0)
    only(scheduler)
    second = second_ticket(make_ticket(budget=12 * MS), model, CASCADE, 2, 1, 1 * MS)
    assert isinstance(scheduler.admit(second, 1 * MS), Refused)
    second = second_ticket(make_ticket(budget=25 * MS), model, CASCADE, 2, 1, 1 * MS)
    assert scheduler.admit(second, 1 * MS) == Admitted()
    (drop,) = scheduler.decide(15.1 * MS).actions
    assert isinstance(drop, Drop)
    assert drop.ticket is second
    assert scheduler._lost == 0


def test_the_need_grows_with_the_rows_that_may_go_on_and_follows_what_is_learned():
    scheduler, model = make({"large": (0.0, 10 * MS), "small": (1 * MS, 0.0)})
    profiles = next(iter(scheduler._lanes.every)).runnable
    (both,) = (p for p in profiles if isinstance(p, Together))
    # Of 8 rows 2 go on in the mean; 2 + 2 sqrt(1.5) = 4.4 are allowed for.
    assert both.p99s[8] == pytest.approx(1 * MS + 5 * 10 * MS)
    assert both.p99s[1] == pytest.approx(1 * MS + 10 * MS)
    assert both.p50s[8] == pytest.approx(1 * MS)
    for _ in range(200):
        both.first.observe(1, 4 * MS, 0.0)
    next(iter(scheduler._lanes.every)).relearn()
    assert both.p50s[1] > 2 * MS
    assert with_cascades(replace(model, cascades=()), profiles[:1]) == tuple(profiles[:1])


def test_more_rows_than_the_second_runs_at_once_go_one_batch_after_the_other():
    cascade = replace(CASCADE, escalated=1.0)
    scheduler, model = make(cascade=cascade)
    lane = next(iter(scheduler._lanes.every))
    small, large = (
        next(p for p in lane.runnable if p.variant.name == name) for name in ("small", "large")
    )
    short = type(large)(large.variant, "cpu", large.points, 3)
    assert Together(model, cascade, small, short).p99s[8] == pytest.approx(1 * MS + 3 * 10 * MS)


def gears_of(*names):
    """A strand with these gears."""
    scheduler, model = make()
    runnable = next(iter(scheduler._lanes.every)).runnable
    by_name = {profile.variant.name: profile for profile in runnable}
    return Strand(model, {"cpu": [by_name[name] for name in names]})


def test_its_worker_is_taken_for_the_first_run_alone_so_nobody_is_locked_out():
    strand = gears_of("large", "both", "small")
    strand.expect(50 * MS, 0.0)
    tight = Guard({"cpu": Limit(3 * MS, 1, math.inf, 0.5)})
    lengths = {column.profile.variant.name: column.length for column in columns(strand, tight, 0.0)}
    assert lengths == {"large": Length.LONG, "both": Length.SHORT, "small": Length.SHORT}
    # Long runs are dear; the cascade pays for a short one.
    prices = {"cpu": 1.0, blocking("cpu"): 1000.0}
    found = gears(strand, columns(strand, tight, 0.0), prices, tight, {"cpu": 2}, 0.0)
    (best, *_) = found.options["cpu"][0]
    assert best[1].profile.variant.name == "both"
    assert best[1].needs[1] == pytest.approx(11 * MS)
    assert best[1].blocks[1] == pytest.approx(1 * MS)
    (candidate,) = best_batches(strand_of(strand), found, "cpu", 0.0, tight.on("cpu"), False, 1)
    assert candidate[1].variant.name == "both"


def strand_of(strand):
    """The same with one ticket of 50 ms."""
    ticket = make_ticket(budget=50 * MS)
    strand.add((ticket.deadline, ticket.id, ticket))
    return strand


def test_short_budgets_need_no_kept_worker_for_the_sake_of_a_cascades_second_run():
    slow, quick = gears_of("both", "small"), gears_of("small")
    slow.expect(50 * MS, 0.0)
    quick.expect(5 * MS, 0.0)
    # Nothing runs for longer than 1 ms there, and 1 + 1 ms are less than 5.
    assert guard([slow, quick], {"cpu": 1}, 0.0) == Guard({})
    slow = gears_of("large", "small")
    slow.expect(50 * MS, 0.0)
    assert guard([slow, quick], {"cpu": 1}, 0.0).limits
