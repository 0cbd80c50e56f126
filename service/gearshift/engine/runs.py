"""The runs under way, and of which models they are."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable

from gearshift.core.catalog import Model
from gearshift.engine.generations import Generations


class Runs:
    """Tasks, each until its run is over and answered."""

    def __init__(self, generations: Generations) -> None:
        self._generations = generations
        self._models: dict[asyncio.Task[None], Model] = {}

    def begin(self, work: Coroutine[None, None, None], model: Model) -> None:
        """A run of this model begins."""
        if self._generations.leaving:
            self._generations.taken(model)
        run = asyncio.get_running_loop().create_task(work)
        self._models[run] = model
        run.add_done_callback(self._over)

    def _over(self, run: asyncio.Task[None]) -> None:
        # Later than what the run itself has planned for the next turn: its answers.
        model = self._models.pop(run)
        if self._generations.leaving:
            self._generations.released(model)

    def models(self) -> Iterable[Model]:
        """One for each run."""
        return self._models.values()

    def cancel(self) -> None:
        """All of them: nobody waits any more."""
        for run in self._models:
            run.cancel()
