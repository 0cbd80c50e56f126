"""A lane: the queue of one model's tickets, sorted into strands that can be answered alike."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from copy import copy

from gearshift.core.cascade import Together
from gearshift.core.catalog import Late, Model, Standing
from gearshift.core.profile import Profile
from gearshift.core.request import Ticket
from gearshift.core.router import may_answer
from gearshift.core.strand import Strand

StrandKey = tuple[int, str | None, float, int, bool, str | None]
"""How many of the variants are below the floor, the pinned variant, weight, rows, whether a late
answer still has value, and the canary that its tickets are given to."""


class Lane:
    """All strands of one model. `runnable` are the profiles that some worker can run."""

    __slots__ = (
        "_accuracies",
        "_better",
        "_owed",
        "_strands",
        "canaries",
        "count",
        "model",
        "runnable",
        "strands",
    )

    def __init__(self, model: Model, runnable: Sequence[Profile]) -> None:
        self.model = model
        self.runnable = runnable
        self.count = 0
        """Tickets that wait in all strands."""
        self._accuracies = sorted(variant.accuracy for variant in model.variants)
        self.canaries = [v for v in model.variants if v.standing is Standing.CANARY]
        self._owed = dict.fromkeys([canary.name for canary in self.canaries], 0.0)
        """Tickets that each canary has still to get, at most one."""
        self._strands: dict[StrandKey, Strand] = {}
        self.strands: Iterable[Strand] = self._strands.values()
        self._better: dict[tuple[Profile, int], float] = {}

    def copy(self) -> Lane:
        """The same, going on apart from this."""
        copied = copy(self)
        copied._strands = {key: strand.copy() for key, strand in self._strands.items()}
        copied.strands = copied._strands.values()
        copied._better, copied._owed = dict(self._better), dict(self._owed)
        return copied

    def key(self, ticket: Ticket, *, lenient: bool = False, canary: str | None = None) -> StrandKey:
        below = bisect_left(self._accuracies, ticket.floor)
        return (below, ticket.variant, ticket.weight, ticket.rows, lenient, canary)

    def draw(self, ticket: Ticket) -> str | None:
        """The canary that this ticket is given to, if it is its turn: an even share of those that
        it could answer in time and above the floor."""
        if ticket.variant is not None:
            return None
        budget = ticket.budget if ticket.late is Late.DROP else math.inf
        for canary in self.canaries:
            able = any(
                profile.variant is canary and profile.p99(ticket.rows) <= budget
                for profile in self.runnable
            )
            if able and canary.accuracy >= ticket.floor:
                owed = self._owed[canary.name] + canary.share
                self._owed[canary.name] = owed - 1.0 if owed >= 1.0 else owed
                if owed >= 1.0:
                    return canary.name
        return None

    def find(self, key: StrandKey) -> Strand | None:
        return self._strands.get(key)

    def strand(self, key: StrandKey) -> Strand:
        """The strand for `key`, made if there is none; at least one profile must fit it."""
        found = self._strands.get(key)
        if found is None:
            found = self._strands[key] = self._new(key)
        return found

    def fitting(self, key: StrandKey) -> list[Profile]:
        """The profiles that tickets of this strand accept."""
        below, pinned, _, rows, _, canary = key
        if below >= len(self._accuracies):
            return []
        least = self._accuracies[below]
        return [
            profile
            for profile in self.runnable
            if profile.least_accuracy >= least
            and rows <= profile.max_batch
            and may_answer(profile, pinned or canary)
        ]

    def _new(self, key: StrandKey) -> Strand:
        gears: dict[str, list[Profile]] = {}
        for profile in self.fitting(key):
            gears.setdefault(profile.device, []).append(profile)
        _, _, weight, rows, lenient, _ = key
        return Strand(self.model, gears, weight=weight, rows=rows, lenient=lenient)

    def better(self, profile: Profile, rows: int) -> float:
        """Seconds: the least p99 of any more accurate variant; infinite if there is none."""
        found = self._better.get((profile, rows))
        if found is None:
            accuracy = profile.variant.accuracy
            better = [p for p in self.runnable if p.serving and p.variant.accuracy > accuracy]
            found = min([p.p99(rows) for p in better], default=math.inf)
            self._better[profile, rows] = found
        return found

    def relearn(self) -> None:
        """A profile has changed."""
        self._better.clear()
        for profile in self.runnable:
            if isinstance(profile, Together):
                profile.refresh()
        for strand in self.strands:
            strand.measure_quickest()

    def inherit(self, old: Lane) -> None:
        """Go on with what the strands of `old` know of their tickets: the same model's before it
        was revised, or before it was exchanged for this generation."""
        for key, strand in old._strands.items():
            below = 0
            if key[0]:
                gears = (profile for found in strand.gears.values() for profile in found)
                least = min(profile.least_accuracy for profile in gears)
                below = bisect_left(self._accuracies, least)
            follows = (below, *key[1:])
            if strand.rate > 0.0 and self.fitting(follows):
                self.strand(follows).inherit(strand)

    def learn_from(self, old: Lane) -> None:
        """Go on with what is known of the latency of those variants that both generations have."""
        for profile in self.runnable:
            for before in old.runnable:
                if profile.alike(before):
                    profile.go_on_from(before)
        self.relearn()

    def leave(self) -> None:
        """No new tickets come any more: the lane of another generation expects them now."""
        for strand in self.strands:
            strand.leave()

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
                generation=self.model.generation,
            )
            key = self.key(ticket)
            if declared.late is Late.DROP and self.fitting(key):
                self.strand(key).expect(declared.budget, now)
