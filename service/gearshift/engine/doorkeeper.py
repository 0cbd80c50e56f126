"""The doorkeeper: whom the quotas and the damper of retries let in. Decides nothing itself."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from gearshift.core.quota import Over, Quotas
from gearshift.core.request import Ticket
from gearshift.core.retries import Damper
from gearshift.core.rights import ANONYMOUS
from gearshift.errors import Overloaded, QuotaExceeded
from gearshift.ports import Clock


class Caller(NamedTuple):
    """Who asks, and how often this request has been sent before."""

    client: str = ANONYMOUS
    attempts: int = 0


SOMEBODY = Caller()


class Doorkeeper:
    """Asked before a request is read, and again when it is known what it asks for."""

    def __init__(self, clock: Clock, draw: Callable[[], float] = random.random) -> None:
        """`draw` gives numbers from 0 to 1: how the callers' next tries are spread."""
        self._clock = clock
        self._draw = draw
        self._damper = Damper()
        self.quotas: Quotas | None = None
        self.identity = ""
        """The metadata key that tells callers apart who have not proved who they are."""
        self.refused: Counter[str] = Counter()
        """Requests over their quota, by client of the file, the others under ""."""
        self.retries_refused = 0

    def turn_away(self, caller: Caller) -> Overloaded | None:
        """Why this caller's request need not even be read; None if it must be."""
        now = self._clock.now()
        if self.quotas is not None:
            over = self.quotas.spent(caller.client, now)
            if over is not None:
                return self._over(over, caller)
        if self._damper.came(caller.attempts, now):
            return None
        self.retries_refused += 1
        return Overloaded(
            "the server is overloaded, and too many of its requests are retries; wait longer",
            self._damper.wait(1.0, caller.attempts, self._draw()),
        )

    def check(self, caller: Caller, ticket: Ticket) -> None:
        """QuotaExceeded for a request that would be over."""
        if self.quotas is None:
            return
        now = self._clock.now()
        over = self.quotas.take(caller.client, ticket.model, ticket.service_class, ticket.rows, now)
        if over is not None:
            raise self._over(over, caller)

    def shed(self, caller: Caller, error: Overloaded) -> None:
        """The scheduler has no room for it: its caller is told when to come back, not all at the
        same moment."""
        self._damper.shed(self._clock.now())
        error.retry_after = self._damper.wait(error.retry_after, caller.attempts, self._draw())

    def _over(self, over: Over, caller: Caller) -> QuotaExceeded:
        self.refused[over.client] += 1
        wait = self._damper.wait(over.wait, caller.attempts, self._draw())
        return QuotaExceeded(
            f"the quota of {over.whose} is used up; there is room again in {over.wait:.3g} s", wait
        )
