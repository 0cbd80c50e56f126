"""What a request would get and cost on an idle server, known when it is taken in."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import make_catalog, make_model, make_profiles, make_ticket
from gearshift.core.cascade import with_cascades
from gearshift.core.catalog import Cascade, Late, Standing
from gearshift.core.decisions import Admitted, Dispatch, Drop, Refused
from gearshift.core.profile import LatencyPoint, Profile
from gearshift.core.scheduler import Scheduler
from gearshift.core.wanted import Wanted, frontier, worker_seconds
from gearshift.errors import BudgetInfeasible, Overloaded

SECONDS = {"large": (2.0, 6.0), "middle": (2.0, 2.0), "small": (1.0, 0.25)}
ACCURACIES = {"large": 0.95, "middle": 0.9, "small": 0.8}
"""Alone, large takes 8 seconds, middle 4, small 1.25."""


def scheduler(workers: int = 1, **changes) -> Scheduler:
    model = replace(make_model(accuracies=ACCURACIES), **changes)
    catalog = make_catalog(model)
    return Scheduler(catalog, make_profiles(catalog, SECONDS), dict.fromkeys(range(workers), "cpu"))


def wanted(made: Scheduler, **ticket) -> Wanted:
    verdict = made.admit(make_ticket(**ticket), 0.0)
    assert isinstance(verdict, Admitted)
    assert verdict.wanted is not None
    return verdict.wanted


@pytest.mark.parametrize(
    ("ticket", "name"),
    [
        ({}, "large"),
        ({"budget": 8.0}, "large"),
        ({"budget": 7.9}, "middle"),
        ({"budget": 3.9}, "small"),
        ({"budget": 3.9, "variant": "small"}, "small"),
        ({"variant": "middle"}, "middle"),
        ({"budget": 8.0, "rows": 2}, "middle"),
        # A late answer still has value: nothing would be in time, and the fastest comes nearest.
        ({"budget": 1.0, "late": Late.SERVE}, "small"),
    ],
)
def test_the_best_that_budget_rows_and_pin_allow(ticket: dict, name: str) -> None:
    assert wanted(scheduler(), **ticket).profile.variant.name == name


def test_what_is_wanted_does_not_depend_on_the_load() -> None:
    made = scheduler()
    for number in range(8):
        wanted(made, ticket_id=number, budget=60.0)
    (run,) = made.decide(0.0).actions
    assert isinstance(run, Dispatch)
    found = wanted(made, ticket_id=9, budget=run.profile.p99(run.rows) + 2.0)
    assert found.profile.variant.name == "large"


def test_who_is_given_to_a_canary_wants_that() -> None:
    variants = make_model(accuracies=ACCURACIES).variants
    canary = replace(variants[1], standing=Standing.CANARY, share=1.0)
    made = make_model(accuracies=ACCURACIES)
    made = replace(made, variants=(variants[0], canary, variants[2]))
    catalog = make_catalog(made)
    scheduler = Scheduler(catalog, make_profiles(catalog, SECONDS), {0: "cpu"})
    assert wanted(scheduler).profile.variant.name == "middle"


def test_what_is_withdrawn_is_not_wanted() -> None:
    variants = make_model(accuracies=ACCURACIES).variants
    gone = replace(variants[0], standing=Standing.WITHDRAWN)
    assert wanted(scheduler(variants=(gone, *variants[1:]))).profile.variant.name == "middle"


def test_a_cascade_is_wanted_where_it_is_the_best_in_time_and_costs_both_runs() -> None:
    model = replace(
        make_model(accuracies=ACCURACIES),
        cascades=(
            Cascade(
                name="both",
                first="small",
                then="large",
                threshold=0.9,
                escalated=0.25,
                accuracy=0.93,
            ),
        ),
    )
    catalog = make_catalog(model)
    profiles = with_cascades(model, make_profiles(catalog, SECONDS).everywhere("m"))
    needs, found = frontier([p for p in profiles if p.variant.name != "large"], 1)
    assert [each.profile.variant.name for each in found] == ["small", "small", "middle", "both"]
    # Small, and large if need be.
    assert needs == [1.25, 4.0, 9.25]
    # 1.25 s for the first run; a quarter goes on, at large's best price a row.
    large = next(p for p in profiles if p.variant.name == "large")
    assert found[-1].per_row(1, 1, math.inf) == pytest.approx(1.25 + 0.25 * large.row_cost)


def test_the_device_that_takes_larger_batches_says_what_they_cost() -> None:
    (variant,) = make_model(accuracies={"only": 0.9}).variants
    near = Profile(variant, "express", [LatencyPoint(1, 2.0, 2.0), LatencyPoint(2, 3.0, 3.0)], 2)
    far = Profile(variant, "cpu", [LatencyPoint(1, 2.0, 2.0), LatencyPoint(8, 8.0, 8.0)], 8)
    for order in ([near, far], [far, near]):
        _, found = frontier(order, 1)
        assert found[-1].profile is far


@pytest.mark.parametrize(
    ("batch", "budget", "seconds"),
    [
        (1, math.inf, 8.0),
        (4, math.inf, 26.0 / 4),
        # No more than max_batch_size rows.
        (100, math.inf, 50.0 / 8),
        # 26 seconds for 4 rows are more than half the budget; 20 for 3 are not.
        (4, 40.0, 20.0 / 3),
        # Its own row has to fit, whatever is left for waiting.
        (4, 8.0, 8.0),
    ],
)
def test_a_row_costs_its_share_of_the_batch_that_ran(
    batch: int, budget: float, seconds: float
) -> None:
    found = wanted(scheduler(), budget=budget)
    assert found.per_row(batch, 1, budget) == pytest.approx(seconds)


def test_the_members_of_a_batch_cost_what_each_of_them_wanted() -> None:
    made = scheduler()
    tickets = [make_ticket(1), make_ticket(2, rows=2), make_ticket(3, budget=4.0)]
    members = []
    for ticket in tickets:
        verdict = made.admit(ticket, 0.0)
        assert isinstance(verdict, Admitted)
        assert verdict.wanted is not None
        members.append((verdict.wanted, ticket))
    # Four rows of large take 26 seconds; the last one wants middle, of which half of 4 seconds
    # is not enough for even one row, which takes 4.
    assert worker_seconds(members, 4) == pytest.approx(3 * 26.0 / 4 + 4.0)


def test_who_is_refused_for_load_would_have_cost_its_share_of_the_last_batch() -> None:
    made = scheduler()
    for number in range(4):
        wanted(made, ticket_id=number, budget=20.0, variant="small")
    (run,) = made.decide(0.0).actions
    assert isinstance(run, Dispatch)
    assert run.rows > 1
    verdicts = [made.admit(make_ticket(n, budget=20.0, variant="small"), 0.0) for n in range(9, 99)]
    refused = verdicts[-1]
    assert isinstance(refused, Refused)
    assert isinstance(refused.error, Overloaded)
    assert refused.wanted == pytest.approx((1.0 + 0.25 * run.rows) / run.rows)


def test_who_expires_would_have_cost_as_much() -> None:
    made = scheduler()
    wanted(made, ticket_id=1)
    made.decide(0.0)
    wanted(made, ticket_id=2, budget=9.5)
    (drop,) = made.decide(9.0).actions
    assert isinstance(drop, Drop)
    assert drop.wanted == pytest.approx(8.0)


def test_what_no_number_of_workers_could_answer_is_not_wanted() -> None:
    refused = scheduler().admit(make_ticket(budget=1.0), 0.0)
    assert isinstance(refused, Refused)
    assert isinstance(refused.error, BudgetInfeasible)
    assert refused.wanted == 0.0


def test_what_is_wanted_follows_what_is_learned() -> None:
    made = scheduler()
    assert wanted(made, ticket_id=1, budget=9.0).profile.variant.name == "large"
    now = 0.0
    for _ in range(40):
        (run,) = made.decide(now).actions
        assert isinstance(run, Dispatch)
        took = 3.0 * run.profile.p50(run.rows)
        now += took
        made.finished(run.id, now, took)
        verdict = made.admit(make_ticket(2 + int(now), arrival=now), now)
        assert isinstance(verdict, Admitted)
    verdict = made.admit(make_ticket(10**6, arrival=now, budget=9.0), now)
    assert isinstance(verdict, Refused | Admitted)
    if isinstance(verdict, Admitted):
        assert verdict.wanted is not None
        assert verdict.wanted.profile.variant.name != "large"


TICKETS = st.fixed_dictionaries(
    {
        "budget": st.sampled_from([1.25, 2.0, 4.0, 8.0, 9.0, 30.0, math.inf]),
        "floor": st.sampled_from([-math.inf, 0.85, 0.95]),
        "rows": st.integers(1, 4),
        "variant": st.sampled_from([None, None, "small", "large"]),
        "late": st.sampled_from(list(Late)),
    }
)


@given(ticket=TICKETS)
def test_an_idle_server_gives_what_is_wanted(ticket: dict) -> None:
    """The definition, held against what the scheduler does."""
    made = scheduler(workers=2)
    asked = make_ticket(**ticket)
    verdict = made.admit(asked, 0.0)
    if isinstance(verdict, Refused):
        assert verdict.wanted == 0.0
        return
    assert verdict.wanted is not None
    (run,) = made.decide(0.0).actions
    assert isinstance(run, Dispatch)
    if verdict.wanted.profile.p99(asked.rows) <= asked.budget:
        assert run.profile.variant is verdict.wanted.profile.variant


@given(
    batch=st.integers(1, 64),
    rows=st.integers(1, 8),
    budget=st.sampled_from([1.25, 4.0, 8.0, 30.0, 300.0, math.inf]),
)
def test_a_row_never_costs_more_than_alone_or_less_than_in_the_best_batch(
    batch: int, rows: int, budget: float
) -> None:
    catalog = make_catalog(make_model(accuracies=ACCURACIES))
    for profile in make_profiles(catalog, SECONDS).everywhere("m"):
        cost = Wanted(profile).per_row(batch, rows, budget)
        assert min(s / r for r, s in enumerate(profile.p50s) if r) - 1e-9 <= cost
        assert cost <= profile.p50s[rows] / rows + 1e-9
