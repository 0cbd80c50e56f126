"""The circuit breaker: opens on failures, tries again with back-off, forgives what is not its."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gearshift.core.breaker import (
    IN_A_ROW,
    JITTER,
    LONGEST,
    SHORTEST,
    UNEXPLAINED,
    WINDOW,
    Breaker,
    State,
)


def make(seed: int = 0) -> Breaker:
    return Breaker(random.Random(seed))


def opened(breaker: Breaker, now: float = 0.0) -> Breaker:
    for run in range(IN_A_ROW):
        breaker.failed(run, now)
    assert breaker.state is State.OPEN
    return breaker


def test_so_many_failures_in_a_row_open_it_and_not_one_fewer():
    breaker = make()
    assert not breaker.failed(1, 0.0)
    assert not breaker.failed(2, 0.0)
    breaker.worked(3)
    assert not breaker.failed(4, 0.0)
    assert not breaker.failed(5, 0.0)
    assert breaker.state is State.CLOSED
    assert breaker.failed(6, 0.0)
    assert breaker.state is State.OPEN


def test_a_share_of_the_latest_runs_opens_it():
    breaker = make()
    for run in range(WINDOW - 2):
        if run % 2:
            breaker.worked(run)
        else:
            assert not breaker.failed(run, 0.0)
    assert breaker.failed(99, 0.0)
    breaker = make()
    for run in range(9 * WINDOW):
        if run % 3:
            breaker.worked(run)
        else:
            breaker.failed(run, 0.0)
    assert breaker.state is State.CLOSED


def test_one_lost_worker_opens_it():
    breaker = make()
    assert breaker.failed(1, 0.0, lost=True)
    assert breaker.state is State.OPEN


def test_one_run_at_a_time_tries_it_and_success_closes_it():
    breaker = opened(make())
    wait = breaker.retry_after(0.0)
    assert not breaker.may_try(wait / 2)
    assert breaker.may_try(wait)
    assert breaker.began(9)
    assert breaker.state is State.HALF_OPEN
    assert not breaker.may_try(wait)
    assert not breaker.worked(8)
    assert breaker.state is State.HALF_OPEN
    assert breaker.worked(9)
    assert breaker.state is State.CLOSED


def test_a_try_that_says_nothing_lets_the_next_one_begin():
    breaker = opened(make())
    breaker.began(9)
    breaker.inconclusive(9)
    assert breaker.may_try(0.0)


def test_the_back_off_doubles_up_to_a_minute_and_is_forgotten_after_good_runs():
    breaker = opened(make())
    now, waits = 0.0, []
    for run in range(100, 112):
        waits.append(breaker.retry_after(now))
        now += waits[-1]
        breaker.began(run)
        assert breaker.failed(run, now)
    for number, wait in enumerate(waits):
        plain = min(LONGEST, SHORTEST * 2**number)
        assert plain * (1 - JITTER) <= wait <= min(LONGEST, plain * (1 + JITTER))
    now += breaker.retry_after(now)
    breaker.began(200)
    breaker.worked(200)
    for run in range(201, 201 + WINDOW):
        assert not breaker.sound
        breaker.worked(run)
    assert breaker.sound
    opened(breaker, now)
    assert breaker.retry_after(now) <= SHORTEST * (1 + JITTER)


def test_what_is_broken_again_at_once_waits_longer():
    breaker = opened(make())
    breaker.began(9)
    breaker.worked(9)
    opened(breaker, 10.0)
    assert breaker.retry_after(10.0) >= 2 * SHORTEST * (1 - JITTER)


def test_results_of_runs_from_before_it_opened_say_nothing():
    breaker = opened(make())
    wait = breaker.retry_after(0.0)
    assert not breaker.worked(50)
    assert not breaker.failed(51, 5.0)
    assert breaker.retry_after(0.0) == wait


def test_a_failure_that_was_a_requests_is_taken_back():
    breaker = make()
    breaker.failed(1, 0.0, lost=True)
    assert breaker.pardon(1)
    assert breaker.state is State.CLOSED
    assert not breaker.pardon(1)
    for run in (2, 3):
        breaker.failed(run, 0.0)
        breaker.pardon(run)
    breaker.failed(4, 0.0)
    breaker.failed(5, 0.0)
    assert breaker.state is State.CLOSED


def test_nothing_is_explained_away_for_ever():
    breaker = make()
    for run in range(UNEXPLAINED - 1):
        assert not breaker.failed(run, 0.0, pardoned=True)
    assert breaker.failed(99, 0.0, pardoned=True)
    assert breaker.state is State.OPEN
    assert not breaker.pardon(99)


@given(st.integers(0, 2**32))
def test_the_same_seed_gives_the_same_times(seed):
    first, second = opened(make(seed)), opened(make(seed))
    assert first.retry_after(0.0) == second.retry_after(0.0)


class Machine(RuleBasedStateMachine):
    """Any order of events, most of them late or about nothing."""

    def __init__(self):
        super().__init__()
        self.breaker = make(1)
        self.now = 0.0
        self.run = 0
        self.under_way: list[int] = []
        self.tries: set[int] = set()

    @rule()
    def begins(self):
        if self.breaker.state is State.CLOSED or self.breaker.may_try(self.now):
            self.run += 1
            self.under_way.append(self.run)
            before = self.breaker.state
            changed = self.breaker.began(self.run)
            assert changed == (before is State.OPEN)
            if before is not State.CLOSED:
                self.tries = {self.run}

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), lost=st.booleans(), pardoned=st.booleans())
    def fails(self, data, lost, pardoned):
        run = data.draw(st.sampled_from(self.under_way))
        self.under_way.remove(run)
        before = self.breaker.state
        changed = self.breaker.failed(run, self.now, lost=lost, pardoned=pardoned)
        assert changed == (self.breaker.state is not before)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def works(self, data):
        run = data.draw(st.sampled_from(self.under_way))
        self.under_way.remove(run)
        before = self.breaker.state
        assert self.breaker.worked(run) == (self.breaker.state is not before)

    @rule(run=st.integers(0, 60))
    def is_pardoned(self, run):
        before = self.breaker.state
        changed = self.breaker.pardon(run)
        assert changed == (self.breaker.state is not before)
        assert not changed or self.breaker.state is State.CLOSED

    @rule(seconds=st.floats(0, 100))
    def time_passes(self, seconds):
        self.now += seconds

    @invariant()
    def it_is_tried_within_a_minute(self):
        assert 0.0 <= self.breaker.retry_after(self.now) <= LONGEST
        if self.breaker.state is State.OPEN:
            assert self.breaker.may_try(self.now + LONGEST)

    @invariant()
    def half_open_has_one_run_or_waits_for_one(self):
        if self.breaker.state is State.HALF_OPEN and not self.breaker.may_try(self.now):
            assert self.tries & set(self.under_way)


TestMachine = Machine.TestCase


@pytest.mark.parametrize("state", State)
def test_states_are_the_numbers_of_the_metric(state):
    assert {"closed": 0, "half_open": 1, "open": 2}[state.name.lower()] == state
