"""When a call is made again, and how long nobody asks before that. Pure: time comes in.

Made again is what says that it may be: `Overloaded` and `Unavailable`, after the time that the
server names or else a growing one, and only while the budget leaves time for a try. A tenth of all
calls may be retries, as gRPC's own throttling has it: callers who all come again do not let a
server recover.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Any

from gearshift.client.errors import ClientError, Overloaded, Unavailable

SHORTEST = 0.001
"""Seconds, the least that a call is given."""

SAVED_UP = 10.0
"""Retries that may be saved up."""


@dataclass
class Retries:
    """Shared by the calls of one client. Times in seconds. `share` of the calls may be retries;
    `attempts` in all for one call, 1 for none."""

    attempts: int = 3
    first_wait: float = 0.02
    longest_wait: float = 1.0
    share: float = 0.1
    chance: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts must be 1 or more, got {self.attempts}")
        self._saved = SAVED_UP

    def began(self) -> None:
        """A call is made for the first time."""
        self._saved = min(SAVED_UP, self._saved + self.share)

    def wait(self, error: ClientError, attempt: int, left: float) -> float | None:
        """Seconds until the next attempt after this one, which failed; None for no further one.
        `left`: what is left of the budget, infinite without one."""
        if not isinstance(error, Overloaded | Unavailable) or attempt >= self.attempts:
            return None
        if error.retry_after is not None:
            wait = error.retry_after
        else:
            longest = min(self.longest_wait, self.first_wait * 2.0 ** (attempt - 1))
            wait = longest * self.chance.uniform(0.5, 1.0)
        if wait >= left or self._saved < 1.0:
            return None
        self._saved -= 1.0
        return wait


class Attempts:
    """The tries of one call with a budget: what each may take, and whether there is a next one."""

    def __init__(self, retries: Retries, budget: float | None, now: float) -> None:
        self._retries = retries
        self._until = now + checked_budget(budget)
        self._made = 0
        retries.began()

    def begin(self, request: Any, now: float) -> float | None:
        """One more, which is told what is left; seconds that it may take, None for any number."""
        self._made += 1
        left = self._until - now
        if left == math.inf:
            return None
        left = max(SHORTEST, left)
        request.parameters["latency_budget_ms"].double_param = 1e3 * left
        return left

    def failed(self, error: ClientError, now: float) -> float:
        """Seconds until the next one. Raises the error if there is none."""
        wait = self._retries.wait(error, self._made, self._until - now)
        if wait is None:
            raise error from None
        return wait


def checked_budget(budget: float | None) -> float:
    """Seconds, infinite for none. ValueError for what is none."""
    if budget is None:
        return math.inf
    if not budget > 0.0 or math.isinf(budget):
        raise ValueError(f"budget must be a positive number of seconds, got {budget}")
    return budget
