"""A request in flight, the answer it gets, and the guard that keeps its deadline."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gearshift.core.catalog import Late, Model, Variant
from gearshift.core.request import Ticket
from gearshift.core.router import Reason
from gearshift.errors import RequestError
from gearshift.ports import Clock, Tensors, Timer


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the caller of one request gets. Times in seconds; `budget` inf when unlimited.

    `outputs` holds every output of the model, each (rows, *shape). `reason` is one of
    most_accurate, budget, load, pinned.
    """

    variant: Variant
    outputs: Tensors
    service_class: str
    accuracy: float
    queue: float
    compute: float
    budget: float
    batch_size: int
    reason: Reason


Reply = Callable[[Answer | RequestError], None]


@dataclass(slots=True, eq=False)
class Flight:
    """One admitted request: its ticket, its tensors, and whom to tell how it ended."""

    ticket: Ticket
    model: Model
    inputs: Tensors
    reply: Reply
    dispatched_at: float | None = None


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
        nearest = min((flight.ticket.deadline for flight in self._flights), default=math.inf)
        self._timer = self._clock.call_at(nearest, self._fire) if nearest < math.inf else None

    def _fire(self) -> None:
        now = self._clock.now()
        passed = [flight for flight in self._flights if flight.ticket.deadline <= now]
        self._flights = [flight for flight in self._flights if flight.ticket.deadline > now]
        for flight in passed:
            self._overrun(flight)
        self._arm()

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
