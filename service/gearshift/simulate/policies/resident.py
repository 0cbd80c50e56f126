"""The core as served, where memory does not hold every variant: what it loads, and two baselines
that load once and for all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType

from gearshift.core.catalog import Catalog
from gearshift.core.decisions import Admitted, Decisions, Drop, Refused
from gearshift.core.profile import Profile, Profiles
from gearshift.core.request import Ticket
from gearshift.core.residency import Memory, Place, Residency, assumed, improved
from gearshift.errors import ConfigurationInvalid
from gearshift.simulate.extra import need
from gearshift.simulate.policies.gearshift import Gearshift
from gearshift.simulate.policy import Policy, PolicyFactory
from gearshift.simulate.shelves import Shelves

Order = Callable[[Memory, str, Profile], float]
"""What has less of it is loaded first, as long as there is room."""


class Static(Gearshift):
    """The scheduler and its prices, over what is loaded at the beginning."""

    def __init__(
        self,
        catalog: Catalog,
        profiles: Profiles,
        workers: Mapping[int, str],
        bonus: float,
        memory: Memory,
        resident: Iterable[Place],
    ) -> None:
        super().__init__(catalog, profiles, workers, bonus)
        self._models = catalog.models
        self._residency = Residency(memory, [*resident])
        self.shelves = Shelves(memory, self._residency.resident)
        self._drops: list[Drop] = []
        self._tell(catalog.models, 0.0)

    def _tell(self, models: Iterable[str], now: float) -> None:
        """Let the scheduler know what is loaded of these models."""
        for name in models:
            away = self._residency.away(name, self.profiles.everywhere(name))
            self._drops += self.scheduler.reside(self._models[name], away, now)

    def decide(self, now: float) -> Decisions:
        decisions = super().decide(now)
        if self._drops:
            decisions = Decisions((*self._drops, *decisions.actions), decisions.wake_at)
            self._drops = []
        return decisions


class Resident(Static):
    """The same with the slow loop that decides what is loaded: as the server runs it, but that the
    solver takes no time."""

    def __init__(
        self,
        catalog: Catalog,
        profiles: Profiles,
        workers: Mapping[int, str],
        bonus: float,
        memory: Memory,
    ) -> None:
        from gearshift.residency import Program

        self._placing = Program()
        self._workers = Counter(workers.values())
        everything = {name: profiles.everywhere(name) for name in catalog.models}
        first = assumed(catalog.models, everything, self._workers, memory)
        super().__init__(catalog, profiles, workers, bonus, memory, self._placing.best(first))
        self._everything = {name: self.profiles.everywhere(name) for name in catalog.models}

    def admit(self, ticket: Ticket, now: float) -> Admitted | Refused:
        self._residency.count(ticket, self._models[ticket.model], now)
        return super().admit(ticket, now)

    def plan(self, now: float) -> None:
        residency = self._residency
        loaded = self.shelves.done(now)
        for place in loaded:
            residency.loaded(place)
        if residency.due(now):
            problem = residency.problem(self._models, self._everything, self._workers, now)
            residency.decided(improved(problem, self._placing), now, problem.answers)
        doing = residency.steps(now, self._in_use)
        for place in doing.unload:
            self.shelves.unload(place)
            residency.unloaded(place)
        for place in doing.load:
            self.shelves.load(place, now)
        changed = [*loaded, *doing.leave, *doing.unload, *doing.stay]
        self._tell(dict.fromkeys(place.model for place in changed), now)
        super().plan(now)

    def _in_use(self, place: Place) -> bool:
        return any(
            self.scheduler.in_use(self._models[place.model], profile)
            for profile in self._everything[place.model]
            if self._residency.memory.place(place.model, profile) == place
        )


def _static(
    order: Order,
    catalog: Catalog,
    profiles: Profiles,
    workers: Mapping[int, str],
    bonus: float,
    memory: Memory,
) -> Policy:
    """Loads by `order` what fits, device by device, once and for all."""
    chosen: list[Place] = []
    every = [(name, profile) for name in catalog.models for profile in profiles.everywhere(name)]
    for name, profile in sorted(every, key=lambda each: order(memory, *each)):
        place = memory.place(name, profile)
        if place is not None:
            used = memory.used([*chosen, place])[place.device]
            if used <= memory.limits[place.device]:
                chosen.append(place)
    return Static(catalog, profiles, workers, bonus, memory, chosen)


def _loss(memory: Memory, model: str, profile: Profile) -> float:
    return -profile.variant.accuracy


def _size(memory: Memory, model: str, profile: Profile) -> float:
    return memory.sizes[model, profile.variant.name]


RESIDENT: Mapping[str, Callable[[Catalog, Profiles, Mapping[int, str], float, Memory], Policy]] = (
    MappingProxyType(
        {
            "gearshift": Resident,
            "accurate-first": partial(_static, _loss),
            "smallest-first": partial(_static, _size),
        }
    )
)
"""Policies by name that know what devices hold."""


def find_resident(name: str, on_time_bonus: float, memory: Memory) -> PolicyFactory:
    """The policy of that name for devices with so much memory; ConfigurationInvalid naming those
    that exist, or the extra that it needs."""
    found = RESIDENT.get(name)
    if found is None:
        raise ConfigurationInvalid(
            f"--policy {name}: no such policy knows what devices hold; with --memory choose one of"
            f" {', '.join(RESIDENT)}"
        )
    if found is Resident:
        need("scipy", "the policy gearshift with --memory")

    def make(catalog: Catalog, profiles: Profiles, workers: Mapping[int, str]) -> Policy:
        return found(catalog, profiles, workers, on_time_bonus, memory)

    return make
