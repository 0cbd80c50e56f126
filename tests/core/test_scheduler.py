import math

import pytest

from builders import make_catalog, make_model, make_profiles, make_ticket
from gearshift.core import room
from gearshift.core import scheduler as scheduler_module
from gearshift.core.catalog import Late
from gearshift.core.decisions import Admitted, Dispatch, Drop, Refused
from gearshift.core.scheduler import Scheduler
from gearshift.errors import BudgetInfeasible, DeadlineExpired, FloorUnreachable, Overloaded

MS = 0.001


def make(seconds=None, *, workers=1, max_batch_size=8, accuracies=None, models=("m",), prices=None):
    seconds = seconds or {"large": (10 * MS, 0.0), "small": (1 * MS, 0.0)}
    catalog = make_catalog(
        *(make_model(n, accuracies, max_batch_size=max_batch_size) for n in models)
    )
    made = Scheduler(catalog, make_profiles(catalog, seconds), dict.fromkeys(range(workers), "cpu"))
    if prices is not None:
        made.set_prices(prices)
    return made


def admit(scheduler, *tickets, now=0.0):
    for ticket in tickets:
        assert scheduler.admit(ticket, now) == Admitted(), ticket


def dispatches(scheduler, now):
    return [a for a in scheduler.decide(now).actions if isinstance(a, Dispatch)]


def chosen(scheduler, now=0.0):
    (dispatch,) = dispatches(scheduler, now)
    return dispatch.profile.variant.name, [t.id for t in dispatch.tickets]


def test_an_idle_server_takes_the_most_accurate_that_fits():
    scheduler = make()
    admit(scheduler, make_ticket(budget=20 * MS))
    assert chosen(scheduler) == ("large", [1])


def test_a_tight_budget_takes_the_faster_one():
    scheduler = make()
    admit(scheduler, make_ticket(budget=9 * MS))
    assert chosen(scheduler) == ("small", [1])


def test_time_spent_waiting_counts():
    scheduler = make()
    admit(scheduler, make_ticket(budget=20 * MS))
    assert chosen(scheduler, now=11 * MS) == ("small", [1])


def test_tickets_share_a_batch_and_a_busy_worker_gets_nothing():
    scheduler = make()
    admit(scheduler, *(make_ticket(i, budget=20 * MS) for i in range(1, 4)))
    (dispatch,) = dispatches(scheduler, 0.0)
    assert [t.id for t in dispatch.tickets] == [1, 2, 3]
    assert dispatch.rows == 3
    admit(scheduler, make_ticket(9, budget=30 * MS))
    assert dispatches(scheduler, 0.0) == []
    scheduler.finished(dispatch.id, 10 * MS, 10 * MS)
    assert chosen(scheduler, 10 * MS) == ("large", [9])


def test_the_earliest_deadline_goes_first():
    scheduler = make({"large": (0, 10 * MS), "small": (0, 1 * MS)})
    admit(
        scheduler,
        make_ticket(1, budget=60 * MS),
        make_ticket(2, budget=20 * MS),
        make_ticket(3, budget=40 * MS),
    )
    order = []
    now = 0.0
    while scheduler.waiting:
        (dispatch,) = dispatches(scheduler, now)
        order += [t.id for t in dispatch.tickets]
        now += dispatch.profile.p99(dispatch.rows)
        scheduler.finished(dispatch.id, now, 0.0)
    assert order == [2, 3, 1]


def test_a_waiting_queue_shifts_down_so_that_everybody_is_in_time():
    scheduler = make({"large": (0, 10 * MS), "small": (0, 1 * MS)})
    admit(scheduler, *(make_ticket(i, budget=15 * MS) for i in range(1, 9)))
    assert chosen(scheduler) == ("small", [1, 2, 3, 4, 5, 6, 7, 8])


def test_without_others_waiting_the_same_ticket_gets_the_best():
    scheduler = make({"large": (0, 10 * MS), "small": (0, 1 * MS)})
    admit(scheduler, make_ticket(1, budget=15 * MS))
    assert chosen(scheduler)[0] == "large"


def test_a_floor_keeps_others_out_of_the_batch_variant():
    scheduler = make()
    admit(scheduler, make_ticket(1, budget=5 * MS), make_ticket(2, budget=30 * MS, floor=0.9))
    variant, members = chosen(scheduler)
    assert (variant, members) == ("small", [1])
    assert scheduler.waiting == 1


