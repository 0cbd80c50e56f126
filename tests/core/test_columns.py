"""Which batch sizes are planned with."""

from __future__ import annotations

import math

import pytest

from builders import make_catalog, make_model, make_profiles
from gearshift.core.columns import columns, sizes
from gearshift.core.guard import NO_LIMIT, Guard, Length, Limit
from gearshift.core.strand import Strand

MODEL = make_model(accuracies={"large": 0.8, "small": 0.6}, max_batch_size=32)
PROFILES = make_profiles(
    make_catalog(MODEL), {"large": (0.010, 0.002), "small": (0.001, 0.001)}
).everywhere("m")


def make(*, rate: float, budget: float = 0.1, lenient: bool = False) -> Strand:
    strand = Strand(MODEL, {"cpu": PROFILES}, lenient=lenient)
    strand.rate, strand.budget = rate, budget
    return strand


def counts(strand: Strand, limit: float = math.inf) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for column in columns(strand, Guard({"cpu": Limit(limit, 1, math.inf, 0.5)}), 0.0):
        found.setdefault(column.profile.variant.name, []).append(column.count)
    return found


def test_sizes_rise_to_the_most():
    assert sizes(0) == ()
    assert sizes(1) == (1,)
    assert sizes(5) == (1, 2, 3, 4, 5)
    assert sizes(300)[-3:] == (128, 256, 300)
    assert list(sizes(300)) == sorted(set(sizes(300)))


def test_many_tickets_make_full_batches_and_few_none():
    assert counts(make(rate=10_000.0)) == {"large": [32], "small": [32]}
    assert counts(make(rate=1.0)) == {"large": [1], "small": [1]}


def test_a_batch_must_fit_into_what_is_left_of_the_budget_when_its_turn_comes():
    """A long queue that is served at the edge of its deadlines can only make small batches:
    a plan that counts on large ones would think that there is room, and keep the queue long."""
    strand = make(rate=10_000.0)
    for _ in range(100):
        strand.dispatched([(1.020, 1), (1.024, 2)], now=1.0)
    assert strand.slack == pytest.approx(0.022)
    assert counts(strand)["large"] == [6]
    assert counts(strand)["small"] == [20]
    strand.look(0.1)  # nobody waits, nobody comes: the queue is gone
    strand.rate = 10_000.0
    assert counts(strand)["large"] == [32]


def test_who_may_be_late_is_planned_in_full_batches():
    strand = make(rate=10_000.0, lenient=True)
    strand.dispatched([(0.5, 1)], now=1.0)
    assert counts(strand)["large"] == [32]


def test_long_runs_and_short_ones_are_told_apart():
    assert counts(make(rate=10_000.0), limit=0.030) == {
        "large": [8, 24, 32],  # up to the reach, the cheapest that can be spread, the cheapest
        "small": [28, 32],
    }


def test_runs_can_be_spread_where_one_of_them_always_ends_within_the_reach():
    limit = Limit(reach=0.010, keep=1, toll=math.inf, others=0.5)
    assert limit.length(0.009, 0.010) is Length.SHORT
    # Of two that begin 8 ms apart, the one that began first surely ends within 10.
    assert limit.length(0.016, 0.0169) is Length.SPREAD
    assert limit.length(0.016, 0.0171) is Length.LONG  # "surely" is twice as far from p50
    assert limit.length(0.060, 0.061) is Length.LONG
    assert NO_LIMIT.length(1.0, 2.0) is Length.SHORT
