"""All lanes: those of the models that are served, and those of generations that leave.

A model that is exchanged for another generation of it, or unloaded, takes no new tickets. Its lane
stays, with its own variants and profiles, for the tickets that it has, until it is told that
nothing is left of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, ValuesView
from copy import copy
from typing import NamedTuple

from gearshift.core.cascade import with_cascades
from gearshift.core.catalog import Model
from gearshift.core.lane import Lane
from gearshift.core.profile import Profiles
from gearshift.core.request import Ticket

Key = tuple[str, int]
"""The name of a model and the number of its generation."""


class Exchanged(NamedTuple):
    """What an exchange has changed: lanes that take tickets from now on, each with the one that
    took them before it, and all those that take none any more."""

    fresh: Sequence[tuple[Lane, Lane | None]]
    leaving: Sequence[Lane]


class Lanes:
    """Lanes by model and generation. `every` is a live view of all of them, for the hot path."""

    __slots__ = ("_all", "_served", "every", "leaving")

    def __init__(self) -> None:
        self._served: dict[str, int] = {}
        """By model, the generation that takes tickets."""
        self.leaving: dict[str, list[int]] = {}
        """By model, those that take none any more, the oldest first; only where there are some."""
        self._all: dict[Key, Lane] = {}
        self.every: ValuesView[Lane] = self._all.values()

    def copy(self) -> Lanes:
        """The same, going on apart from this."""
        copied = copy(self)
        copied._all = {key: lane.copy() for key, lane in self._all.items()}
        copied.every = copied._all.values()
        return copied

    def at(self, name: str, generation: int) -> Lane:
        """The lane of this generation of a model; KeyError if there is none."""
        return self._all[name, generation]

    def of(self, model: Model) -> Lane:
        """The lane of the model's generation, whatever has been learned about it since."""
        return self._all[model.name, model.generation]

    def serves(self, name: str, generation: int) -> bool:
        """Does this generation of a model take new tickets?"""
        return self._served.get(name) == generation

    def replace(self, lane: Lane) -> None:
        """This one in the place of the one that its generation had."""
        self._all[lane.model.name, lane.model.generation] = lane

    def ahead(self, ticket: Ticket) -> int:
        """How many tickets of other generations wait for the same as this one, and are due no
        later: they share its workers, though not its lane."""
        count = 0
        for generation in self.leaving.get(ticket.model, ()):
            if generation != ticket.generation:
                lane = self._all[ticket.model, generation]
                strand = lane.find(lane.key(ticket))
                if strand is not None:
                    count += strand.count_until(ticket.deadline)
        return count

    def waiting(self, name: str) -> int:
        """How many tickets of a model wait, in all its generations."""
        generations = [*self.leaving.get(name, ()), self._served.get(name)]
        return sum(self._all[name, each].count for each in generations if each is not None)

    def exchange(
        self, models: Mapping[str, Model], profiles: Profiles, devices: Collection[str]
    ) -> Exchanged:
        """Serve these models from now on, and no others. A model of the generation that is served
        stays as it is, with all that has been learned.

        ValueError, and nothing is changed, if another one runs on none of the `devices`, or has
        the number of a generation that has not left yet.
        """
        others = [m for m in models.values() if self._served.get(m.name) != m.generation]
        # Before anything changes: each of them may be wrong.
        made = [self._made(model, profiles, devices) for model in others]
        leaving = []
        before: dict[str, Lane] = {}
        for name, generation in list(self._served.items()):
            if name not in models or models[name].generation != generation:
                del self._served[name]
                self.leaving.setdefault(name, []).append(generation)
                before[name] = self._all[name, generation]
                leaving.append(before[name])
        for lane in made:
            self._served[lane.model.name] = lane.model.generation
            self.replace(lane)
        return Exchanged([(lane, before.get(lane.model.name)) for lane in made], leaving)

    def _made(self, model: Model, profiles: Profiles, devices: Collection[str]) -> Lane:
        if (model.name, model.generation) in self._all:
            raise ValueError(
                f"model {model.name!r} has requests left of another generation {model.generation};"
                " a new generation needs a number that was never used"
            )
        # Only what some worker can run counts: a fast variant on an absent device helps nobody.
        runnable = [p for p in profiles.everywhere(model.name) if p.device in devices]
        if not runnable:
            known = ", ".join(sorted(devices)) or "no workers"
            raise ValueError(f"model {model.name!r} runs on none of the workers' devices ({known})")
        return Lane(model, with_cascades(model, runnable))

    def retire(self, model: Model) -> Lane:
        """Nothing is left of this generation, which takes no tickets any more: its lane, which is
        then no longer here."""
        generations = self.leaving[model.name]
        generations.remove(model.generation)
        if not generations:
            del self.leaving[model.name]
        return self._all.pop((model.name, model.generation))
