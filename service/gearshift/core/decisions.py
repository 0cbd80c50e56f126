"""What the scheduler says: taken in or not, what runs where, who is dropped."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from gearshift.core.catalog import Model
from gearshift.core.profile import Profile
from gearshift.core.request import Ticket
from gearshift.core.router import Reason, reason
from gearshift.errors import RequestError


@dataclass(frozen=True, slots=True)
class Admitted:
    """The ticket is in its lane."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The ticket was not taken in; `error` says why."""

    error: RequestError


class Dispatch(NamedTuple):
    """Run these tickets as one batch of the profile's variant on `worker`, in this order. Where
    the profile is a cascade's, its `runs` says what runs first.

    `better` is the least p99 of a more accurate variant, in seconds, infinite if there is none.
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


@dataclass(frozen=True, slots=True)
class Drop:
    """Settle this ticket with `error`; it will not run."""

    ticket: Ticket
    error: RequestError


class Decisions(NamedTuple):
    """What to carry out now, and when to ask again at the latest (inf: on the next event)."""

    actions: tuple[Dispatch | Drop, ...]
    wake_at: float
