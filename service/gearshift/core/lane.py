"""A lane: the queue of one model's tickets, sorted into strands that can be answered alike."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from typing import NamedTuple

from gearshift.core.breaker import Breaker
from gearshift.core.cascade import Together
from gearshift.core.catalog import Late, Model, Standing
from gearshift.core.profile import Profile
from gearshift.core.request import Ticket
from gearshift.core.router import fastest, may_answer, not_resident, unavailable
from gearshift.core.second_chance import NOBODY, Alone
from gearshift.core.strand import Strand
from gearshift.errors import BudgetInfeasible, FloorUnreachable

StrandKey = tuple[int, str | None, float, int, bool, str | None, str | None, bool]
"""How many of the variants are below the floor, the pinned variant, weight, rows, whether a late
answer still has value, the canary (or variant on trial) that its tickets are given to, where
each of them runs alone, the variant that it must not run on, and whether its tickets came before
a variant began to leave, so that they may still run on it."""

Out = Mapping[Profile, Breaker]
"""The profiles that nothing runs on for now, but for trials."""


class Away(NamedTuple):
    """Profiles of variants that are not loaded on their device (`gearshift.core.residency`):
    nothing runs on those in `absent`, and on `leaving` only what waited before they began to."""

    absent: frozenset[Profile] = frozenset()
    leaving: frozenset[Profile] = frozenset()


EVERYTHING_HERE = Away()


class Lane:
    """All strands of one model. `runnable` are the profiles that some worker can run, `out` those
    of them that keep failing (`gearshift.core.breaker`), `away` those that are not loaded."""

    __slots__ = (
        "_accuracies",
        "_alone",
        "_better",
        "_owed",
        "_strands",
        "away",
        "canaries",
        "count",
        "draws",
        "model",
        "out",
        "runnable",
        "strands",
    )

    def __init__(
        self,
        model: Model,
        runnable: Sequence[Profile],
        out: Out | None = None,
        away: Away = EVERYTHING_HERE,
    ) -> None:
        self.model = model
        self.runnable = runnable
        self.out: Out = out or {}
        self.away = away
        self.count = 0
        """Tickets that wait in all strands."""
        self._accuracies = sorted(variant.accuracy for variant in model.variants)
        self.canaries = [v for v in model.variants if v.standing is Standing.CANARY]
        self._owed = dict.fromkeys([canary.name for canary in self.canaries], 0.0)
        """Tickets that each canary has still to get, at most one."""
        self.draws = bool(self.canaries or self.out)
        """Some tickets are given to a variant that others are not."""
        self._alone: dict[tuple[Profile, int], Alone] = {}
        self._strands: dict[StrandKey, Strand] = {}
        self.strands: Iterable[Strand] = self._strands.values()
        self._better: dict[tuple[Profile, int], float] = {}

    def copy(self) -> Lane:
        """The same, going on apart from this."""
        copied = copy(self)
        copied._strands = {key: strand.copy() for key, strand in self._strands.items()}
        copied.strands = copied._strands.values()
        copied._better, copied._owed = dict(self._better), dict(self._owed)
        copied._alone = dict(self._alone)
        return copied

    def key(
        self,
        ticket: Ticket,
        *,
        lenient: bool = False,
        canary: str | None = None,
        trial: bool = False,
        before: bool = False,
    ) -> StrandKey:
        below = bisect_left(self._accuracies, ticket.floor)
        without = NOBODY if trial else ticket.without
        return (below, ticket.variant, ticket.weight, ticket.rows, lenient, canary, without, before)

    def draw(self, ticket: Ticket, now: float) -> tuple[str | None, bool]:
        """The variant that this ticket is given to, if it is its turn, and whether that is a trial
        of one that is out. A canary gets an even share of the tickets that it could answer in time
        and above the floor."""
        if ticket.without is not None:
            return None, False
        for profile in self.out:
            breakers = self._breakers(profile)
            if all(each.may_try(now) for each in breakers) and self._risks(ticket, profile):
                return profile.variant.name, True
        if ticket.variant is not None:
            return None, False
        budget = ticket.budget if ticket.late is Late.DROP else math.inf
        for canary in self.canaries:
            able = any(
                profile.variant is canary
                and profile.p99(ticket.rows) <= budget
                and self._usable(profile)
                for profile in self.runnable
            )
            if able and canary.accuracy >= ticket.floor:
                owed = self._owed[canary.name] + canary.share
                self._owed[canary.name] = owed - 1.0 if owed >= 1.0 else owed
                if owed >= 1.0:
                    return canary.name, False
        return None, False

    def _risks(self, ticket: Ticket, profile: Profile) -> bool:
        """Whether the ticket may try a profile that is out: nobody else waits to do so, and if it
        fails there is time for another variant; or there is no other, and it would be refused."""
        variant, rows = profile.variant, ticket.rows
        if not self._here(profile):
            return False
        chosen = variant.standing is not Standing.WITHDRAWN
        if not (chosen if ticket.variant is None else ticket.variant == variant.name):
            return False
        if variant.accuracy < ticket.floor:
            return False
        if rows > profile.max_batch or any(
            len(strand) and key[6] is not None and key[5] == variant.name
            for key, strand in self._strands.items()
        ):
            return False
        others = self._able(ticket.floor, ticket.variant, rows)
        needed = profile.p99(rows) + min([other.p99(rows) for other in others], default=0.0)
        return ticket.late is Late.SERVE or needed <= ticket.budget

    def check(self, ticket: Ticket, now: float, *, before: bool = False) -> None:
        """Raises FloorUnreachable or BudgetInfeasible if no variant could ever answer the ticket,
        NotResident if one could that is not loaded, ExecutorUnavailable if one could that is out.
        `before`: it came before any that leaves began to."""
        if ticket.without is not None:
            if not self.fitting(self.key(ticket, before=before)):
                raise unavailable(ticket, None, 0.0)
            return
        usable = [profile for profile in self.runnable if self._usable(profile, before)]
        try:
            fastest(ticket, self.model, usable)
        except (FloorUnreachable, BudgetInfeasible):
            if len(usable) == len(self.runnable):
                raise
            wanted = fastest(ticket, self.model, self.runnable)
            here = [profile for profile in self.runnable if self._here(profile, before)]
            try:
                wanted = fastest(ticket, self.model, here)
            except (FloorUnreachable, BudgetInfeasible):
                raise not_resident(ticket, wanted, here) from None
            waits = [
                max(each.retry_after(now) for each in self._breakers(profile))
                for profile in self.out
            ]
            # One that is tried at this moment is known as soon as its run is over.
            raise unavailable(ticket, wanted, max(min(waits), wanted.p99(ticket.rows))) from None

    def _breakers(self, profile: Profile) -> list[Breaker]:
        """Of all devices on which its variant is out: a trial may run on any of them, and must not
        come before the time of one that has just failed."""
        name = profile.variant.name
        return [breaker for each, breaker in self.out.items() if each.variant.name == name]

    def _is_out(self, profile: Profile) -> bool:
        """Whether nothing may run on it; on a cascade, if one of its variants is out."""
        if profile.runs in self.out:
            return True
        return isinstance(profile, Together) and profile.then in self.out

    def _here(self, profile: Profile, before: bool = False) -> bool:
        """Whether it is loaded, for tickets that came `before` what leaves began to or now; a
        cascade is if both of its variants are."""
        if self.away is EVERYTHING_HERE:
            return True
        gone = self.away.absent if before else self.away.absent | self.away.leaving
        return profile.runs not in gone and not (
            isinstance(profile, Together) and profile.then in gone
        )

    def _usable(self, profile: Profile, before: bool = False) -> bool:
        return not self._is_out(profile) and self._here(profile, before)

    def resident(self, profile: Profile) -> bool:
        """Whether new tickets may run on it, as far as what is loaded goes."""
        return self._here(profile)

    @property
    def not_resident(self) -> frozenset[str]:
        """The names of the variants that are loaded nowhere."""
        if self.away is EVERYTHING_HERE:
            return frozenset()
        here = {profile.variant.name for profile in self.alone if self._here(profile)}
        return frozenset(variant.name for variant in self.model.variants) - here

    @property
    def alone(self) -> list[Profile]:
        """The profiles of its variants, without those of cascades."""
        return [profile for profile in self.runnable if profile.cascade is None]

    def needs(self, leaving: Profile) -> bool:
        """Whether somebody waits who came before this profile began to leave."""
        return leaving in self.away.leaving and any(
            key[7] and len(strand) for key, strand in self._strands.items()
        )

    def _able(
        self, floor: float, wanted: str | None, rows: int, before: bool = False
    ) -> list[Profile]:
        """The profiles that may answer such tickets now."""
        return [
            profile
            for profile in self.runnable
            if profile.least_accuracy >= floor
            and rows <= profile.max_batch
            and may_answer(profile, wanted)
            and self._usable(profile, before)
        ]

    def find(self, key: StrandKey) -> Strand | None:
        return self._strands.get(key)

    def strand(self, key: StrandKey) -> Strand:
        """The strand for `key`, made if there is none; at least one profile must fit it."""
        found = self._strands.get(key)
        if found is None:
            found = self._strands[key] = self._new(key)
        return found

    def place(self, key: StrandKey, old: Strand) -> Strand:
        """The strand for `key` and tickets that waited in `old`. To one for those that came before
        a variant began to leave no others come; it goes on with what is known of how they did."""
        found = self._strands.get(key)
        if found is None:
            found = self.strand(key)
            if key[7]:
                found.inherit(old)
                found.leave()
        return found

    def late(self, ticket: Ticket, strand: Strand) -> Strand | None:
        """Where a ticket that waited in `strand` goes on waiting once its deadline has passed. A
        canary's joins all others; so does one for a trial, unless all others are out, too."""
        own = next(key for key, each in self._strands.items() if each is strand)
        for key in (
            self.key(ticket, lenient=True, before=own[7]),
            (*own[:4], True, *own[5:]),
        ):
            if self.fitting(key):
                return self.strand(key)
        return None

    def fitting(self, key: StrandKey) -> list[Profile]:
        """The profiles that tickets of this strand accept."""
        below, pinned, _, rows, _, canary, without, before = key
        if below >= len(self._accuracies):
            return []
        least, wanted = self._accuracies[below], pinned or canary
        if without is None:
            return self._able(least, wanted, rows, before)
        if canary is not None:  # on trial
            return [
                self._by_itself(profile, rows)
                for profile in self.out
                if may_answer(profile, wanted)
                and profile.variant.accuracy >= least
                and rows <= profile.max_batch
                and self._here(profile, before)
            ]
        return [
            self._by_itself(profile, rows)
            for profile in self._able(least, wanted, rows, before)
            if profile.cascade is None and profile.variant.name != without
        ]

    def _by_itself(self, profile: Profile, rows: int) -> Alone:
        found = self._alone.get((profile, rows))
        if found is None:
            found = self._alone[profile, rows] = Alone(profile, rows)
        return found

    def _new(self, key: StrandKey) -> Strand:
        gears: dict[str, list[Profile]] = {}
        for profile in self.fitting(key):
            gears.setdefault(profile.device, []).append(profile)
        _, _, weight, rows, lenient, _, _, before = key
        return Strand(self.model, gears, weight=weight, rows=rows, lenient=lenient, before=before)

    def better(self, profile: Profile, rows: int) -> float:
        """Seconds: the least p99 of any more accurate variant; infinite if there is none, and
        below zero if it is that of one which is out."""
        found = self._better.get((profile, rows))
        if found is None:
            accuracy = profile.variant.accuracy
            better = [p for p in self.runnable if p.serving and p.variant.accuracy > accuracy]
            broken = min([p.p99(rows) for p in better if self._is_out(p)], default=math.inf)
            found = min([p.p99(rows) for p in better if not self._is_out(p)], default=math.inf)
            if broken < found:
                found = -broken
            self._better[profile, rows] = found
        return found

    def relearn(self) -> None:
        """A profile has changed."""
        self._better.clear()
        for profile in self.runnable:
            if isinstance(profile, Together):
                profile.refresh()
        for alone in self._alone.values():
            alone.refresh()
        for strand in self.strands:
            strand.measure_quickest()

    def inherit(self, old: Lane) -> None:
        """Go on with what the strands of `old` know of their tickets: the same model's before it
        was revised, or before it was exchanged for this generation."""
        for key, strand in old._strands.items():
            if key[7]:
                continue  # no new ones come to it
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
        if self._alone and all(key[6] is None for key in self._strands):
            self._alone.clear()

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
