"""The watchdog: overdue, hung, and a process that slept."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.watchdog import ASLEEP, HANGS, OVERDUE, OVERDUE_BY, Watchdog

MS = 0.001


def test_a_run_is_overdue_first_and_hangs_later_and_each_is_told_once():
    watchdog = Watchdog(5.0)
    assert watchdog.began(1, 0.1, 0.0)
    assert watchdog.next == OVERDUE * 0.1
    assert watchdog.look(0.4) == ([1], [])
    assert watchdog.next == 5.0
    assert watchdog.look(1.0) == ([], [])
    assert watchdog.look(5.0) == ([], [1])
    assert watchdog.next == math.inf
    assert not len(watchdog)


def test_bounds_follow_what_was_predicted_down_to_a_floor():
    watchdog = Watchdog(5.0)
    watchdog.began(1, 1 * MS, 0.0)
    assert watchdog.next == 1 * MS + OVERDUE_BY
    assert not watchdog.began(2, 1.0, 0.0)
    watchdog.look(watchdog.next)
    watchdog.look(4.0)
    assert watchdog.look(5.0) == ([], [1])
    assert watchdog.look(HANGS) == ([], [2])


def test_what_has_ended_is_not_told():
    watchdog = Watchdog(5.0)
    watchdog.began(1, 0.1, 0.0)
    watchdog.ended(1)
    watchdog.ended(1)
    assert watchdog.look(watchdog.next) == ([], [])
    assert watchdog.next == math.inf


def test_who_slept_blames_no_run():
    watchdog = Watchdog(5.0)
    watchdog.began(1, 0.1, 0.0)
    assert watchdog.look(3600.0) == ([], [])
    assert watchdog.next == 3600.0 + OVERDUE_BY
    assert watchdog.look(watchdog.next) == ([1], [])
    assert watchdog.look(9000.0) == ([], [])
    assert watchdog.look(watchdog.next) == ([], [1])


@given(
    runs=st.lists(st.tuples(st.floats(1e-4, 3.0), st.floats(0.0, 5.0)), min_size=1, max_size=9),
    late=st.floats(0.0, ASLEEP / 2),
)
def test_every_run_that_never_ends_is_told_as_overdue_then_as_hung_in_time(runs, late):
    watchdog = Watchdog(5.0)
    told: dict[int, list[str]] = {number: [] for number in range(len(runs))}
    begun = {}
    for number, (p99, after) in sorted(enumerate(runs), key=lambda each: each[1][1]):
        while watchdog.next <= after:
            note(watchdog, watchdog.next + late, told, begun, runs)
        begun[number] = after
        watchdog.began(number, p99, after)
    for _ in range(10 * len(runs)):
        if watchdog.next < math.inf:
            note(watchdog, watchdog.next + late, told, begun, runs)
    assert all(each == ["overdue", "hung"] or each == ["hung"] for each in told.values())
    assert not len(watchdog)


def note(watchdog, now, told, begun, runs):
    overdue, hung = watchdog.look(now)
    for number in overdue:
        told[number].append("overdue")
        assert now - begun[number] >= runs[number][0] + OVERDUE_BY - 1e-9
    for number in hung:
        told[number].append("hung")
        assert now - begun[number] >= 5.0 - 1e-9
