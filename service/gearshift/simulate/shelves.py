"""What is loaded in a simulation, and the judge of it: memory, and what runs where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Protocol, runtime_checkable

from gearshift.core.profile import Profile
from gearshift.core.residency import Memory, Place
from gearshift.simulate.policy import ContractBroken

ROUNDING = 1e-6
"""Megabytes."""


class Shelves:
    """What each device holds. A device loads one variant at a time, which takes its `seconds`;
    meanwhile its workers go on. Unloading takes no time."""

    def __init__(self, memory: Memory, resident: Collection[Place]) -> None:
        self.memory = memory
        self.loads = 0
        self.seconds = 0.0
        """Spent on loading, on all devices together."""
        self._resident: set[Place] = set()
        self._loading: dict[Place, float] = {}
        self._running: Counter[Place] = Counter()
        for place in resident:
            self._add(place)
        self._resident |= self._loading.keys()
        self._loading.clear()

    def load(self, place: Place, now: float) -> None:
        """Begin to load it."""
        if any(each.device == place.device for each in self._loading):
            raise ContractBroken(f"{place.device} loads something else already")
        self._add(place)
        seconds = self.memory.seconds[place[:2]]
        self._loading[place] = now + seconds
        self.loads += 1
        self.seconds += seconds

    def _add(self, place: Place) -> None:
        if place in self._resident or place in self._loading:
            raise ContractBroken(f"{place} is loaded already")
        self._loading[place] = 0.0
        used = self.memory.used([*self._resident, *self._loading])[place.device]
        if used > self.memory.limits[place.device] + ROUNDING:
            raise ContractBroken(
                f"{used:g} MB on {place.device}, which has {self.memory.limits[place.device]:g}"
            )

    def done(self, now: float) -> list[Place]:
        """What has been loaded since the last call."""
        found = [place for place, end in self._loading.items() if end <= now]
        for place in found:
            del self._loading[place]
        self._resident.update(found)
        return found

    def unload(self, place: Place) -> None:
        """It is here no longer."""
        if self._running[place]:
            raise ContractBroken(f"{place} is unloaded while it runs")
        self._resident.remove(place)

    def begin(self, model: str, profile: Profile) -> None:
        """It runs."""
        place = self.memory.place(model, profile)
        if place is not None:
            if place not in self._resident:
                raise ContractBroken(f"{place} is not loaded, but the policy runs it")
            self._running[place] += 1

    def end(self, model: str, profile: Profile) -> None:
        """A run of it is over."""
        place = self.memory.place(model, profile)
        if place is not None:
            self._running[place] -= 1


@runtime_checkable
class Shelved(Protocol):
    """A policy that knows that devices do not hold everything, and loads what it runs."""

    shelves: Shelves
