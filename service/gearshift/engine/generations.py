"""Generations of models that leave: what is left of each, and who is told when that is nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import structlog

from gearshift.core.catalog import Catalog, Model, Standing
from gearshift.core.revision import revised, shared
from gearshift.core.scheduler import Scheduler

log = structlog.get_logger(__name__)

Retired = Callable[[Model], None]
"""Is told of a generation of which nothing is left."""

Key = tuple[str, int]
Value = TypeVar("Value")


@dataclass(slots=True)
class Leaving:
    """A generation that takes no new requests. `held` counts its requests in flight and its
    batches under way."""

    model: Model
    retired: Retired
    held: int


class Generations:
    """Those that leave, by model and number. Costs nothing while there are none."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.leaving: dict[Key, Leaving] = {}

    def leave(self, model: Model, held: Iterable[Model], retired: Retired) -> None:
        """The model takes no new requests from now on; `held` are the models of all requests in
        flight and of all batches under way."""
        key = _key(model)
        count = sum(_key(each) == key for each in held)
        self.leaving[key] = Leaving(model, retired, count)
        if not count:
            self._soon(key)

    def count(self, name: str) -> int:
        """How many generations of a model leave."""
        return sum(leaving.model.name == name for leaving in self.leaving.values())

    def revised(
        self, served: Model, accuracies: Mapping[str, float], standings: Mapping[str, Standing]
    ) -> list[Model]:
        """Those generations of the served model that leave, with what has been learned of the
        variants that they have in common with it."""
        found = []
        for leaving in self.leaving.values():
            if leaving.model.name == served.name:
                names = shared(leaving.model, served)
                leaving.model = revised(
                    leaving.model, _of(names, accuracies), _of(names, standings)
                )
                found.append(leaving.model)
        return found

    def taken(self, model: Model) -> None:
        """A batch of this model begins: those who wait when it leaves have theirs later."""
        leaving = self.leaving.get(_key(model))
        if leaving is not None:
            leaving.held += 1

    def released(self, model: Model) -> None:
        """A request of this model has ended, or a batch."""
        key = _key(model)
        leaving = self.leaving.get(key)
        if leaving is not None:
            leaving.held -= 1
            if not leaving.held:
                self._soon(key)

    def _soon(self, key: Key) -> None:
        # In the next turn: who has just settled the last of it still tells of that.
        asyncio.get_running_loop().call_soon(self._retire, key)

    def _retire(self, key: Key) -> None:
        leaving = self.leaving.pop(key)
        self._scheduler.retire(leaving.model)
        try:
            leaving.retired(leaving.model)
        except Exception:
            log.exception(
                "what a generation held was not given back",
                model=leaving.model.name,
                generation=leaving.model.generation,
            )


def _of(names: Collection[str], learned: Mapping[str, Value]) -> dict[str, Value]:
    return {name: value for name, value in learned.items() if name in names}


def _key(model: Model) -> Key:
    return model.name, model.generation


def staying(served: Catalog, catalog: Catalog) -> dict[str, Model]:
    """The models of `catalog`; those that are served already in the same generation as they are
    now, with what has been learned of them."""
    models = dict(catalog.models)
    for name, model in served.models.items():
        if name in models and models[name].generation == model.generation:
            models[name] = model
    return models


def gone(served: Catalog, models: Mapping[str, Model]) -> list[Model]:
    """What is served, and will not be any more."""
    return [model for name, model in served.models.items() if models.get(name) is not model]
