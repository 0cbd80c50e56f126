"""What is run at once, and what in a thread."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gearshift.executors.pace import QUICK, Pace


def test_nothing_is_quick_before_it_was_seen():
    assert not Pace().quick(1)


def test_a_larger_batch_counts_in_proportion_until_it_was_seen_itself():
    pace = Pace()
    pace.saw(2, QUICK / 10)
    assert pace.quick(2)
    assert pace.quick(20)
    assert not pace.quick(21)
    assert not pace.quick(1)  # nothing smaller was seen
    pace.saw(64, QUICK / 2)
    assert pace.quick(64)


def test_one_run_that_was_held_up_changes_nothing_and_ten_do():
    pace = Pace()
    pace.saw(1, QUICK / 10)
    pace.saw(1, 1.0)
    assert pace.quick(1)
    for _ in range(10):
        pace.saw(1, 1.0)
    assert not pace.quick(1)
    for _ in range(20):
        pace.saw(1, QUICK / 10)
    assert pace.quick(1)


@given(st.lists(st.floats(0.0, 10.0), min_size=1))
def test_what_is_always_quick_stays_so_and_what_is_always_slow_too(seconds):
    quick, slow = Pace(), Pace()
    for each in seconds:
        quick.saw(3, min(each, QUICK))
        slow.saw(3, QUICK * 1.01 + each)
        assert quick.quick(3)
        assert not slow.quick(3)
