"""A strand: those tickets of a lane that can be answered alike, earliest due first.

The tickets of a strand accept the same variants, have the same number of rows and the same
weight, so that any run of neighbours in due order is a candidate for a batch, and its worth
is a matter of counting.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence
from copy import copy

from gearshift.core.catalog import Model
from gearshift.core.decisions import Admitted
from gearshift.core.profile import Profile
from gearshift.core.request import Ticket
from gearshift.core.wanted import frontier, worker_seconds

Key = tuple[float, int, Ticket]
"""Due time in seconds, ticket id, ticket: the order in which tickets wait. No two ids are the
same, so that tickets themselves are never compared."""

UNREAD = 256
"""Dispatches after which the moving average of the slack is brought up to date unasked."""

COMPACT, PART = 32, 64
"""Keys that may stand before the first waiting one until the list is cut: so many, or one in
so many of all. Often enough that no single cut takes long."""

SHORTEST_MEMORY, LONGEST_MEMORY = 0.15, 2.0
"""Seconds that the moving average of the rate reaches back."""

SERVED = 0.1
"""Weight of a batch in the moving average of the slack at dispatch."""

OFTEN, SHORTER = 0.02, 0.5
"""Weight of a budget in the moving averages, and of one below the short ones in theirs."""

LIVE = 10.0
"""Seconds without a ticket after which a strand no longer counts as one that may get some."""


class Strand:
    """Waiting tickets by due time, and how fast they come.

    `gears` are the profiles that its tickets accept, by device, most accurate first. A lenient
    strand holds tickets for which a late answer still has value: they are never hopeless.
    `before`: its tickets came before a variant began to leave, and may still run on it.
    `keys[start:]` are the waiting tickets; the list is read directly on the hot path.
    """

    __slots__ = (
        "_admitted",
        "_arrived",
        "_budgets",
        "_dispatched",
        "_needs",
        "_slack",
        "batch",
        "before",
        "budget",
        "calm_until",
        "drain",
        "gears",
        "keys",
        "least_cost",
        "lenient",
        "model",
        "quickest",
        "rate",
        "rows",
        "seen",
        "start",
        "tight",
        "weight",
    )

    def __init__(
        self,
        model: Model,
        gears: Mapping[str, Sequence[Profile]],
        *,
        weight: float = 1.0,
        rows: int = 1,
        lenient: bool = False,
        before: bool = False,
    ) -> None:
        self.model = model
        self.gears = gears
        self.weight = weight
        self.rows = rows
        self.lenient = lenient
        self.before = before
        self.keys: list[Key] = []
        self.start = 0
        self.rate = 0.0
        """Tickets a second, a moving average."""
        self.budget = 0.0
        """Seconds, a moving average of the finite budgets that came."""
        self.tight = 0.0
        """Seconds, where the shorter of those budgets are."""
        self._budgets = 0
        self.drain = math.inf
        """Tickets a second that the present prices leave room for."""
        self.seen = -math.inf
        self.quickest = 0.0
        """Seconds: the least p99 of one ticket on any device."""
        self.least_cost = 0.0
        """Worker seconds that a ticket costs at the least."""
        self.calm_until = -math.inf
        """Until then, if nothing changes, no ticket is short of time (`gearshift.core.scoring`)."""
        self.batch = 1
        """Rows of the last batch that tickets of this strand were in."""
        self._arrived = 0
        self._slack = math.inf
        # What was dispatched, and when, since the slack was last asked for.
        self._dispatched: list[tuple[Sequence[Key], float]] = []
        self.measure_quickest()

    def copy(self) -> Strand:
        """The same, going on apart from this."""
        copied = copy(self)
        copied.keys, copied._dispatched = list(self.keys), list(self._dispatched)
        return copied

    def __len__(self) -> int:
        return len(self.keys) - self.start

    def measure_quickest(self) -> None:
        """Look the least p99 and the least cost up anew, after profiles have learned."""
        profiles = [profile for gears in self.gears.values() for profile in gears]
        self.quickest = min(profile.p99s[self.rows] for profile in profiles)
        self.least_cost = self.rows * min(profile.row_cost for profile in profiles)
        self._needs, wanted = frontier(profiles, self.rows)
        self._admitted = [Admitted(each) for each in wanted]

    def admitted(self, budget: float) -> Admitted:
        """What is said to a ticket with that budget (seconds) that is taken in."""
        return self._admitted[bisect_right(self._needs, budget)]

    def missed(self, ticket: Ticket) -> float:
        """Worker seconds that the ticket, which will not run, would have cost in the gear that it
        wanted, in a batch like the last one: under the load that it is a victim of."""
        if ticket.fallback or ticket.without is not None:
            return 0.0
        wanted = self.admitted(ticket.budget).wanted
        assert wanted is not None
        return worker_seconds([(wanted, ticket)], self.batch)

    def inherit(self, old: Strand) -> None:
        """Go on with what another one has learned about how tickets come."""
        old._fold()
        self.rate, self.budget, self.tight = old.rate, old.budget, old.tight
        self._budgets, self._arrived, self._slack = old._budgets, old._arrived, old._slack
        self.seen = old.seen

    def leave(self) -> None:
        """No new tickets come: those that wait are all that is left."""
        self.rate, self._arrived = 0.0, 0
        if not len(self):
            self.seen = -math.inf

    def expect(self, budget: float, now: float) -> None:
        """A class declares such tickets: be ready for them before the first one comes."""
        if budget < math.inf:
            self.budget = min(budget, self.budget or budget)
            self.tight = min(budget, self.tight or budget)
            self.calm_until = -math.inf
        self.seen = now

    def live(self, now: float) -> bool:
        """May tickets come at any moment?"""
        return now - self.seen <= LIVE

    def arrive(self, budget: float, now: float) -> None:
        """Count one arrival; `budget` in seconds, infinite for none."""
        self._arrived += 1
        self.seen = now
        if budget < math.inf:
            self._budgets += 1
            self.calm_until = -math.inf
            if not budget == self.budget == self.tight:
                # Callers' budgets may differ a thousandfold, so averages are of logarithms. The
                # first ones count alike. Of those who must be protected, a short budget tells at
                # once and a long one slowly.
                self.budget = _between(self.budget, budget, max(OFTEN, 1.0 / self._budgets))
                share = SHORTER if budget < self.tight else OFTEN
                self.tight = _between(self.tight, budget, share)

    def look(self, elapsed: float) -> None:
        """Take what has arrived in the last `elapsed` seconds into the moving average.

        It reaches as far back as half a budget: what comes and goes within that, the queue
        evens out.
        """
        memory = min(LONGEST_MEMORY, max(SHORTEST_MEMORY, self.budget / 2.0))
        self._fold()
        if not self._arrived and not len(self):
            self._slack = math.inf
        rate = self._arrived / elapsed
        self._arrived = 0
        if self.rate:
            self.rate += (1.0 - math.exp(-elapsed / memory)) * (rate - self.rate)
        else:
            self.rate = rate

    def dispatched(self, keys: Sequence[Key], now: float) -> None:
        """Tickets of this strand begin to run; `keys` must not change any more."""
        self._dispatched.append((keys, now))
        if len(self._dispatched) >= UNREAD:
            # The planner may be dead: what nobody asks for must not pile up.
            self._fold()

    @property
    def slack(self) -> float:
        """Seconds that tickets have left when they are dispatched, a moving average."""
        self._fold()
        return self._slack

    def _fold(self) -> None:
        # Summed up when the planner asks, which is off the way of a request.
        for keys, now in self._dispatched:
            slack = sum([key[0] for key in keys]) / len(keys) - now
            before = self._slack
            self._slack = slack if before == math.inf else before + SERVED * (slack - before)
        self._dispatched.clear()

    def add(self, key: Key) -> None:
        keys = self.keys
        self.calm_until = -math.inf
        if not keys or key > keys[-1]:
            keys.append(key)
        else:
            insort(keys, key, self.start)

    def remove(self, key: Key) -> bool:
        """False if it does not wait here (any more)."""
        index = bisect_left(self.keys, key, self.start)
        if index == len(self.keys) or self.keys[index] != key:
            return False
        self.calm_until = -math.inf
        if index == self.start:
            self.start += 1
            self._compact()
        else:
            del self.keys[index]
        return True

    def take(self, first: int, count: int) -> list[Key]:
        """Remove and return `count` keys from index `first` of `keys` on."""
        end = first + count
        taken = self.keys[first:end]
        self.calm_until = -math.inf
        if first == self.start:
            self.start = end
            self._compact()
        else:
            del self.keys[first:end]
        return taken

    def count_until(self, moment: float) -> int:
        """How many tickets are due at `moment` or before."""
        return bisect_left(self.keys, (moment, sys.maxsize), self.start) - self.start

    def due_before(self, moment: float) -> list[Key]:
        """Remove and return what is due before `moment`."""
        keys, start = self.keys, self.start
        if start == len(keys) or keys[start][0] >= moment:
            return []
        return self.take(start, bisect_left(keys, (moment, -1), start) - start)

    def _compact(self) -> None:
        # Cutting off the front moves the whole list, so it is not done every time.
        if self.start >= COMPACT and PART * self.start >= len(self.keys):
            del self.keys[: self.start]
            self.start = 0


def _between(old: float, new: float, share: float) -> float:
    """From `old` that share of the way to `new`, in logarithms; `new` if there is no old one."""
    if old <= 0.0 or new <= 0.0:
        return new
    return float(old * (new / old) ** share)
