"""Spare time: runs that nobody waits for, and that nobody may have to wait for.

A run cannot be interrupted, so a worker lent to it is away until it ends. It is lent only while
no ticket waits, if another worker of the device stays idle and enough of them are within the
guard's reach of short budgets; or for a run so short that nobody could tell.
"""

from __future__ import annotations

from collections import deque

from gearshift.core.decisions import Drop
from gearshift.core.guard import Guard, Limit
from gearshift.core.lane import Lane
from gearshift.core.lanes import Lanes
from gearshift.core.profile import Profile
from gearshift.core.request import Ticket
from gearshift.core.router import expired
from gearshift.core.workers import Workers

MOST = 16
"""Tickets that wait for spare time: the newest, because on a busy server there is none."""

PATIENCE = 1.0
"""Seconds after which a ticket that found none is forgotten."""

NEGLIGIBLE = 0.001
"""Seconds: a run of no more delays nobody by more."""


class Spare:
    """Tickets for spare time, each pinned to the variant that is to run it."""

    def __init__(self) -> None:
        self._tickets: deque[Ticket] = deque(maxlen=MOST)

    def __bool__(self) -> bool:
        return bool(self._tickets)

    def offer(self, ticket: Ticket) -> Ticket | None:
        """Take it in; returns the one that had to make room, if any."""
        out = self._tickets[0] if len(self._tickets) == MOST else None
        self._tickets.append(ticket)
        return out

    def give_up(self, name: str, generation: int) -> list[Ticket]:
        """Those of this generation of a model, which are then no longer here."""
        found = [t for t in self._tickets if (t.model, t.generation) == (name, generation)]
        for ticket in found:
            self._tickets.remove(ticket)
        return found

    def expired(self, now: float) -> list[Drop]:
        """Those that have found no time for too long, which are then no longer here."""
        found = []
        while self._tickets and now - self._tickets[0].arrival > PATIENCE:
            ticket = self._tickets.popleft()
            found.append(Drop(ticket, expired(ticket, 0.0, now)))
        return found

    def lend(
        self, lanes: Lanes, workers: Workers, guard: Guard, now: float
    ) -> tuple[Ticket, Lane, Profile] | None:
        """The oldest, which is then no longer here, and how it runs, if a worker can be lent."""
        if not self._tickets:
            return None
        ticket = self._tickets[0]
        lane = lanes.at(ticket.model, ticket.generation)
        for profile in lane.runnable:
            if (
                profile.variant.name == ticket.variant
                and lane.resident(profile)
                and lendable(profile, ticket.rows, workers, guard.on(profile.device), now)
            ):
                return self._tickets.popleft(), lane, profile
        return None


def lendable(profile: Profile, rows: int, workers: Workers, limit: Limit, now: float) -> bool:
    """Whether an idle worker of the profile's device may be lent to a run of `rows` rows."""
    device = profile.device
    idle = len(workers.idle[device])
    if not idle or rows > profile.max_batch:
        return False
    length = profile.p99s[rows]
    if length <= NEGLIGIBLE:
        return True
    if idle < 2:
        return False
    return length <= limit.reach or workers.free_within(device, now + limit.reach) - 1 >= limit.keep
