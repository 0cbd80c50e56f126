"""The order of waiting tickets, whatever comes and goes in between."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import make_catalog, make_model, make_profiles, make_ticket
from gearshift.core.catalog import Late, ServiceClass
from gearshift.core.lane import Lane
from gearshift.core.strand import LIVE, UNREAD, Strand

MODEL = make_model(accuracies={"large": 0.95, "small": 0.8})
PROFILES = make_profiles(
    make_catalog(MODEL), {"large": (0.010, 0.0), "small": (0.001, 0.0)}
).everywhere("m")


def make() -> Strand:
    return Strand(MODEL, {"cpu": PROFILES})


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.floats(0, 100)),
            st.tuples(st.just("remove"), st.integers(0, 50)),
            st.tuples(st.just("take"), st.integers(0, 5)),
            st.tuples(st.just("due"), st.floats(0, 100)),
        ),
        max_size=80,
    )
)
def test_a_strand_is_a_sorted_list(steps):
    strand, expected, number = make(), [], 0
    for what, value in steps:
        if what == "add":
            number += 1
            strand.add((value, number))
            expected = sorted([*expected, (value, number)])
        elif what == "remove" and expected:
            strand.remove(expected.pop(value % len(expected)))
        elif what == "take" and expected:
            first = value % len(expected)
            count = min(2, len(expected) - first)
            assert strand.take(strand.start + first, count) == expected[first : first + count]
            del expected[first : first + count]
        elif what == "due":
            assert strand.count_until(value) == sum(due <= value for due, _ in expected)
            assert strand.due_before(value) == [key for key in expected if key[0] < value]
            expected = [key for key in expected if key[0] >= value]
        assert strand.keys[strand.start :] == expected
        assert len(strand) == len(expected)


def test_what_was_taken_from_the_front_does_not_pile_up():
    strand = make()
    for number in range(10_000):
        strand.add((float(number), number))
        strand.take(strand.start, 1)
    assert len(strand.keys) < 1000


def test_the_rate_is_a_moving_average():
    strand = make()
    for _ in range(50):
        strand.arrive(0.1, 0.0)
    strand.look(0.1)
    assert strand.rate == pytest.approx(500.0)
    strand.look(0.1)
    assert 100 < strand.rate < 300
    assert strand.budget == pytest.approx(0.1)


def test_tickets_that_can_be_answered_alike_share_a_strand():
    lane = Lane(MODEL, PROFILES)
    same = {lane.key(make_ticket(floor=floor)) for floor in (-math.inf, 0.0, 0.5, 0.8)}
    assert len(same) == 1
    other = {
        lane.key(make_ticket(floor=0.81)),
        lane.key(make_ticket(variant="small")),
        lane.key(make_ticket(rows=2)),
        lane.key(make_ticket(), lenient=True),
    }
    assert len(other | same) == 5
    strict = lane.strand(lane.key(make_ticket(floor=0.9)))
    assert [p.variant.name for gears in strict.gears.values() for p in gears] == ["large"]


def test_strands_that_nobody_uses_are_forgotten():
    lane = Lane(MODEL, PROFILES)
    for rows in range(1, 9):
        lane.strand(lane.key(make_ticket(rows=rows))).arrive(1.0, 0.0)
    kept = lane.strand(lane.key(make_ticket(rows=3)))
    kept.add((1.0, 1))
    lane.forget(LIVE / 2)
    assert len(list(lane.strands)) == 8
    lane.forget(LIVE + 1)
    assert list(lane.strands) == [kept]


def test_declared_classes_are_expected_from_the_start():
    classes = [
        ServiceClass("realtime", budget=0.01),
        ServiceClass("strict", budget=0.1, floor=0.9),
        ServiceClass("batch", budget=1.0, late=Late.SERVE),
        ServiceClass("impossible", budget=0.02, floor=0.99),
    ]
    lane = Lane(make_model(accuracies={"large": 0.95, "small": 0.8}, classes=classes), PROFILES)
    lane.expect_classes(0.0)
    assert sorted(strand.budget for strand in lane.strands) == [0.01, 0.1]
    assert all(strand.live(0.0) for strand in lane.strands)


def test_what_a_better_variant_would_take_follows_what_was_learned():
    profiles = make_profiles(
        make_catalog(MODEL), {"large": (0.010, 0.0), "small": (0.001, 0.0)}
    ).everywhere("m")
    lane = Lane(MODEL, profiles)
    large, small = profiles
    assert lane.better(large, 1) == math.inf
    assert lane.better(small, 1) == pytest.approx(0.010)
    while not large.observe(1, 0.030, 0.0):
        pass
    lane.relearn()
    assert lane.better(small, 1) == large.p99s[1] > 0.011


@pytest.mark.parametrize(
    "change",
    [
        lambda strand: strand.add((2.0, 2)),
        lambda strand: strand.remove((1.0, 1)),
        lambda strand: strand.take(strand.start, 1),
        lambda strand: strand.due_before(5.0),
        lambda strand: strand.arrive(1.0, 0.0),
        lambda strand: strand.expect(1.0, 0.0),
    ],
)
def test_a_strand_that_changes_may_be_in_haste(change):
    strand = make()
    strand.add((1.0, 1))
    strand.calm_until = 9.0
    change(strand)
    assert strand.calm_until == -math.inf


def test_dispatches_do_not_pile_up_when_nobody_asks_for_the_slack():
    asked, unasked = make(), make()
    for step in range(1_000):
        for strand in (asked, unasked):
            strand.dispatched([(step + 2.0 + step % 7, step)], float(step))
        assert asked.slack > 0
        assert len(unasked._dispatched) < UNREAD
    assert unasked.slack == pytest.approx(asked.slack)


def test_short_budgets_are_known_at_once_and_long_ones_do_not_hide_them():
    """A caller with ten seconds asks first, as probes do; then come those with ten ms."""
    strand = make()
    strand.arrive(10.0, 0.0)
    for _ in range(10):
        strand.arrive(0.010, 0.0)
    assert strand.tight < 0.015
    for _ in range(40):
        strand.arrive(0.010, 0.0)
    assert strand.budget < 0.015
    for number in range(60):
        strand.arrive(0.010 if number % 10 == 0 else 1.0, 0.0)
    assert strand.tight < 0.050
    assert strand.budget > 0.1
    for _ in range(500):
        strand.arrive(1.0, 0.0)
    assert strand.tight > 0.9  # nobody has so little time any more


def test_the_same_budget_is_exactly_that():
    strand = make()
    for _ in range(5):
        strand.arrive(0.25, 0.0)
    assert strand.budget == strand.tight == 0.25
