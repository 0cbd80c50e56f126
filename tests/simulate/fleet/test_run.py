"""Pods, balancers and scalers together, in virtual time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import make_catalog, make_model, make_profiles, make_ticket
from gearshift.core.request import Ticket
from gearshift.simulate.fleet import (
    Accuracy,
    Concurrency,
    Control,
    Cpu,
    Fixed,
    FleetResult,
    Plant,
    Queue,
    Scaler,
    run_fleet,
)

SECONDS = {"large": (0.0, 10.0), "small": (0.0, 1.0)}
"""A pod of two workers gives twelve of the best answers a minute, or 120."""

CATALOG = make_catalog(make_model(accuracies={"large": 0.9, "small": 0.8}, max_batch_size=1))
PLANT = Plant(
    catalog=CATALOG,
    profiles=make_profiles(CATALOG, SECONDS),
    workers={0: "cpu", 1: "cpu"},
    plan_every=5.0,
    noise=0.0,
)


def steady(a_minute: float, minutes: float, budget: float = 40.0) -> list[Ticket]:
    count = int(a_minute * minutes)
    return [make_ticket(n, arrival=60.0 * n / a_minute, budget=budget) for n in range(count)]


def run(
    scaler: Scaler, tickets: Sequence[Ticket], first: int = 2, plant: Plant = PLANT
) -> FleetResult:
    return run_fleet(plant, tickets, scaler, lambda: Control(1, 12), first)


@settings(max_examples=15, deadline=None)
@given(
    gaps=st.lists(st.sampled_from([0.0, 0.2, 6.0, 40.0]), min_size=1, max_size=40),
    scaler=st.sampled_from([Fixed(2), Accuracy(0.01), Cpu(0.7), Queue(1), Concurrency(2)]),
    balancer=st.sampled_from(["round_robin", "least_request"]),
)
def test_every_request_ends_exactly_once(gaps: list[float], scaler: Scaler, balancer: str) -> None:
    now, tickets = 0.0, []
    for number, gap in enumerate(gaps):
        now += gap
        tickets.append(make_ticket(number, arrival=now, budget=30.0))
    result = run(scaler, tickets, plant=replace(PLANT, balancer=balancer))
    ended = result.served + result.late + result.missed + result.infeasible
    assert ended == result.requests == len(gaps)
    assert result.effective_accuracy <= result.served_accuracy + 1e-12


def test_equal_arguments_give_equal_results() -> None:
    noisy = replace(PLANT, noise=0.1)
    tickets = steady(18.0, 5.0)
    assert run(Cpu(0.6), tickets, plant=noisy) == run(Cpu(0.6), tickets, plant=noisy)


@pytest.mark.parametrize("balancer", ["round_robin", "least_request"])
def test_enough_pods_owe_nobody_anything(balancer: str) -> None:
    plant = replace(PLANT, balancer=balancer)
    result = run(Fixed(4), steady(12.0, 5.0), first=4, plant=plant)
    assert result.load_deficit == 0.0
    assert result.served_accuracy == pytest.approx(0.9)
    assert result.pod_seconds == pytest.approx(4 * 300.0, rel=0.02)


def test_too_few_give_less_accurate_answers_and_the_deficit_says_by_how_much() -> None:
    result = run(Fixed(1), steady(36.0, 5.0), first=1)
    assert result.attainment == 1.0
    assert result.load_deficit == pytest.approx(0.9 - result.served_accuracy)
    assert result.load_deficit > 0.01


def test_a_fleet_grows_as_far_as_it_is_wanted_and_no_farther() -> None:
    """Sixty a minute take ten workers, at 80 % twelve and a half: seven pods."""
    result = run(Accuracy(1e-6), steady(60.0, 10.0), first=1)
    assert result.most_pods == 7
    assert result.served_accuracy > run(Fixed(1), steady(60.0, 10.0), 1).served_accuracy


def test_what_keeps_no_cpu_busy_does_not_grow_a_fleet_by_cpu() -> None:
    """Who has time for all of them in the lesser variant is never too busy."""
    tickets = steady(60.0, 10.0)
    accurate, busy = run(Accuracy(0.001), tickets, first=1), run(Cpu(0.9), tickets, first=1)
    assert busy.most_pods < accurate.most_pods
    assert busy.served_accuracy < accurate.served_accuracy


def test_it_shrinks_to_what_is_wanted_after_the_window() -> None:
    result = run(Accuracy(0.005), steady(3.0, 15.0), first=8)
    assert all(each.pods == 8 for each in result.moments if each.at < 300)
    assert result.moments[-1].pods == 1
    assert result.missed == 0


def test_an_accepted_deficit_saves_pods() -> None:
    tickets = steady(60.0, 10.0)
    strict, lax = run(Accuracy(0.001), tickets), run(Accuracy(0.08), tickets)
    assert lax.pod_seconds < strict.pod_seconds
    assert lax.served_accuracy < strict.served_accuracy


def test_shedding_adds_pods_whatever_the_accuracy() -> None:
    """Only one variant: nothing is owed to anybody, but not everybody is answered."""
    catalog = make_catalog(make_model(accuracies={"only": 0.9}, max_batch_size=1))
    profiles = make_profiles(catalog, {"only": (0.0, 10.0)})
    plant = replace(PLANT, catalog=catalog, profiles=profiles)
    result = run(Accuracy(0.01), steady(60.0, 8.0), first=1, plant=plant)
    assert result.load_deficit == 0.0
    assert result.shedding > 0
    assert result.moments[-1].shed == 0.0
    assert result.moments[-1].ready >= 5


def test_a_pod_serves_no_earlier_than_it_has_started() -> None:
    result = run(Accuracy(0.001), steady(60.0, 3.0), first=1)
    ordered = next(m.at for m in result.moments if m.pods > 1)
    serving = next(m.at for m in result.moments if m.ready > 1)
    assert serving - ordered >= PLANT.start - PLANT.scrape_every
