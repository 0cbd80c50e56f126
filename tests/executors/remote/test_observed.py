"""What is believed of a server's speed."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from gearshift.executors.remote.observed import ENOUGH, REMEMBERED, STALE, Observed

SECONDS = st.floats(1e-4, 10.0)


def test_nothing_is_believed_of_what_is_not_known():
    observed = Observed()
    assert observed.usual("a", 0.0) == 0.0
    assert observed.slow("a", 0.0) == math.inf
    observed.took("b", 1.0, 0.0)
    assert observed.usual("a", 0.0) == 0.0


def test_a_server_that_has_become_slow_is_known_to_be_after_half_of_the_latest():
    observed = Observed()
    for _ in range(REMEMBERED):
        observed.took("a", 0.01, 0.0)
    for turn in range(ENOUGH // 2):
        assert observed.usual("a", 0.0) == 0.01, turn
        observed.took("a", 1.0, 0.0)
    assert observed.usual("a", 0.0) == 1.0


def test_what_is_slow_is_that_of_all_runs_while_little_is_known_of_a_kind():
    observed = Observed()
    for _ in range(ENOUGH - 1):
        observed.took("a", 1.0, 0.0)
    assert observed.slower("b", 0.0) == math.inf
    observed.took("b", 3.0, 0.0)
    assert observed.slow("b", 0.0) == math.inf
    assert observed.slower("b", 0.0) == 6.0
    observed.took("a", 1.0, 0.0)
    assert observed.slower("a", 0.0) == 2.0


def test_what_was_not_waited_for_counts_if_it_was_longer_than_usual():
    observed = Observed()
    observed.took("a", 0.01, 0.0)
    observed.took_more("a", 0.005, 0.0)
    assert observed.usual("a", 0.0) == 0.01
    observed.took_more("a", 3.0, 0.0)
    observed.took_more("a", 3.0, 0.0)
    assert observed.usual("a", 0.0) == 3.0


def test_what_is_old_says_nothing():
    observed = Observed()
    for _ in range(ENOUGH):
        observed.took("a", 5.0, 10.0)
    assert observed.slow("a", 10.0 + STALE) == 10.0
    assert observed.usual("a", 10.1 + STALE) == 0.0
    assert observed.slow("a", 10.1 + STALE) == math.inf


def test_what_is_forgotten_is_no_longer_known():
    observed = Observed()
    observed.took("a", 1.0, 0.0)
    observed.took("b", 1.0, 0.0)
    observed.forget(lambda kind: kind == "a")
    assert (observed.usual("a", 0.0), observed.usual("b", 0.0)) == (0.0, 1.0)


@given(st.lists(SECONDS, min_size=ENOUGH, max_size=3 * REMEMBERED))
def test_usual_is_one_of_the_latest_and_slow_no_less_than_most(durations):
    observed = Observed()
    for took in durations:
        observed.took("a", took, 0.0)
    latest = durations[-REMEMBERED:]
    assert observed.usual("a", 0.0) in latest[-ENOUGH:]
    slow = observed.slow("a", 0.0)
    assert sum(took <= slow / 2.0 for took in latest) >= 0.95 * len(latest) - 1
