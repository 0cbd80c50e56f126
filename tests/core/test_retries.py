"""Retries under overload."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.retries import LONGEST, MEMORY, RETRIES, Damper


def overloaded(damper, now=1.0):
    """A thousand requests came in this moment, half of which were shed."""
    for number in range(1_000):
        assert damper.came(0, now)
        if number % 2:
            damper.shed(now)
    return damper


def test_retries_are_welcome_where_nothing_is_shed():
    damper = Damper()
    assert all(damper.came(attempts, 1.0) for attempts in (1, 2, 3) * 100)


def test_while_much_is_shed_only_a_share_may_be_retries_and_first_attempts_always_pass():
    damper = overloaded(Damper())
    looked_at = sum(damper.came(1, 1.0) for _ in range(1_000))
    # Those that are looked at count as well.
    assert looked_at == pytest.approx(1_000 * RETRIES / (1 - RETRIES), abs=2)
    assert damper.came(0, 1.0)


def test_it_is_over_when_it_is_over():
    damper = overloaded(Damper())
    while damper.came(1, 1.0):
        pass
    assert damper.came(1, 1.0 + 10 * MEMORY)


def test_a_handful_of_requests_proves_nothing():
    damper = Damper()
    for _ in range(5):
        damper.came(0, 1.0)
        damper.shed(1.0)
    assert damper.came(1, 1.0)


def test_the_wait_is_spread_and_grows_with_attempts_and_load():
    calm, busy = Damper(), overloaded(Damper())
    assert calm.wait(0.1, 0, 0.0) == busy.wait(0.1, 0, 0.0) == 0.1
    assert calm.wait(0.1, 0, 1.0) == pytest.approx(0.2)
    assert busy.wait(0.1, 0, 1.0) == pytest.approx(0.1 + 0.2)
    assert calm.wait(0.1, 3, 1.0) == pytest.approx(0.1 + 0.8)


@given(st.floats(0.001, 1e6), st.integers(0, 10_000), st.floats(0, 1), st.booleans())
def test_nobody_waits_less_than_is_missing_nor_for_ever(missing, attempts, draw, much):
    damper = overloaded(Damper()) if much else Damper()
    wait = damper.wait(missing, attempts, draw)
    assert missing <= wait <= missing + LONGEST
