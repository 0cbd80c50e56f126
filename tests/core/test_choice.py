"""Shortcuts of the choice: what is remembered and what is skipped must change nothing."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from builders import make_catalog, make_model, make_profiles, make_ticket
from gearshift.core import scoring, selector
from gearshift.core.catalog import Late
from gearshift.core.columns import columns, sizes
from gearshift.core.decisions import Dispatch, Drop
from gearshift.core.gears import gears
from gearshift.core.guard import NO_LIMIT, Guard
from gearshift.core.harm import MOST_CANDIDATES
from gearshift.core.profile import LatencyPoint, Profile, Profiles
from gearshift.core.scheduler import Scheduler
from gearshift.core.scoring import TIE
from gearshift.core.strand import Strand

MS = 0.001
MODELS = [f"m{number}" for number in range(MOST_CANDIDATES + 4)]
ACCURACIES = {"large": 0.95, "middle": 0.9, "small": 0.8}
SECONDS = {"large": (6 * MS, 2 * MS), "middle": (4 * MS, 0.5 * MS), "small": (1 * MS, 0.2 * MS)}

tickets = st.tuples(
    st.sampled_from(MODELS),
    st.sampled_from([8 * MS, 30 * MS, 100 * MS, 0.3, 1.0]),
    st.sampled_from([-math.inf, -math.inf, 0.85]),
    st.sampled_from([Late.DROP, Late.DROP, Late.SERVE]),
    st.sampled_from([1.0, 1.0, 2.0]),
)
steps = st.lists(
    st.tuples(st.floats(0.0, 0.02), st.lists(tickets, max_size=12)), min_size=1, max_size=12
)


@contextmanager
def no_shortcuts():
    """Every strand is looked at in full, ticket by ticket."""
    with (
        mock.patch.object(selector, "calm", return_value=False),
        mock.patch.object(scoring, "calm", return_value=False),
    ):
        yield


def make(workers: int, per_model: int) -> Scheduler:
    catalog = make_catalog(
        *(make_model(name, ACCURACIES, max_batch_size=per_model) for name in MODELS)
    )
    profiles: Profiles = make_profiles(catalog, SECONDS)
    return Scheduler(catalog, profiles, dict.fromkeys(range(workers), "cpu"))


@settings(max_examples=150)
@given(
    steps=steps,
    price=st.sampled_from([0.0, 3.0, 30.0, 100.0, 300.0]),
    workers=st.integers(1, 3),
    most=st.sampled_from([1, 4, 9]),
)
def test_what_is_skipped_would_not_have_been_chosen(steps, price, workers, most):
    scheduler, now, number, running = make(workers, most), 0.0, 0, []
    choose = scheduler._selector.choose

    def judged(device, moment, known):
        with no_shortcuts():
            full = choose(device, moment, dict(known))
        chosen = choose(device, moment, known)
        assert (chosen is None) == (full is None)
        if chosen is not None and full is not None:
            assert chosen[0] is full[0]
            assert chosen[1][1:] == full[1][1:]
            assert math.isclose(chosen[1][0], full[1][0], abs_tol=1e-9)
        return chosen

    scheduler._selector.choose = judged
    scheduler.set_prices({"cpu": price})
    for elapsed, arrivals in steps:
        now += elapsed
        for model, budget, floor, late, weight in arrivals:
            number += 1
            ticket = make_ticket(
                number, model=model, arrival=now, budget=budget, floor=floor, late=late
            )
            scheduler.admit(replace(ticket, weight=weight), now)
        for end, run in [each for each in running if each[0] <= now]:
            running.remove((end, run))
            scheduler.finished(run, now, 5 * MS)
        running += [
            (now + action.profile.p50(action.rows), action.id)
            for action in scheduler.decide(now).actions
            if isinstance(action, Dispatch)
        ]


def test_places_of_what_was_dispatched_are_cleared_away_and_cannot_be_cancelled():
    scheduler = make(1, 4)
    for number in range(1, 7):
        scheduler.admit(make_ticket(number, model="m0", budget=1.0), 0.0)
    (dispatch,) = scheduler.decide(0.0).actions
    assert scheduler.waiting == 2
    scheduler.cancel(dispatch.tickets[0].id, 0.0)
    assert scheduler.waiting == 2
    scheduler.outlook(0.1)
    assert len(scheduler._places) == 2
    scheduler.cancel(6, 0.1)
    assert scheduler.waiting == len(scheduler._places) == 1


def test_who_comes_last_and_is_due_first_is_dropped_in_time():
    scheduler = make(1, 4)
    scheduler.admit(make_ticket(1, model="m0", budget=1.0), 0.0)
    (dispatch,) = scheduler.decide(0.0).actions
    scheduler.admit(make_ticket(2, model="m0", budget=1.0), 0.0)
    assert not scheduler.decide(0.0).actions
    scheduler.admit(make_ticket(3, model="m1", budget=0.02), 0.0)
    (drop,) = scheduler.decide(0.03).actions
    assert drop.ticket.id == 3
    assert dispatch.tickets[0].id == 1


def test_who_is_hopeless_by_what_was_learned_is_dropped_at_once():
    catalog = make_catalog(make_model("m", {"large": 0.95}, max_batch_size=4))
    scheduler = Scheduler(catalog, make_profiles(catalog, {"large": (0.1, 0.0)}), {0: "cpu"})
    for number in (1, 2):
        scheduler.admit(make_ticket(number, model="m", budget=1.0), 0.0)
        (dispatch,) = scheduler.decide(0.0).actions
        if number == 1:
            scheduler.finished(dispatch.id, 0.0, 0.39)
    scheduler.admit(make_ticket(3, model="m", budget=0.5), 0.0)
    assert not scheduler.decide(0.0).actions
    scheduler.finished(dispatch.id, 0.39, 0.39)  # the second so slow run makes the table new
    (drop,) = scheduler.decide(0.39).actions
    assert isinstance(drop, Drop)


@given(
    steps=st.lists(st.floats(0.0, 0.02), min_size=6, max_size=6),
    price=st.floats(0.0, 200.0),
    waiting=st.integers(1, 40),
)
def test_the_best_batch_of_the_calm_is_the_best_of_all_sizes(steps, price, waiting):
    model = make_model("m", {"large": 0.95, "small": 0.8}, max_batch_size=32)
    profiles = []
    for variant, scale in zip(model.variants, (1.0, 0.4), strict=True):
        times = [scale * seconds for seconds in accumulate(steps, initial=0.002)]
        points = [LatencyPoint(2**n, p50, p50) for n, p50 in enumerate(times[:6])]
        profiles.append(Profile(variant, "cpu", points, 32))
    strand = Strand(model, {"cpu": profiles})
    found = columns(strand, Guard(), 0.0)
    made = gears(strand, found, {"cpu": price}, Guard(), {"cpu": 1}, 0.0)
    best = scoring.calm_batch(made, "cpu", NO_LIMIT, True, waiting, waiting)
    most = min(waiting, 32)
    tried = [*(size for size in sizes(32) if size < most), most]
    scores = made.flat.scores
    assert best.score == scores[best.profile][best.size]
    # What ends with the waiting ones need not be a size that the order of gears rests on.
    assert best.score >= max(scores[p][n] for p in profiles for n in tried[:-1] or tried) - TIE
    assert best.score >= scores[best.profile][most] - TIE
