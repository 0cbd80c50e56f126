"""A lane: the queue of one model's tickets, sorted into strands that can be answered alike."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from copy import copy

from gearshift.core.catalog import Late, Model
from gearshift.core.profile import Profile
from gearshift.core.request import Ticket
from gearshift.core.strand import Strand

StrandKey = tuple[int, str | None, float, int, bool]
"""How many of the variants are below the floor, the pinned variant, weight, rows, lenient."""


class Lane:
    """All strands of one model. `runnable` are the profiles that some worker can run."""

    __slots__ = ("_accuracies", "_better", "_strands", "count", "model", "runnable", "strands")

    def __init__(self, model: Model, runnable: Sequence[Profile]) -> None:
        self.model = model
        self.runnable = runnable
        self.count = 0
        """Tickets that wait in all strands."""
        self._accuracies = sorted(variant.accuracy for variant in model.variants)
        self._strands: dict[StrandKey, Strand] = {}
        self.strands: Iterable[Strand] = self._strands.values()
        self._better: dict[tuple[Profile, int], float] = {}

    def copy(self) -> Lane:
        """The same, going on apart from this."""
        copied = copy(self)
        copied._strands = {key: strand.copy() for key, strand in self._strands.items()}
        copied.strands = copied._strands.values()
        copied._better = dict(self._better)
        return copied

    def key(self, ticket: Ticket, *, lenient: bool = False) -> StrandKey:
        below = bisect_left(self._accuracies, ticket.floor)
        return (below, ticket.variant, ticket.weight, ticket.rows, lenient)

    def find(self, key: StrandKey) -> Strand | None:
        return self._strands.get(key)

    def strand(self, key: StrandKey) -> Strand:
        """The strand for `key`, made if there is none; at least one profile must fit it."""
        found = self._strands.get(key)
        if found is None:
            found = self._strands[key] = self._new(key)
        return found

    def _new(self, key: StrandKey) -> Strand:
        below, pinned, weight, rows, lenient = key
        least = self._accuracies[below]
        gears: dict[str, list[Profile]] = {}
        for profile in self.runnable:
            fits = profile.variant.accuracy >= least and rows <= profile.max_batch
            if fits and pinned in (None, profile.variant.name):
                gears.setdefault(profile.device, []).append(profile)
        return Strand(self.model, gears, weight=weight, rows=rows, lenient=lenient)

    def better(self, profile: Profile, rows: int) -> float:
        """Seconds: the least p99 of any more accurate variant; infinite if there is none."""
        found = self._better.get((profile, rows))
        if found is None:
            accuracy = profile.variant.accuracy
            found = self._better[profile, rows] = min(
                [p.p99(rows) for p in self.runnable if p.variant.accuracy > accuracy],
                default=math.inf,
            )
        return found

    def relearn(self) -> None:
        """A profile has changed."""
        self._better.clear()
        for strand in self.strands:
            strand.measure_quickest()

    def forget(self, now: float) -> None:
        """Drop strands that are empty and have long had no ticket: pins and floors come from
        callers, and there is no end to them."""
        for key in [k for k, s in self._strands.items() if not len(s) and not s.live(now)]:
            del self._strands[key]

    def expect_classes(self, now: float) -> None:
        """Be ready for what the service classes declare before the first ticket comes."""
        for declared in self.model.classes.values():
            ticket = Ticket(
                id=-1,
                model=self.model.name,
                service_class=declared.name,
                arrival=now,
                deadline=now + declared.budget,
                floor=declared.floor,
                late=declared.late,
                weight=declared.weight,
            )
            key = self.key(ticket)
            if key[0] < len(self._accuracies) and declared.late is Late.DROP:
                below = self._accuracies[key[0]]
                if any(profile.variant.accuracy >= below for profile in self.runnable):
                    self.strand(key).expect(declared.budget, now)
