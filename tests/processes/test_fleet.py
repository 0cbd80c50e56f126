"""Who starts when, who is replaced after which pause, who gets the next connection."""

from __future__ import annotations

import math

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gearshift.processes.fleet import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    START_WITHIN,
    STEADY,
    Fleet,
    State,
)


def start(fleet: Fleet, now: float = 0.0) -> list[int]:
    due = fleet.due(now)
    for index in due:
        fleet.started(index, now)
    return due


def complete(count: int) -> Fleet:
    fleet = Fleet([1] * count)
    while not fleet.complete:
        for index in start(fleet):
            fleet.ready(index, 0.0)
    return fleet


def test_the_first_of_each_kind_starts_alone_then_the_others_together() -> None:
    fleet = Fleet([2, 2, 1, 1, 1])
    for expected in ([0], [2], [1, 3, 4]):
        assert start(fleet) == expected
        assert start(fleet) == []
        for index in expected:
            assert not fleet.complete
            fleet.ready(index, 1.0)
    assert fleet.complete
    assert fleet.serving == fleet.wanted == 5
    assert fleet.wake_at() == math.inf


def test_once_all_have_served_one_that_dies_starts_without_waiting_for_others() -> None:
    fleet = complete(3)
    fleet.ended(0, 10.0)
    fleet.ended(2, 10.0)
    assert (fleet.serving, fleet.replaced) == (1, 2)
    assert start(fleet, 10.0) == []
    assert fleet.wake_at() == 10.0 + FIRST_PAUSE
    assert start(fleet, fleet.wake_at()) == [0, 2]


def test_the_pause_grows_from_death_to_death_and_has_a_limit() -> None:
    fleet = complete(1)
    now, pauses = 1.0, []
    for _ in range(2_000):
        fleet.ended(0, now)
        pauses.append(fleet.wake_at() - now)
        now = fleet.wake_at()
        assert start(fleet, now) == [0]
    assert math.isclose(pauses[0], FIRST_PAUSE, abs_tol=1e-6)
    assert math.isclose(pauses[1], 2 * FIRST_PAUSE, abs_tol=1e-6)
    assert math.isclose(pauses[-1], LONGEST_PAUSE, abs_tol=1e-6)
    fleet.ready(0, now)
    fleet.ended(0, now + STEADY)
    assert math.isclose(fleet.wake_at() - now - STEADY, FIRST_PAUSE, abs_tol=1e-6)


def test_a_start_without_any_sign_of_life_is_noticed() -> None:
    fleet = Fleet([1])
    start(fleet, 0.0)
    fleet.alive(0, 100.0)
    assert fleet.wake_at() == 100.0 + START_WITHIN
    assert fleet.silent(100.0 + START_WITHIN - 1) == []
    assert fleet.silent(100.0 + START_WITHIN) == [0]
    fleet.ready(0, 200.0)
    assert fleet.silent(1e9) == []


def test_the_next_connection_goes_to_the_process_with_the_fewest() -> None:
    fleet = complete(3)
    for _ in range(7):
        fleet.connected(fleet.order()[0])
    assert [fleet.connections(i) for i in range(3)] == [3, 2, 2]
    fleet.disconnected(1, 2)
    assert fleet.order() == [1, 2, 0]
    fleet.disconnected(1, 5)
    assert fleet.connections(1) == 0


def test_a_process_that_drains_gets_connections_only_when_nobody_serves() -> None:
    fleet = complete(2)
    fleet.draining(0)
    assert fleet.order() == [1]
    fleet.ended(1, 0.0)
    assert fleet.order() == [0]
    fleet.ended(0, 0.0)
    assert fleet.order() == []


class Lives(RuleBasedStateMachine):
    """Whatever happens in whatever order, every process is started again some time."""

    @initialize(kinds=st.lists(st.integers(1, 2), min_size=1, max_size=5))
    def begin(self, kinds: list[int]) -> None:
        self.fleet = Fleet(kinds)
        self.now = 0.0

    @rule()
    def start(self) -> None:
        start(self.fleet, self.now)

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    def _some(self, which: int, *states: State) -> int | None:
        found = [i for i in range(self.fleet.wanted) if self.fleet.state(i) in states]
        return found[which % len(found)] if found else None

    @rule(which=st.integers(0, 9))
    def ready(self, which: int) -> None:
        index = self._some(which, State.STARTING)
        if index is not None:
            self.fleet.ready(index, self.now)

    @precondition(lambda self: self.fleet.complete)
    @rule(which=st.integers(0, 9))
    def die(self, which: int) -> None:
        index = self._some(which, State.STARTING, State.SERVING, State.DRAINING)
        if index is not None:
            self.fleet.ended(index, self.now)

    @rule(which=st.integers(0, 9))
    def drain(self, which: int) -> None:
        index = self._some(which, State.SERVING)
        if index is not None and self.fleet.complete:
            self.fleet.draining(index)

    @rule(count=st.integers(1, 5))
    def connect(self, count: int) -> None:
        for _ in range(count):
            for index in self.fleet.order()[:1]:
                self.fleet.connected(index)

    @invariant()
    def nobody_is_forgotten(self) -> None:
        states = {self.fleet.state(index) for index in range(self.fleet.wanted)}
        if states <= {State.SERVING, State.DRAINING}:
            assert self.fleet.due(self.now + 1e6) == []
        else:
            later = self.now + 1e6
            assert self.fleet.due(later) or self.fleet.silent(later)
            assert self.fleet.wake_at() < math.inf

    @invariant()
    def connections_go_where_they_are_served(self) -> None:
        for index in self.fleet.order():
            assert self.fleet.state(index) in (State.SERVING, State.DRAINING)
        assert bool(self.fleet.order()) or self.fleet.serving == 0


TestLives = Lives.TestCase