def test_one_doomed_head_does_not_drag_everybody_to_a_bad_variant():
    scheduler = make(workers=1)
    admit(scheduler, make_ticket(1, budget=5 * MS))
    admit(scheduler, make_ticket(2, budget=30 * MS))
    decisions = scheduler.decide(4.5 * MS)
    drop, dispatch = decisions.actions
    assert isinstance(drop, Drop)
    assert isinstance(drop.error, DeadlineExpired)
    assert dispatch.profile.variant.name == "large"


def test_floor_and_budget_that_nothing_meets_are_refused_at_the_door():
    scheduler = make()
    refused = scheduler.admit(make_ticket(floor=0.99), 0.0)
    assert isinstance(refused.error, FloorUnreachable)
    refused = scheduler.admit(make_ticket(budget=0.5 * MS), 0.0)
    assert isinstance(refused.error, BudgetInfeasible)
    assert scheduler.waiting == 0


def test_overload_is_refused_at_the_door_with_a_time_to_come_back():
    scheduler = make({"large": (0, 10 * MS), "small": (0, 1 * MS)}, max_batch_size=1)
    admit(scheduler, *(make_ticket(i, budget=10 * MS) for i in range(10)))
    refused = scheduler.admit(make_ticket(11, budget=10 * MS), 0.0)
    assert isinstance(refused, Refused)
    assert isinstance(refused.error, Overloaded)
    assert 0 < refused.error.retry_after < 1
    # The same request with more time has room, and so has one that is due before the crowd.
    admit(scheduler, make_ticket(12, budget=20 * MS), make_ticket(13, budget=5 * MS))


def test_a_busy_worker_makes_a_short_budget_overloaded():
    scheduler = make()
    admit(scheduler, make_ticket(1, budget=20 * MS))
    scheduler.decide(0.0)
    refused = scheduler.admit(make_ticket(2, budget=5 * MS), 1 * MS)
    assert isinstance(refused.error, Overloaded)
    admit(scheduler, make_ticket(3, budget=15 * MS), now=1 * MS)


def test_a_hopeless_ticket_is_dropped_before_it_costs_compute():
    scheduler = make(workers=1)
    admit(scheduler, make_ticket(1, budget=20 * MS))
    (running,) = dispatches(scheduler, 0.0)
    admit(scheduler, make_ticket(2, budget=15 * MS))
    decisions = scheduler.decide(0.0)
    assert decisions.actions == ()
    assert decisions.wake_at == pytest.approx(14 * MS)
    (drop,) = scheduler.decide(decisions.wake_at).actions
    assert drop.ticket.id == 2
    assert "15 ms budget" in str(drop.error)
    scheduler.finished(running.id, 16 * MS, 16 * MS)
    assert dispatches(scheduler, 16 * MS) == []


def test_at_its_latest_start_a_ticket_still_runs():
    scheduler = make()
    admit(scheduler, make_ticket(1, budget=2 * MS))
    assert chosen(scheduler, 1 * MS) == ("small", [1])


def test_where_a_late_answer_has_value_it_is_given_late():
    scheduler = make()
    admit(scheduler, make_ticket(1, budget=5 * MS, late=Late.SERVE))
    assert chosen(scheduler, 50 * MS)[1] == [1]


def test_an_overdue_ticket_does_not_stand_in_the_way_of_one_in_time():
    scheduler = make({"large": (0, 10 * MS), "small": (0, 10 * MS)}, max_batch_size=1)
    admit(scheduler, make_ticket(1, budget=40 * MS, late=Late.SERVE))
    admit(scheduler, make_ticket(2, budget=52 * MS))
    assert chosen(scheduler, 41 * MS)[1] == [2]


def test_a_cancelled_ticket_gives_up_its_place():
    scheduler = make()
    admit(scheduler, *(make_ticket(i, budget=20 * MS) for i in (1, 2, 3)))
    scheduler.cancel(2, 0.0)
    assert chosen(scheduler)[1] == [1, 3]
    scheduler.cancel(2, 0.0)
    scheduler.cancel(77, 0.0)


def test_many_rows_count_as_many():
    scheduler = make({"large": (0, 10 * MS), "small": (0, 1 * MS)})
    admit(scheduler, make_ticket(1, rows=4, budget=35 * MS))
    assert chosen(scheduler)[0] == "small"


def test_a_batch_never_grows_beyond_the_maximum():
    scheduler = make({"large": (MS, 0), "small": (MS, 0)}, max_batch_size=4)
    admit(scheduler, *(make_ticket(i, rows=3, budget=1.0) for i in (1, 2)))
    admit(scheduler, make_ticket(3, rows=1, budget=1.0))
    (dispatch,) = dispatches(scheduler, 0.0)
    assert dispatch.rows == 4
    assert 3 in [t.id for t in dispatch.tickets]


