"""Which process is to be started when, and which gets the next connection. Pure: no clock, no
process; time comes in as an argument.

A first start measures how fast each variant is, and two that measured at the same time would
disturb each other. So the first process of each kind (of each number of cores) starts alone,
one after the other; the rest follow together and find the profiles there.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import StrEnum

START_WITHIN = 900.0
"""Seconds that a starting process may give no sign of life: loading and measuring take long."""

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 30.0
"""Seconds until one that died is started again: doubled from death to death."""

STEADY = 60.0
"""Seconds of serving after which the deaths before are forgotten."""


class State(StrEnum):
    """What a process is at."""

    ENDED = "ended"
    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


@dataclass(slots=True)
class _Member:
    kind: Hashable
    leads: bool
    state: State = State.ENDED
    since: float = -math.inf
    """When it began to start, gave the last sign of life, or began to serve."""
    start_at: float = -math.inf
    deaths: int = 0
    connections: int = 0


class Fleet:
    """The processes by index. `kinds`: those of one kind share what the first has measured."""

    def __init__(self, kinds: Sequence[Hashable]) -> None:
        self._members = [
            _Member(kind, leads=kind not in kinds[:index]) for index, kind in enumerate(kinds)
        ]
        self._leaders = [member for member in self._members if member.leads]
        self.complete = False
        """Whether there was a moment when all served."""
        self.replaced = 0

    @property
    def wanted(self) -> int:
        """How many there should be."""
        return len(self._members)

    @property
    def serving(self) -> int:
        """How many take requests now."""
        return sum(member.state is State.SERVING for member in self._members)

    def state(self, index: int) -> State:
        """What the process is at."""
        return self._members[index].state

    def connections(self, index: int) -> int:
        """How many connections the process has."""
        return self._members[index].connections

    def due(self, now: float) -> list[int]:
        """Who is to be started now."""
        return [
            index
            for index, member in enumerate(self._members)
            if member.state is State.ENDED and member.start_at <= now and self._may_start(member)
        ]

    def silent(self, now: float) -> list[int]:
        """Who has been starting for too long without any sign of life."""
        return [
            index
            for index, member in enumerate(self._members)
            if member.state is State.STARTING and member.since + START_WITHIN <= now
        ]

    def wake_at(self) -> float:
        """When `due` or `silent` may have news though nothing happens; infinity for never."""
        times = [math.inf]
        for member in self._members:
            if member.state is State.STARTING:
                times.append(member.since + START_WITHIN)
            elif member.state is State.ENDED and self._may_start(member):
                times.append(member.start_at)
        return min(times)

    def started(self, index: int, now: float) -> None:
        """The process was started."""
        member = self._members[index]
        member.state, member.since, member.connections = State.STARTING, now, 0

    def alive(self, index: int, now: float) -> None:
        """A starting process has got on with it."""
        member = self._members[index]
        if member.state is State.STARTING:
            member.since = now

    def ready(self, index: int, now: float) -> None:
        """The process serves."""
        member = self._members[index]
        member.state, member.since = State.SERVING, now
        self.complete = self.complete or self.serving == self.wanted

    def draining(self, index: int) -> None:
        """The process takes nothing new."""
        self._members[index].state = State.DRAINING

    def ended(self, index: int, now: float) -> None:
        """The process is gone. It is started again after a pause that grows with each death."""
        member = self._members[index]
        served = member.state is not State.STARTING
        if served and now - member.since >= STEADY:
            member.deaths = 0
        # The exponent is bounded: a float has no 2 ** 2000.
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(member.deaths, 20))
        member.deaths += 1
        member.state, member.start_at, member.connections = State.ENDED, now + pause, 0
        self.replaced += 1

    def order(self) -> list[int]:
        """Who can take a connection, best first: those that serve, the one with the fewest
        connections first; where none does, those that drain, whose refusal tells more than a
        closed connection."""
        for state in (State.SERVING, State.DRAINING):
            found = [i for i, member in enumerate(self._members) if member.state is state]
            if found:
                return sorted(found, key=lambda i: self._members[i].connections)
        return []

    def connected(self, index: int) -> None:
        """A connection was given to the process."""
        self._members[index].connections += 1

    def disconnected(self, index: int, count: int) -> None:
        """Connections of the process are over."""
        member = self._members[index]
        member.connections = max(0, member.connections - count)

    def _may_start(self, member: _Member) -> bool:
        """Leaders in turn, each when the one before serves; the others after all of them."""
        if self.complete:
            return True
        before = self._leaders
        if member.leads:
            before = before[: self._leaders.index(member)]
        return all(leader.state is State.SERVING for leader in before)
