"""Carries out one reload in this process: read, check, load, warm up and measure beside what is
served, then exchange it in one step. A failure anywhere changes nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from types import MappingProxyType
from typing import Protocol

import structlog

from gearshift.app.aside import LAST, MEASURING, aside
from gearshift.app.memory import give_back
from gearshift.app.newcomers import Newcomers
from gearshift.app.parts import (
    Loaded,
    allowance,
    apart,
    inspectors,
    load_variants,
    measure_profiles,
    preparing_workers,
    remote_workers,
    with_express,
)
from gearshift.app.settings import Settings
from gearshift.core.catalog import Catalog, Model
from gearshift.core.profile import Profile, Profiles
from gearshift.core.reload import Reload, Reloaded, Result
from gearshift.engine import Engine
from gearshift.errors import ExecutorFailed, Problem, RepositoryInvalid
from gearshift.ports import Executor, Worker
from gearshift.profiling import warm_up
from gearshift.repository import Changes, names, reread

log = structlog.get_logger(__name__)

READY_WITHIN = 900.0
"""Seconds that a reload may take."""


class Follower(Protocol):
    """Something that was made from the catalog. Told on the event loop."""

    def follow(self, catalog: Catalog) -> None:
        """This one is served from now on."""

    def forget(self, model: Model) -> None:
        """Nothing of this generation is left."""


Prepare = Callable[[Iterable[Model]], None]
"""Reads what is needed of these models. On another thread."""


class Shows(Protocol):
    """Who shows latencies and workers."""

    def profiled(self, profiles: Iterable[Profile]) -> None: ...

    def employs(self, devices: Iterable[str]) -> None: ...


class Exchanging:
    """Of the repository that `settings` names, before one engine. One reload at a time."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        loaded: Loaded,
        executors: Mapping[str, Executor],
        workers: Sequence[Worker],
        shows: Shows,
        prepare: Prepare,
        first_worker: int = 0,
        newcomers: Newcomers | None = None,
    ) -> None:
        """What `engine` serves now is what was `loaded`; `workers` are its own. `newcomers` where
        memory has limits."""
        self._settings = settings
        self._engine = engine
        self._catalog = catalog = loaded.catalog
        self._contents = {n: held for n, held in loaded.contents.items() if n in catalog.models}
        self._executors = executors
        self._workers = list(workers)
        self._shows = shows
        self._followers: list[Follower] = []
        self._prepare = prepare
        self._first_worker = first_worker
        self._newcomers = newcomers
        self._giving_back: set[asyncio.Task[None]] = set()
        self._why: dict[str, str] = {}
        self.generations: Counter[str] = Counter(list(catalog.models))
        """By model, how many hold memory. Read on any thread."""

    def tell(self, *followers: Follower) -> None:
        """Of each exchange from now on."""
        self._followers += followers

    @property
    def catalog(self) -> Catalog:
        """What is served, as it was loaded."""
        return self._catalog

    def unserved(self) -> dict[str, str]:
        """The folders that are not served, and why. Reads the disk: not on the loop."""
        return {
            name: self._why.get(name, "not loaded; load it by name or with a reload")
            for name in names(self._settings.repository)
            if name not in self._catalog.models
        }

    async def carry_out(self, order: Reload) -> Reloaded:
        """Does not raise: what is wrong is in the result."""
        held: list[Model] = []
        try:
            async with asyncio.timeout(READY_WITHIN), self._turn:
                changes = await aside(lambda: self._read(order), LAST)
                profiles = await self._made_ready(changes, held)
                # Only now is known that all of it was read as it is.
                await aside(lambda: changes.check(self._settings.repository), LAST)
                told = self._exchange(order, changes, profiles)
                held.clear()
        except RepositoryInvalid as error:
            told = self._failed(order, error.problems)
        except ExecutorFailed as error:
            told = self._failed(order, [Problem(str(error).partition("/")[0], "", str(error))])
        except TimeoutError:
            text = f"was not ready after {READY_WITHIN:g} s"
            told = self._failed(order, [Problem("the repository", "", text)])
        except Exception as error:
            log.exception("a reload failed")
            text = f"cannot be loaded: {type(error).__name__}: {error}"
            told = self._failed(order, [Problem("the repository", "", text)])
        finally:
            for model in held:
                self._give_back(model)
        return told

    @property
    def _turn(self) -> AbstractAsyncContextManager[None]:
        """While it is had nobody else takes memory."""
        return nullcontext() if self._newcomers is None else self._newcomers.turn

    async def idle(self) -> None:
        """Until everything that was retired so far has been given back."""
        while self._giving_back:
            await asyncio.wait(self._giving_back)

    # --- on other threads ----------------------------------------------------------------

    def _read(self, order: Reload) -> Changes:
        return reread(
            self._settings.repository,
            inspectors(self._settings, self._executors),
            self._contents,
            order.generation,
            order.look,
            order.out,
            allowance(self._settings),
        )

    async def _made_ready(self, changes: Changes, held: list[Model]) -> Profiles | None:
        """Everything loaded, warm and measured; `held` gets what takes memory. None where nothing
        is new."""
        models = list(changes.models.values())
        if not models:
            return None
        new = Catalog(models[0].generation, MappingProxyType(dict(changes.models)))
        for model in models:
            held.append(model)
            self.generations[model.name] += 1
        if self._newcomers is not None:
            await aside(lambda: self._prepare(models), LAST)
            return await self._newcomers.take_in(new, self._engine.catalog)
        await aside(lambda: load_variants(new, self._executors), LAST)
        await aside(lambda: self._prepare(models), LAST)
        workers = preparing_workers(self._executors, self._first_worker)

        async def measured() -> Profiles:
            await warm_up(new, self._executors, workers)
            return await measure_profiles(
                self._settings,
                new,
                self._executors,
                workers,
                refresh=False,
                on_progress=_tell,
            )

        if not any(executor.runs_here for executor in self._executors.values()):
            return await measured()
        # On a loop of its own: runs on the spot would hold up this one.
        return await aside(lambda: asyncio.run(measured()), MEASURING)

    # --- on the loop ---------------------------------------------------------------------

    def _exchange(self, order: Reload, changes: Changes, profiles: Profiles | None) -> Reloaded:
        """All in one turn of the loop: no request sees half of it."""
        models = {
            name: model
            for name, model in self._catalog.models.items()
            if name not in changes.gone and name not in order.out
        }
        unloaded = self._catalog.models.keys() - models.keys()
        results = dict.fromkeys(changes.unchanged, Result.UNCHANGED)
        results |= dict.fromkeys(changes.models, Result.LOADED)
        results |= dict.fromkeys(unloaded, Result.UNLOADED)
        told = Reloaded(results)
        if not told.changed:
            return told
        models |= changes.models
        catalog = Catalog(order.generation, MappingProxyType(models))
        placed: list[Profile] = []
        if profiles is not None:
            new = Catalog(order.generation, changes.models)
            profiles = self._placed(new, profiles)
            placed = [p for name in new.models for p in profiles.everywhere(name)]
        before = self._engine.catalog
        self._engine.exchange(catalog, profiles or Profiles({}, ()), self._retired)
        if self._newcomers is not None:
            self._newcomers.exchanged(before)
        self._catalog = catalog
        for name in changes.models:
            self._contents[name] = changes.contents[name]
            self._why.pop(name, None)
        for name in unloaded:
            self._contents.pop(name, None)
            self._why[name] = "unloaded; load it by name, or change its files"
        for follower in self._followers:
            follower.follow(catalog)
        self._shows.profiled(placed)
        return told

    def _placed(self, new: Catalog, profiles: Profiles) -> Profiles:
        placed, workers = with_express(
            new, profiles, self._workers, self._first_worker, apart(self._executors)
        )
        more = [*workers, *remote_workers(self._executors, self._first_worker)]
        for worker in [each for each in more if each not in self._workers]:
            self._engine.employ(worker)
            self._workers.insert(0, worker)
            self._shows.employs(each.device for each in self._workers)
        return placed

    def _retired(self, model: Model) -> None:
        for follower in self._followers:
            follower.forget(model)
        self._give_back(model)

    def _give_back(self, model: Model) -> None:
        task = asyncio.get_running_loop().create_task(self._unload(model))
        self._giving_back.add(task)
        task.add_done_callback(self._giving_back.discard)

    async def _unload(self, model: Model) -> None:
        def unload() -> None:
            for variant in model.variants:
                # One that was never loaded holds nothing.
                with suppress(Exception):
                    self._executors[variant.executor].unload(model, variant)
            # The collector is not asked: what was loaded since the start is not frozen (as in
            # `start_engine`), so that it finds by itself what little was in cycles; to look through
            # everything would hold up the loop each time.
            give_back()

        await aside(unload, LAST)
        if self._newcomers is not None:
            self._newcomers.given_back(model)
        self.generations[model.name] -= 1
        if not self.generations[model.name]:
            del self.generations[model.name]

    def _failed(self, order: Reload, problems: Iterable[Problem]) -> Reloaded:
        """Each problem is laid at the door of the model in whose folder it is, where there is
        one."""
        problems = tuple(problems)
        known = {*names(self._settings.repository), *self._catalog.models}
        results = {}
        for problem in problems:
            name = problem.file.partition("/")[0]
            name = name if name in known else ""
            results[name] = Result.FAILED
            if name:
                told = [str(p) for p in problems if p.file.partition("/")[0] == name]
                self._why[name] = "; ".join(told)
        return Reloaded(results, problems)


def _tell(what: str, done: int, total: int) -> None:
    log.info("measuring beside serving", what=what, done=done, total=total)