def test_a_model_of_which_a_batch_saves_nothing_runs_one_by_one():
    scheduler = make({"large": (0, 10 * MS), "small": (0, MS)}, workers=2)
    admit(scheduler, make_ticket(1, budget=1.0), make_ticket(2, budget=1.0))
    assert [[t.id for t in d.tickets] for d in dispatches(scheduler, 0.0)] == [[1], [2]]


def test_the_lane_that_must_start_first_is_served_first():
    scheduler = make(models=("a", "b"))
    admit(scheduler, make_ticket(1, model="a", budget=50 * MS))
    admit(scheduler, make_ticket(2, model="b", budget=20 * MS))
    assert chosen(scheduler)[1] == [2]


def test_a_long_run_waits_where_another_lane_could_not_spare_the_time():
    scheduler = make({"large": (0, 40 * MS), "small": (0, 2 * MS)}, models=("a", "b"))
    admit(scheduler, make_ticket(1, model="a", budget=40 * MS))
    admit(scheduler, make_ticket(2, model="b", budget=41 * MS))
    assert chosen(scheduler) == ("small", [1])


@pytest.mark.parametrize("price", [0.0, -1e6, math.nan, math.inf])
def test_a_bad_price_counts_as_none(price):
    scheduler = make(prices={"cpu": price}, accuracies={"small": 0.95, "large": 0.8})
    admit(scheduler, make_ticket(budget=1.0))
    assert chosen(scheduler)[0] == "small"


def test_a_price_on_time_shifts_down_but_never_below_the_floor():
    scheduler = make(prices={"cpu": 50.0})
    admit(scheduler, make_ticket(1, budget=1.0))
    assert chosen(scheduler)[0] == "small"
    scheduler = make(prices={"cpu": 50.0})
    admit(scheduler, make_ticket(1, budget=1.0, floor=0.9))
    assert chosen(scheduler)[0] == "large"


def test_a_price_that_idles_the_workers_is_soon_not_believed():
    scheduler = make(prices={"cpu": 1e4})
    answered = []
    for number in range(1, 200):
        now = 0.05 * number
        admit(scheduler, make_ticket(number, arrival=now, budget=20 * MS), now=now)
        decisions = scheduler.decide(now)
        while not any(isinstance(action, Dispatch) for action in decisions.actions):
            if not scheduler.waiting:
                break
            decisions = scheduler.decide(decisions.wake_at)
        for action in decisions.actions:
            if isinstance(action, Dispatch):
                answered.append(number)
                scheduler.finished(action.id, now + 15 * MS, 10 * MS)
        scheduler.outlook(now + 30 * MS)
    assert 1 not in answered
    assert len([number for number in answered if number >= 100]) > 80


def test_a_lane_is_bounded_even_without_deadlines(monkeypatch):
    monkeypatch.setattr(room, "MAX_WAITING", 2)
    scheduler = make()
    admit(scheduler, make_ticket(1), make_ticket(2))
    assert isinstance(scheduler.admit(make_ticket(3), 0.0).error, Overloaded)


def test_a_ticket_without_a_deadline_is_patient_but_not_for_ever():
    scheduler = make(prices={"cpu": 1e6})
    admit(scheduler, make_ticket(1))
    decisions = scheduler.decide(0.0)
    assert decisions.actions == ()
    assert decisions.wake_at == pytest.approx(scheduler_module.PATIENCE)
    assert chosen(scheduler, decisions.wake_at)[1] == [1]


def test_idle_workers_share_the_tickets_unless_a_batch_saves_much():
    def batches(per_row):
        scheduler = make({"large": (4 * MS, per_row), "small": (1 * MS, 0.0)}, workers=2)
        admit(scheduler, *(make_ticket(i, budget=1.0) for i in range(1, 9)))
        return [len(d.tickets) for d in dispatches(scheduler, 0.0)]

    linear, flat = batches(10 * MS), batches(0.1 * MS)
    assert len(linear) == 2
    assert linear[0] <= 4
    assert flat[0] > 4


def test_of_equals_the_one_that_is_due_first_goes_first():
    scheduler = make(models=("a", "b"))
    admit(scheduler, make_ticket(1, model="a"), make_ticket(2, model="b", budget=9.0))
    assert chosen(scheduler)[1] == [2]


def test_a_model_that_no_worker_can_run_is_a_mistake_at_once():
    catalog = make_catalog(make_model())
    profiles = make_profiles(catalog, {"large": (0, 1), "small": (0, 1)}, device="gpu")
    with pytest.raises(ValueError, match=r"'m' runs on none of the workers' devices \(cpu\)"):
        Scheduler(catalog, profiles, {0: "cpu"})
