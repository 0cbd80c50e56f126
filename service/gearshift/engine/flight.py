"""A request in flight, the answer it gets, and the guard that keeps its deadline."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from gearshift.core.catalog import Cascade, Late, Model, Variant
from gearshift.core.profile import Profile
from gearshift.core.request import Ticket
from gearshift.core.router import Reason
from gearshift.core.wanted import Wanted
from gearshift.ports import Array, Clock, Tensors, Timer, Trace


@dataclass(slots=True, eq=False)
class Run:
    """What the answers of one batch have in common. Seconds on the engine's clock; `outputs`
    holds every output of the model, each (rows, *shape). `unsure` marks the rows, (rows,), of
    which the first variant of a cascade is not sure. `kept` is for who writes the answers: what it
    needs to make only once for all of them."""

    variant: Variant
    outputs: Tensors
    rows: int
    begun: float
    finished: float
    unsure: Array | None = None
    kept: Any = None
    spoiled: Array | None = None
    """Which rows, (rows,), hold values that are not finite; None if none does."""


class Answer(NamedTuple):
    """What the caller of one request gets: the rows of `run` from `row` on. Times in seconds;
    `budget` inf when unlimited. `cascade` is the one that it was answered through."""

    run: Run
    ticket: Ticket
    reason: Reason
    row: int
    cascade: Cascade | None = None

    @property
    def accuracy(self) -> float:
        """What such answers reach: a cascade as a whole, unless its second variant is missing."""
        if self.cascade is None or self.reason is Reason.FALLBACK:
            return self.run.variant.accuracy
        return self.cascade.accuracy

    @property
    def queue(self) -> float:
        return self.run.begun - self.ticket.arrival

    @property
    def compute(self) -> float:
        return self.run.finished - self.run.begun

    @property
    def budget(self) -> float:
        return self.ticket.budget


Reply = Callable[[Answer | Exception], Exception | None]
"""Tells the caller. Returns what kept the answer from being given, None if nothing did; the
caller knows of it already."""


def to_nobody(ending: Answer | Exception) -> Exception | None:
    """The reply to a caller who left."""
    return None


@dataclass(frozen=True, slots=True)
class First:
    """The first answer of a request that has gone on in a cascade: what its caller gets if the
    second is not there in time. `unsure` marks those of its rows that went on, (rows,)."""

    answer: Answer
    unsure: Array


@dataclass(slots=True, eq=False)
class Flight:
    """One admitted request: its ticket, its tensors, and whom to tell how it ended. `first` is
    set once it has gone on; ticket and tensors are then those of the rows that did. `wanted` is the
    gear that it would get on an idle server. `trace` is told of each step, if the request is
    traced."""

    ticket: Ticket
    model: Model
    inputs: Tensors
    reply: Reply
    wanted: Wanted
    request_id: bytes = b""
    dispatched_at: float | None = None
    first: First | None = None
    trace: Trace | None = None
    dispatch: int = 0
    """Of the run that it is in, 0 while it waits."""
    failed_by: tuple[Profile, int] | None = None
    """What failed it, and in which run, if this is its second chance."""

    @property
    def own(self) -> Ticket:
        """The ticket of the whole request."""
        return self.ticket if self.first is None else self.first.answer.ticket

    @property
    def answer_by(self) -> float:
        """Until when a run may take: who has a first answer gets that one in time."""
        deadline = self.ticket.deadline
        return deadline if self.first is None else deadline - LEAD


LEAD = 0.0005
"""Seconds before the deadline at which the first answer of a cascade is given."""


class Guard:
    """Nobody waits past a deadline for a run that is slower than its profile.

    One timer per batch, at the nearest deadline among the members that drop late answers;
    when it fires, `overrun` gets those whose deadline has passed.
    """

    def __init__(
        self, clock: Clock, flights: Sequence[Flight], overrun: Callable[[Flight], None]
    ) -> None:
        self._clock = clock
        self._overrun = overrun
        self._flights = [
            flight
            for flight in flights
            if flight.ticket.late is Late.DROP and flight.ticket.deadline < math.inf
        ]
        self._timer: Timer | None = None
        self._arm()

    def _arm(self) -> None:
        nearest = min((flight.answer_by for flight in self._flights), default=math.inf)
        self._timer = self._clock.call_at(nearest, self._fire) if nearest < math.inf else None

    def _fire(self) -> None:
        now = self._clock.now()
        passed = [flight for flight in self._flights if flight.answer_by <= now]
        self._flights = [flight for flight in self._flights if flight.answer_by > now]
        for flight in passed:
            self._overrun(flight)
        self._arm()

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
