"""One variant on one device at a time: loaded, measured, unloaded. For servers with limits of
memory (`device_memory_mib`), where not every variant is loaded."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple, TypeVar

from gearshift.app.aside import LAST, MEASURING, aside
from gearshift.app.memory import give_back, own_memory
from gearshift.app.parts import preparing_workers
from gearshift.core.catalog import Catalog, Model, Variant
from gearshift.core.profile import Profile
from gearshift.executors.providers import CPU
from gearshift.ports import ByDevice, Executor, Worker
from gearshift.profiling import Hardware, ProfileStore, Taken, profile_catalog, warm_up

T = TypeVar("T")

LOAD_WITHIN = 900.0
"""Seconds that it may take until a variant has answered on a device, or is gone from it."""


class Found(NamedTuple):
    """What is known of a variant on a device."""

    profile: Profile
    taken: Taken


class Places:
    """All calls are made on the loop and work on other threads, whose runs are those of workers of
    their own. What does not come to its end raises TimeoutError, and its memory may be taken for
    good."""

    def __init__(
        self,
        executors: Mapping[str, Executor],
        store: ProfileStore,
        first_worker: int = 0,
        own_bytes: Callable[[], int] = own_memory,
    ) -> None:
        """`own_bytes`: what this process holds for itself, 0 where nobody knows."""
        self._executors = executors
        self._store = store
        self._first_worker = first_worker
        self._own_bytes = own_bytes
        self._begun: set[tuple[str, str]] = set()
        """The executors and devices with which something has run."""

    @cached_property
    def _hardware(self) -> Hardware:
        return Hardware.here(executor.identity for executor in self._executors.values())

    async def devices(self, variant: Variant) -> Sequence[str]:
        """Those that it may run on."""
        executor = self._executors[variant.executor]
        if isinstance(executor, ByDevice):
            return await self._aside(executor.all_devices, LAST)
        return executor.devices

    async def known(self, model: Model, variant: Variant, device: str) -> Found | None:
        """What was measured before and kept."""

        def work() -> Found | None:
            asked = (self._hardware, model, variant, device)
            points, taken = self._store.load(*asked), self._store.taken(*asked)
            if points is None or taken is None:
                return None
            return Found(Profile(variant, device, points, model.max_batch_size), taken)

        return await self._aside(work, LAST)

    async def load(self, model: Model, variant: Variant, device: str) -> None:
        """Until it has answered there. Raises ValueError or ExecutorFailed if it does not; then it
        takes no memory."""

        def work() -> None:
            self._load(model, variant, device)

        await self._aside(work, LAST, undo=lambda: self._unload(model, variant, device))

    async def measure(
        self, model: Model, variant: Variant, device: str, *, keep: bool
    ) -> Found | None:
        """Load it and measure what it takes; it stays loaded. None if it does not run there. `keep`
        the sizes as well as the profile: where nothing else takes memory meanwhile. Raises as
        `load`."""

        def work() -> Found | None:
            self._begin(model, variant, device)
            give_back()
            before, begun = self._own_bytes(), time.monotonic()
            self._load(model, variant, device)
            seconds = time.monotonic() - begun
            give_back()
            grown = self._own_bytes() - before if device == CPU else 0
            try:
                profile = asyncio.run(self._profile(model, variant, device))
            except BaseException:
                self._unload(model, variant, device)
                raise
            if profile is None:
                return None
            placed = self._executors[variant.executor].placed(model, variant)
            there = sum(each.size for each in placed if each.device == device)
            taken = Taken(max(grown, there, variant.artifact_bytes), seconds)
            if keep:
                self._store.save(self._hardware, model, variant, device, profile.points, taken)
            return Found(profile, taken)

        return await self._aside(work, MEASURING, undo=lambda: self._unload(model, variant, device))

    async def unload(self, model: Model, variant: Variant, device: str) -> None:
        """Until its memory is free. Nothing may run on it any more."""
        await self._aside(lambda: self._unload(model, variant, device), LAST)

    # --- on other threads ----------------------------------------------------------------

    def _begin(self, model: Model, variant: Variant, device: str) -> None:
        """What comes with the first variant of all, such as a thread and what a runtime keeps for
        all that runs, is not taken by it."""
        if (variant.executor, device) not in self._begun:
            self._load(model, variant, device)
            self._unload(model, variant, device)
            self._begun.add((variant.executor, device))

    def _load(self, model: Model, variant: Variant, device: str) -> None:
        executor = self._executors[variant.executor]
        if isinstance(executor, ByDevice):
            executor.load_on(model, variant, device)
        else:
            executor.load(model, variant)
        try:
            # Callers' runs are on workers of their own, so that it may run beside them.
            asyncio.run(warm_up(_only(model, variant), self._executors, self._workers(device)))
        except BaseException:
            self._unload(model, variant, device)
            raise

    def _unload(self, model: Model, variant: Variant, device: str) -> None:
        executor = self._executors[variant.executor]
        if isinstance(executor, ByDevice):
            executor.unload_from(model, variant, device)
        else:
            executor.unload(model, variant)
        give_back()

    async def _profile(self, model: Model, variant: Variant, device: str) -> Profile | None:
        profiles = await profile_catalog(
            _only(model, variant),
            self._executors,
            self._workers(device),
            self._store,
            refresh=False,
            on_progress=lambda what, done, total: None,
        )
        return next(iter(profiles.everywhere(model.name)), None)

    def _workers(self, device: str) -> list[Worker]:
        every = preparing_workers(self._executors, self._first_worker)
        return [worker for worker in every if worker.device == device]

    async def _aside(
        self, work: Callable[[], T], niceness: int, undo: Callable[[], None] | None = None
    ) -> T:
        """Whatever comes to its end when nobody waits for it any more is undone."""
        given_up = threading.Event()

        def run() -> T:
            result = work()
            if undo is not None and given_up.is_set():
                undo()
            return result

        try:
            async with asyncio.timeout(LOAD_WITHIN):
                return await aside(run, niceness)
        except (TimeoutError, asyncio.CancelledError):
            given_up.set()
            raise


def _only(model: Model, variant: Variant) -> Catalog:
    """A catalog of this one variant."""
    return Catalog(model.generation, {model.name: replace(model, variants=(variant,), cascades=())})
