"""What the scheduler says: taken in or not, what runs where, who is dropped."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from gearshift.core.catalog import Model
from gearshift.core.profile import Profile
from gearshift.core.request import Ticket
from gearshift.core.router import Reason, reason
from gearshift.core.wanted import Wanted
from gearshift.errors import RequestError


@dataclass(frozen=True, slots=True)
class Admitted:
    """The ticket is in its lane. `wanted` is what it would get on an idle server, None from a
    policy that does not say."""

    wanted: Wanted | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """The ticket was not taken in; `error` says why. For want of workers: `wanted` is the worker
    time that it would have cost on an idle server, in seconds."""

    error: RequestError
    wanted: float = 0.0


class Dispatch(NamedTuple):
    """Run these tickets as one batch of the profile's variant on `worker`, in this order. Where
    the profile is a cascade's, its `runs` says what runs first.

    `better` is the least p99 of a more accurate variant, in seconds, infinite if there is none,
    below zero if that keeps failing.
    """

    id: int
    worker: int
    model: Model
    profile: Profile
    tickets: tuple[Ticket, ...]
    rows: int
    better: float = math.inf
    spare: bool = False
    """In spare time: nobody waits for the answers."""

    def reason(self, ticket: Ticket) -> Reason:
        """Why this variant answers this member."""
        return reason(ticket, self.model, self.profile, self.better)

    def predicted(self) -> tuple[float, float]:
        """The p50 and p99 of the run as known now; once it has run it may have changed them."""
        profile = self.profile.runs
        return profile.p50(self.rows), profile.p99(self.rows)


@dataclass(frozen=True, slots=True)
class Drop:
    """Settle this ticket with `error`; it will not run. `wanted` as of Refused."""

    ticket: Ticket
    error: RequestError
    wanted: float = 0.0


class Decisions(NamedTuple):
    """What to carry out now, and when to ask again at the latest (inf: on the next event)."""

    actions: tuple[Dispatch | Drop, ...]
    wake_at: float
