"""What more workers would have brought a request: the best gear that its budget and floor allow on
an idle server, and what it would have cost there.

This is what a fleet is scaled by. How far answers stay below that gear for want of workers is the
load deficit; the worker time that all of them would take in it says how many workers would be
enough. Both are known at admission: one look at the strand's frontier.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gearshift.core.profile import Profile
from gearshift.core.request import Ticket

RUNNING = 0.5
"""The share of a budget that a batch may run for; the rest is for waiting, because on average a
request arrives in the middle of the run before its own (Shen et al., Nexus, 2019)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The gear that a request would get on an idle server. Where none is fast enough, and a late
    answer still has value, it is the fastest."""

    profile: Profile

    @property
    def accuracy(self) -> float:
        return self.profile.variant.accuracy

    def per_row(self, batch: float, least: int, budget: float) -> float:
        """Worker seconds a row in a batch of `batch` rows, or of as many as fit into `RUNNING` of
        the budget (seconds), but not of less than `least` rows. Of a cascade, the rows that go on
        are in it."""
        profile = self.profile
        rows = max(least, min(int(batch), profile.rows_within(RUNNING * budget)))
        return profile.p50s[rows] / rows + profile.later


def frontier(profiles: Iterable[Profile], rows: int) -> tuple[list[float], list[Wanted]]:
    """For requests of `rows` rows that accept these profiles: p99s in rising order, and what they
    want with a budget that reaches so many of them (`bisect_right`), accuracy rising."""
    # The one that takes more rows at once says what larger batches would cost.
    ordered = sorted(profiles, key=lambda p: (p.p99s[rows], -p.variant.accuracy, -p.max_batch))
    needs: list[float] = []
    found: list[Wanted] = []
    for profile in ordered:
        if not found or profile.variant.accuracy > found[-1].accuracy:
            needs.append(profile.p99s[rows])
            found.append(Wanted(profile))
    return needs, [found[0], *found]


def worker_seconds(members: Iterable[tuple[Wanted, Ticket]], batch: float) -> float:
    """What these requests of one batch, of `batch` rows, would have cost in the gears that they
    wanted: each its share of such a batch."""
    total = per_row = 0.0
    known: Wanted | None = None
    for wanted, ticket in members:
        if wanted is not known:
            # Neighbours in a batch mostly want the same; the first of them is due first.
            known, per_row = wanted, wanted.per_row(batch, ticket.rows, ticket.budget)
        total += per_row * ticket.rows
    return total
