"""What is asked for, over the last minute or so: requests a second by what they need.

The queue's own averages (`gearshift.core.strand`) reach back as far as a budget does, and know
nothing of who was refused. What is loaded where (`gearshift.core.residency`) is decided for
longer, and for those, too, that only a variant which is not loaded could answer.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from typing import NamedTuple

from gearshift.core.catalog import Late, Model, Standing
from gearshift.core.profile import Profile
from gearshift.core.request import Ticket
from gearshift.core.router import may_answer

MEMORY = 20.0
"""Seconds: the time constant of the moving average."""

NOBODY = 1e-3
"""Requests a second below which a need is forgotten."""

MOST = 4096
"""Needs kept at a time: pins, floors and budgets come from callers."""


class Need(NamedTuple):
    """Requests that the same variants may answer: of a model, with `floor` the accuracy of the
    least accurate of them. `budget`, in seconds, is the shortest of about the same; infinite where
    a late answer counts as well."""

    model: str
    floor: float
    budget: float
    pinned: str | None
    weight: float

    def accepts(self, profile: Profile) -> bool:
        """Whether this profile could answer such a request on an idle server."""
        return (
            may_answer(profile, self.pinned)
            and profile.least_accuracy >= self.floor
            and profile.p99(1) <= self.budget
        )


class Demand:
    """Counts tickets, and turns the counts into rates when asked. Times in seconds."""

    __slots__ = ("_begun", "_budgets", "_counts", "_levels", "_rates")

    def __init__(self) -> None:
        self._begun: float | None = None
        self._counts: dict[Need, int] = {}
        self._rates: dict[Need, float] = {}
        # By model its accuracies, rising, and what they are of: they are learned while it serves.
        self._levels: dict[str, tuple[Model, list[float]]] = {}
        # By need whose budget stands for those of about its size, the shortest that came.
        self._budgets: dict[Need, float] = {}

    def count(self, ticket: Ticket, model: Model, now: float) -> None:
        """One request came, whatever becomes of it."""
        if self._begun is None:
            self._begun = now
        known, accuracies = self._levels.get(model.name, (None, []))
        if known is not model:
            accuracies = sorted(variant.accuracy for variant in model.variants)
            self._levels[model.name] = model, accuracies
        level = bisect_left(accuracies, ticket.floor)
        if level == len(accuracies):
            return  # nobody could answer it
        budget = ticket.budget if ticket.late is Late.DROP else math.inf
        size = 2.0 ** math.floor(math.log2(budget)) if 0.0 < budget < math.inf else budget
        need = Need(model.name, accuracies[level], size, ticket.variant, ticket.weight)
        if need in self._counts:
            self._counts[need] += 1
            self._budgets[need] = min(self._budgets[need], budget)
        elif len(self._counts) < MOST:
            self._counts[need] = 1
            self._budgets[need] = budget

    def rates(self, now: float) -> dict[Need, float]:
        """Requests a second by need, with those since the last call taken in."""
        elapsed = 0.0 if self._begun is None else now - self._begun
        if elapsed > 0.0:
            self._begun = now
            # The first window counts whole: nothing was known before it.
            weight = -math.expm1(-elapsed / MEMORY) if self._rates else 1.0
            for need, count in list(self._counts.items()):
                before = self._rates.get(need, 0.0)
                rate = before + weight * (count / elapsed - before)
                if rate < NOBODY:
                    del self._counts[need], self._budgets[need]
                    self._rates.pop(need, None)
                else:
                    self._counts[need], self._rates[need] = 0, rate
        return {
            need._replace(budget=self._budgets[need]): rate for need, rate in self._rates.items()
        }


def declared(models: Mapping[str, Model]) -> dict[Need, float]:
    """What the models' classes and their canaries need though nobody asks: a rate of 0 each."""
    needs: dict[Need, float] = {}
    for model in models.values():
        accuracies = sorted(variant.accuracy for variant in model.variants)
        for each in model.classes.values():
            level = bisect_left(accuracies, each.floor)
            if level < len(accuracies):
                budget = each.budget if each.late is Late.DROP else math.inf
                needs[Need(model.name, accuracies[level], budget, None, each.weight)] = 0.0
        for variant in model.variants:
            if variant.standing is Standing.CANARY:
                needs[Need(model.name, variant.accuracy, math.inf, variant.name, 1.0)] = 0.0
    return needs
