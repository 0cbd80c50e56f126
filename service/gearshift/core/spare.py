"""Spare time: runs that nobody waits for, and that nobody may have to wait for.

A run cannot be interrupted, so a worker lent to it is away until it ends. It is lent only while
no ticket waits, if another worker of the device stays idle and enough of them are within the
guard's reach of short budgets; or for a run so short that nobody could tell.
"""

from __future__ import annotations

from collections import deque

from gearshift.core.guard import Limit
from gearshift.core.profile import Profile
from gearshift.core.request import Ticket
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

    def next(self) -> Ticket:
        """The oldest, which stays."""
        return self._tickets[0]

    def pop(self) -> Ticket:
        """The oldest, which is then no longer here."""
        return self._tickets.popleft()


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
