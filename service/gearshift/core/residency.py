"""Which variants are loaded on which device, where memory does not hold them all.

A slow loop beside the core: every few seconds it looks at what was asked for, lets a solver say
what would be best to have loaded (`Placing`), and changes what is only for a gain that pays for
the loading. The rules:

- What is loaded, is being loaded or still leaves never takes more than a device has.
- A variant larger than its device's memory is never placed there (`Memory.too_large` tells).
- Whoever can be answered stays answered: the last one that is loaded of those that can answer a
  need leaves when another one is. So where there is room for but one of them, it stays.
- What must make room takes no new tickets, and is unloaded when nobody who came before needs it
  any more. If that takes too long it stays.
- Nothing is unloaded that is not in the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from gearshift.core.catalog import Model
from gearshift.core.demand import Demand, Need, declared
from gearshift.core.lane import Away
from gearshift.core.profile import Profile
from gearshift.core.request import Ticket

FIRST, EVERY = 2.0, 5.0
"""Seconds after the first request, and after each look, until it is looked again."""

HOLD = 20.0
"""Seconds after a change in which there is no other."""

HORIZON = 60.0
"""Seconds within which a change must pay for what it costs."""

LEAST_GAIN = 0.005
"""Of the worth of all answers: a change that gains less is none."""

LONGEST_DRAIN = 30.0
"""Seconds after which what still leaves stays after all."""

RETRY = 60.0
"""Seconds until what failed to load is tried again."""


class Place(NamedTuple):
    """A variant of a model on a device."""

    model: str
    variant: str
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """`limits` are bytes by device; one that is not among them holds everything. `sizes` are bytes
    and `seconds` what loading takes, by model and variant. `shared` names the device whose memory
    another one uses."""

    limits: Mapping[str, float]
    sizes: Mapping[tuple[str, str], float]
    seconds: Mapping[tuple[str, str], float]
    shared: Mapping[str, str] = field(default_factory=dict)

    def place(self, model: str, profile: Profile) -> Place | None:
        """Where this profile's variant has to be loaded; None if it always is."""
        device = self.shared.get(profile.device, profile.device)
        if device not in self.limits:
            return None
        return Place(model, profile.runs.variant.name, device)

    def size(self, place: Place) -> float:
        return self.sizes.get(place[:2], 0.0)

    def too_large(self, place: Place) -> bool:
        """Whether it is larger than all the memory of its device."""
        return self.size(place) > self.limits[place.device]

    def used(self, places: Iterable[Place]) -> dict[str, float]:
        """Bytes by device."""
        used = dict.fromkeys(self.limits, 0.0)
        for place in places:
            used[place.device] += self.size(place)
        return used

    def with_room_for(
        self, chosen: Collection[Place], others: Collection[Place]
    ) -> frozenset[Place]:
        """What is chosen, and those of the others that fit in beside, the smallest first."""
        places, used = set(chosen), self.used(chosen)
        for place in sorted(set(others) - places, key=lambda place: (self.size(place), place)):
            if used[place.device] + self.size(place) <= self.limits[place.device]:
                used[place.device] += self.size(place)
                places.add(place)
        return frozenset(places)

    def loading(self, places: Iterable[Place]) -> float:
        """Seconds until all of these are loaded: one at a time on a device."""
        total = dict.fromkeys(self.limits, 0.0)
        for place in places:
            total[place.device] += self.seconds.get(place[:2], 0.0)
        return max(total.values(), default=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is to be decided: `demand` in requests a second by need, 0 for what must be possible
    though nobody asks; `profiles` by model; `workers` by device; `resident` is loaded now, `barred`
    cannot be."""

    demand: Mapping[Need, float]
    models: Mapping[str, Model]
    profiles: Mapping[str, Sequence[Profile]]
    workers: Mapping[str, int]
    memory: Memory
    resident: frozenset[Place]
    barred: frozenset[Place] = frozenset()

    def able(self, need: Need) -> list[Profile]:
        """The profiles that could answer the need, on devices that there are workers of."""
        return [
            profile
            for profile in self.profiles.get(need.model, ())
            if self.workers.get(profile.device) and need.accepts(profile)
        ]

    @property
    def answers(self) -> list[frozenset[Place]]:
        """By need that what is loaded can answer: all places that can, of which one always has to
        be loaded."""
        found = []
        for need in self.demand:
            able = [self.memory.place(need.model, profile) for profile in self.able(need)]
            if None not in able and not self.resident.isdisjoint(able):
                found.append(frozenset(place for place in able if place is not None))
        return found


def assumed(
    models: Mapping[str, Model],
    profiles: Mapping[str, Sequence[Profile]],
    workers: Mapping[str, int],
    memory: Memory,
) -> Problem:
    """Before anybody has asked: as if all classes of all models were asked for alike, and as much
    as keeps all workers busy with the most accurate variants. Nothing is loaded yet."""
    nothing = Problem(
        demand=declared(models),
        models=models,
        profiles=profiles,
        workers=workers,
        memory=memory,
        resident=frozenset(),
    )
    work = {}
    for need in nothing.demand:
        able = nothing.able(need)
        if able and need.pinned is None:
            best = max(able, key=lambda profile: (profile.variant.accuracy, -profile.row_cost))
            work[need] = best.row_cost
    rate = sum(workers.values()) / max(sum(work.values()), 1e-9)
    return replace(nothing, demand={**nothing.demand, **dict.fromkeys(work, rate)})


def filled(problem: Problem, chosen: Collection[Place]) -> frozenset[Place]:
    """With what else there is room for, the smallest first: before anybody has asked, room that
    is left over helps nobody."""
    memory = problem.memory
    every = {
        memory.place(model, each) for model, found in problem.profiles.items() for each in found
    }
    return memory.with_room_for(chosen, {place for place in every if place is not None})


class Placing(Protocol):
    """A solver. Both calls may take seconds."""

    def best(self, problem: Problem, *, keeping: bool = False) -> frozenset[Place]:
        """What should be loaded, within memory; `keeping` one that is loaded now of each of
        `problem.answers`."""

    def worth(self, problem: Problem, places: Collection[Place]) -> float:
        """What answers are worth with these places loaded, as a share of what they could be."""


def improved(problem: Problem, placing: Placing) -> frozenset[Place] | None:
    """What should be loaded instead, if that gains enough; None if all should stay as it is.

    A change costs: while what is new loads, only what is loaded before and after is there, and
    the last ones that answer a need. That and the gain until HORIZON has passed are weighed against
    LEAST_GAIN. What nothing new needs the room of stays as well.
    """
    target = placing.best(problem)
    if not reachable(problem, target):
        target = placing.best(problem, keeping=True)
    memory, new = problem.memory, target - problem.resident
    if not new:
        return None
    target = memory.with_room_for(target, problem.resident)
    loading = min(memory.loading(new), HORIZON)
    both = problem.resident & target
    last = [each for each in problem.answers if each.isdisjoint(both)]
    meanwhile = placing.worth(problem, both.union(*last) & problem.resident)
    after = placing.worth(problem, target)
    share = loading / HORIZON
    gain = share * meanwhile + (1.0 - share) * after - placing.worth(problem, problem.resident)
    return target if gain >= LEAST_GAIN else None


def reachable(problem: Problem, target: frozenset[Place]) -> bool:
    """Whether there is a way there on which nobody is left without an answer."""
    tried = Residency(problem.memory, problem.resident)
    tried.decided(target, 0.0, problem.answers)
    while tried.changing:
        doing = tried.steps(0.0, lambda place: False)
        for place in doing.unload:
            tried.unloaded(place)
        for place in doing.load:
            tried.loaded(place)
    return target <= tried.resident


class Doing(NamedTuple):
    """What is to be done now: which places begin to leave, which are unloaded because nobody needs
    them any more, which are loaded, and which stay after all."""

    leave: tuple[Place, ...] = ()
    unload: tuple[Place, ...] = ()
    load: tuple[Place, ...] = ()
    stay: tuple[Place, ...] = ()


class Residency:
    """What is loaded where, and on its way. Told of events, says what is to be done; the caller
    does it. Times in seconds."""

    def __init__(self, memory: Memory, resident: Collection[Place] = ()) -> None:
        self.memory = memory
        self.demand = Demand()
        self.resident: set[Place] = set(resident)
        self.leaving: dict[Place, float] = {}
        """Since when each takes no new tickets."""
        self.unloading: set[Place] = set()
        self.loading: set[Place] = set()
        self.target: frozenset[Place] = frozenset(resident)
        self._barred: dict[Place, float] = {}
        """Until when what failed to load is not tried again."""
        self._asked = False
        self._next = math.inf
        """When it is looked again."""
        self.changing = False
        """There is a target that is not reached yet."""
        self._answers: Sequence[frozenset[Place]] = ()

    # --- looking -----------------------------------------------------------------------

    def count(self, ticket: Ticket, model: Model, now: float) -> None:
        """A request came."""
        self.demand.count(ticket, model, now)
        if not self._asked:
            self._asked, self._next = True, now + FIRST

    def due(self, now: float) -> bool:
        """Whether it is time to look again."""
        return now >= self._next

    def problem(
        self,
        models: Mapping[str, Model],
        profiles: Mapping[str, Sequence[Profile]],
        workers: Mapping[str, int],
        now: float,
    ) -> Problem:
        """What is to be decided at `now`; `decided` is told what was."""
        self._next = math.inf
        self._barred = {place: until for place, until in self._barred.items() if until > now}
        asked = {n: rate for n, rate in self.demand.rates(now).items() if n.model in models}
        return Problem(
            demand=declared(models) | asked,
            models=models,
            profiles=profiles,
            workers=workers,
            memory=self.memory,
            resident=frozenset(self.resident),
            barred=frozenset(self._barred),
        )

    def decided(
        self,
        target: frozenset[Place] | None,
        now: float,
        answers: Sequence[frozenset[Place]] = (),
    ) -> None:
        """What `improved` said of the problem, None also if that failed; and its `answers`."""
        if target is None:
            self._next = now + EVERY
        else:
            self.target, self.changing, self._answers = target, True, answers

    def exchange(self, memory: Memory, resident: Collection[Place], now: float) -> None:
        """Between two changes: variants have come or gone, and with them sizes and room."""
        self.memory, self.resident = memory, set(resident)
        self.target = frozenset(resident)
        if self._asked:
            self._next = min(self._next, now + FIRST)

    # --- doing -------------------------------------------------------------------------

    def steps(self, now: float, in_use: Callable[[Place], bool]) -> Doing:
        """What can be done now towards the target; call it after each event, and now and then.
        `in_use` says whether anything runs on a place that leaves, or waits that may."""
        stay = [place for place, since in self.leaving.items() if now - since > LONGEST_DRAIN]
        if stay:
            for place in stay:
                del self.leaving[place]
            self.resident.update(stay)
            self.target = frozenset(self.resident | self.loading)
        unload = [place for place in self.leaving if not in_use(place)]
        for place in unload:
            del self.leaving[place]
        self.unloading.update(unload)
        load, leave = [], []
        missing = sorted(self.target - self.resident - self.loading, key=self.memory.size)
        used = self.memory.used(self.taken)
        going = self.memory.used([*self.leaving, *self.unloading])
        for device, limit in self.memory.limits.items():
            wanted = [p for p in missing if p.device == device and p not in self.unloading]
            if not wanted or any(place.device == device for place in self.loading):
                continue
            need = self.memory.size(wanted[0])
            if used[device] + need <= limit:
                load.append(wanted[0])
                continue
            for place in sorted(self.resident - self.target, key=self.memory.size, reverse=True):
                if used[device] + need - going[device] <= limit:
                    break
                if place.device == device and self._spared(place):
                    leave.append(place)
                    self.resident.remove(place)
                    going[device] += self.memory.size(place)
        self.loading.update(load)
        self.leaving.update(dict.fromkeys(leave, now))
        if self.changing and not (self.loading or self.leaving or self.unloading or unload):
            # It is done, or does not go any further: what is there is what it came to.
            self.target = frozenset(self.resident)
            self.changing, self._next = False, now + HOLD
        return Doing(tuple(leave), tuple(unload), tuple(load), tuple(stay))

    def _spared(self, place: Place) -> bool:
        """Whether all that it can answer something else that is loaded can, too."""
        return all(
            place not in able or any(other in self.resident for other in able if other != place)
            for able in self._answers
        )

    def loaded(self, place: Place) -> None:
        """It can run now."""
        self.loading.discard(place)
        self.resident.add(place)

    def failed(self, place: Place, now: float) -> None:
        """It could not be loaded: the rest of the change goes on without it."""
        self.loading.discard(place)
        self._barred[place] = now + RETRY
        self.target -= {place}

    def unloaded(self, place: Place) -> None:
        """Its memory is free."""
        self.unloading.discard(place)

    @property
    def taken(self) -> list[Place]:
        """All that takes memory."""
        return [*self.resident, *self.leaving, *self.unloading, *self.loading]

    def away(self, model: str, profiles: Iterable[Profile]) -> Away:
        """What the scheduler has to know about this model's profiles."""
        absent, leaving = set(), set()
        for profile in profiles:
            place = self.memory.place(model, profile)
            if place in self.leaving:
                leaving.add(profile)
            elif place is not None and place not in self.resident:
                absent.add(profile)
        return Away(frozenset(absent), frozenset(leaving))
