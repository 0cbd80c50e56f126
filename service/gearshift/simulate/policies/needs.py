"""What requests need, as planners see it: demand by model and least variant, and throughput."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from gearshift.core.catalog import Catalog
from gearshift.core.profile import Profile
from gearshift.core.request import Ticket

Need = tuple[str, float]
"""A model, and the accuracy of the least accurate variant that is good enough."""


@dataclass(slots=True)
class _Seen:
    count: int = 0
    budget: float = math.inf
    rate: float | None = None


class Demand:
    """Counts requests by need, and turns them into rates when a window ends."""

    __slots__ = ("_begun", "_levels", "_memory", "_seen")

    def __init__(self, catalog: Catalog, memory: float) -> None:
        """`memory` is the time constant of the moving average of the rates, in seconds."""
        self._levels = {
            name: sorted(variant.accuracy for variant in model.variants)
            for name, model in catalog.models.items()
        }
        self._memory = memory
        self._seen: dict[Need, _Seen] = {}
        self._begun: float | None = None

    def need_of(self, ticket: Ticket) -> Need:
        """Floors between the same two variants are one need."""
        levels = self._levels[ticket.model]
        return ticket.model, next((a for a in levels if a >= ticket.floor), math.inf)

    def count(self, ticket: Ticket) -> None:
        seen = self._seen.setdefault(self.need_of(ticket), _Seen())
        seen.count += 1
        seen.budget = min(seen.budget, ticket.budget)

    def budget(self, need: Need) -> float:
        """The smallest budget that came with this need, in seconds."""
        return self._seen[need].budget

    def close_window(self, now: float) -> Mapping[Need, float]:
        """Requests a second by need, smoothed; empty if no time has passed yet."""
        if self._begun is None or now <= self._begun:
            self._begun = now
            return {}
        weight = -math.expm1((self._begun - now) / self._memory)
        for seen in self._seen.values():
            rate = seen.count / (now - self._begun)
            if seen.rate is None:
                seen.rate = rate
            else:
                seen.rate += weight * (rate - seen.rate)
            seen.count = 0
        self._begun = now
        return {need: seen.rate or 0.0 for need, seen in self._seen.items()}

    @property
    def needs(self) -> tuple[Need, ...]:
        """Every need that has come so far."""
        return tuple(self._seen)


def throughput(profile: Profile, budget: float) -> float:
    """Rows a second of one worker, in the largest batch whose p99 is within half the budget.

    The other half is for waiting while the batch before it runs, the rule of Nexus (Shen et
    al., SOSP '19) that later planners follow. 0 if one row alone takes longer than that.
    """
    rows = profile.rows_within(budget / 2)
    return rows / profile.p50(rows) if rows else 0.0


def alone(profile: Profile, budget: float) -> float:
    """Rows a second of one worker that answers row by row; 0 if one is over the budget."""
    return 1 / profile.p50(1) if profile.p99(1) <= budget else 0.0
