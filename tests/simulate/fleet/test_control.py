"""The HPA's loop as Kubernetes documents it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.simulate.fleet.control import DOWN, UP, Behavior, Control, Policy, Proposal

FREE = Behavior(0.0, (Policy(100.0, 15.0, share=True),))
"""Anything at once."""


def free(**changes) -> Control:
    settings = {"least": 1, "most": 100, "up": FREE, "down": FREE} | changes
    return Control(**settings)


@pytest.mark.parametrize(
    ("ratio", "pods"),
    [
        (1.0, 10),
        # Within 10 % nothing happens.
        (1.09, 10),
        (0.91, 10),
        (1.11, 12),
        (0.5, 5),
        # Rounded up.
        (0.51, 6),
        (2.0, 20),
        # A metric that cannot be read changes nothing.
        (math.nan, 10),
    ],
)
def test_desired_is_the_ceiling_of_current_times_ratio(ratio: float, pods: int) -> None:
    assert free().pods(10, [Proposal(ratio, 10)], 0.0) == pods


def test_of_several_metrics_the_greatest_holds() -> None:
    assert free().pods(10, [Proposal(0.5, 10), Proposal(1.5, 10), Proposal(0.1, 10)], 0.0) == 15


def test_only_pods_that_count_are_multiplied() -> None:
    assert free().pods(10, [Proposal(2.0, 4)], 0.0) == 8


def test_bounds() -> None:
    assert free(most=12).pods(10, [Proposal(9.0, 10)], 0.0) == 12
    assert free(least=3).pods(10, [Proposal(0.0, 10)], 0.0) == 3


def test_growth_is_the_greater_of_doubling_and_four_pods_in_15_seconds() -> None:
    control = Control(1, 100)
    assert control.pods(2, [Proposal(50.0, 2)], 0.0) == 6
    # What was added in the last 15 seconds counts.
    assert control.pods(6, [Proposal(50.0, 6)], 10.0) == 6
    assert control.pods(6, [Proposal(50.0, 6)], 15.0) == 12


def test_it_shrinks_to_the_greatest_wish_of_the_window() -> None:
    control = Control(1, 100, UP, DOWN)
    # It has just begun: there was no other wish than for what there is.
    assert control.pods(10, [Proposal(1.0, 10)], 0.0) == 10
    assert control.pods(10, [Proposal(0.5, 10)], 15.0) == 10
    assert control.pods(10, [Proposal(0.7, 10)], 299.0) == 10
    # The wish for ten is forgotten; that for seven is the greatest left.
    assert control.pods(10, [Proposal(0.2, 10)], 315.0) == 7


def test_it_grows_to_the_least_wish_of_its_window() -> None:
    slow = free(up=Behavior(60.0, (Policy(100.0, 15.0, share=True),)))
    assert slow.pods(4, [Proposal(1.0, 4)], 0.0) == 4
    assert slow.pods(4, [Proposal(2.0, 4)], 15.0) == 4
    assert slow.pods(4, [Proposal(3.0, 4)], 74.0) == 8


def test_shrinking_is_limited_by_the_policy_that_allows_most() -> None:
    down = Behavior(0.0, (Policy(0.25, 60.0, share=True), Policy(1, 60.0)))
    control = free(down=down)
    assert control.pods(8, [Proposal(0.1, 8)], 0.0) == 6
    assert control.pods(6, [Proposal(0.1, 6)], 15.0) == 6
    assert control.pods(6, [Proposal(0.1, 6)], 61.0) == 4
    assert free(down=down).pods(2, [Proposal(0.1, 2)], 0.0) == 1


@given(
    wishes=st.lists(st.tuples(st.floats(0.0, 10.0), st.sampled_from([15.0, 60.0])), max_size=40),
    first=st.integers(2, 20),
)
def test_it_never_leaves_its_bounds_nor_goes_against_every_metric(
    wishes: list[tuple[float, float]], first: int
) -> None:
    control, now, current = Control(2, 20), 0.0, first
    for ratio, wait in wishes:
        now += wait
        wished = control.pods(current, [Proposal(ratio, current)], now)
        assert 2 <= wished <= 20
        if ratio >= 0.9:
            assert wished >= current
        if ratio <= 1.0999:  # in floats, 1.1 is more than a tenth above 1
            assert wished <= current
        current = wished
