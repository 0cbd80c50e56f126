"""The second chance: a request whose run failed waits once more, for any variant but that one.

It keeps its arrival, its deadline and its floor, and runs alone. Whatever broke the first run may
have been a request in it, and nobody can say which: together again they would break again, and
those that have nothing to do with it would have failed twice.
"""

from __future__ import annotations

from dataclasses import replace

from gearshift.core.catalog import Cascade
from gearshift.core.profile import Profile
from gearshift.core.request import Ticket

NOBODY = ""
"""In `Ticket.without`: no variant is to blame, all may be tried again."""


def again(
    ticket: Ticket, failed: str, ticket_id: int, cascade: Cascade | None = None
) -> Ticket | None:
    """The ticket of its second chance, after the variant `failed` did not answer it (NOBODY: a
    worker was gone before the run began), perhaps as the first of a `cascade`. None if it has
    none: it had one, it has an answer already, or its caller wants that variant and no other."""
    if ticket.without is not None or ticket.fallback:
        return None
    wanted = ticket.variant
    if cascade is not None and wanted == cascade.name and failed == cascade.first:
        # Who wants a cascade is answered by its second where the first is not sure.
        wanted = cascade.then
    elif wanted is not None and failed != NOBODY:
        return None
    return replace(ticket, id=ticket_id, variant=wanted, without=failed)


class Alone(Profile):
    """A variant's profile for one request of `rows` rows, which nothing joins: it takes no more
    rows than these at once. What runs, and learns, is `runs`."""

    __slots__ = ("_rows",)

    def __init__(self, runs: Profile, rows: int) -> None:
        self.runs = runs
        self.variant = runs.variant
        self.cascade = None
        self.device = runs.device
        self.points = runs.points
        self._rows = rows
        self.refresh()

    def refresh(self) -> None:
        """Follow what `runs` has learned."""
        self.p50s, self.p99s = self.runs.p50s[: self._rows + 1], self.runs.p99s[: self._rows + 1]
        self.efficient_batch = self._rows
        self.row_cost = self.p50s[-1] / self._rows

    def observe(self, rows: int, seconds: float, now: float) -> bool:
        """Nothing runs under this profile: the one behind it learns."""
        return False

    def settle(self, now: float) -> bool:
        return False

    def fresh(self) -> Profile:
        raise TypeError("what runs alone has the profile of its variant")
