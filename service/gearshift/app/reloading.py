"""Who may have what loaded anew: one reload at a time, in the order in which they were asked
for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from gearshift.core.reload import Reload, Reloaded, Result
from gearshift.errors import GearshiftError, LoadFailed, ModelNotFound, NotReady, Overloaded
from gearshift.repository import names, stamp
from gearshift.telemetry import ReloadsCollector

log = structlog.get_logger(__name__)

MOST_WAITING = 64
"""Orders that wait for their turn; more are refused."""

LONGEST_NAME = 200

CarryOut = Callable[[Reload], Awaitable[Reloaded]]
"""Carries a reload out wherever it must be. Does not raise."""

Audit = Callable[[str, str, str], None]
"""Told of each control action: who asked, for what, and what became of it."""


def _log(who: str, what: str, result: str) -> None:
    log.info("control action", who=who, what=what, result=result)


class Reloading:
    """Fills `gearshift.ports.Repository` but for `unserved`.

    A model that was unloaded by name stays so until it is loaded by name or its files change, as
    with Triton's explicit control: SIGHUP and `--watch` leave it out.
    """

    def __init__(
        self,
        root: Path,
        carry_out: CarryOut,
        counted: ReloadsCollector,
        unserved: Callable[[], Mapping[str, str]],
        audit: Audit = _log,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`unserved` reads the disk and says why folders are not served."""
        self._root = root
        self._carry_out = carry_out
        self._counted = counted
        self._unserved = unserved
        self._audit = audit
        self._clock = clock
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._open = True
        self._tasks: set[asyncio.Task[Reloaded]] = set()
        self._unloaded: dict[str, object] = {}
        """By model that was unloaded by name, how its folder was then."""
        self.generation = 1
        """Number of the catalog that is served."""

    @property
    def out(self) -> tuple[str, ...]:
        """The models that are left out though they have a folder."""
        return tuple(sorted(self._unloaded))

    # --- who asks --------------------------------------------------------------------------

    async def load(self, model: str, who: str) -> None:
        await self._do(who, f"load {model[:LONGEST_NAME]}", lambda: self._load(model))

    async def unload(self, model: str, who: str) -> None:
        await self._do(who, f"unload {model[:LONGEST_NAME]}", lambda: self._unload(model))

    async def unserved(self) -> Mapping[str, str]:
        return await asyncio.to_thread(self._unserved)

    async def reload(self, who: str, look: Collection[str] | None = None) -> Reloaded:
        """Look at these folders again, or at all. Raises as `load` does."""
        what = "reload" if look is None else f"reload {' '.join(sorted(look))}"
        return await self._do(who, what, lambda: self._reload(look))

    async def catch_up(self, known: int, carry_out: CarryOut) -> Reloaded:
        """Let someone who began with catalog number `known` serve what is served now, once it is
        their turn."""
        async with self._turn:
            if known == self.generation:
                return Reloaded()
            return await carry_out(Reload(self.generation, None, self.out))

    async def close(self) -> None:
        """Take no orders any more; the one that is under way is given up."""
        self._open = False
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # --- one at a time ---------------------------------------------------------------------

    async def _do(
        self, who: str, what: str, carried_out: Callable[[], Awaitable[Reloaded]]
    ) -> Reloaded:
        """Who asked may leave meanwhile: what was begun is brought to its end."""
        if not self._open:
            raise NotReady("the server is shutting down: nothing is loaded any more")
        if self._waiting >= MOST_WAITING:
            raise Overloaded(
                f"{MOST_WAITING} loads and unloads wait already; try again later", retry_after=1.0
            )
        task = asyncio.get_running_loop().create_task(self._in_turn(who, what, carried_out))
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return await asyncio.shield(task)

    def _over(self, task: asyncio.Task[Reloaded]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # taken note of, also where who asked has left

    async def _in_turn(
        self, who: str, what: str, carried_out: Callable[[], Awaitable[Reloaded]]
    ) -> Reloaded:
        result = "cancelled"
        try:
            async with self._in_line():
                told = await carried_out()
            result = _result(told)
        except GearshiftError as error:
            result = f"failed: {error}"
            raise
        finally:
            self._audit(who, what, result)
        return told

    @asynccontextmanager
    async def _in_line(self) -> AsyncIterator[None]:
        self._waiting += 1
        try:
            async with self._turn:
                yield
        finally:
            self._waiting -= 1

    async def _load(self, model: str) -> Reloaded:
        there = await asyncio.to_thread(names, self._root)
        if model not in there:
            raise ModelNotFound(
                f"there is no folder {model[:LONGEST_NAME]!r} in the repository; there are:"
                f" {', '.join(there) or 'none'}"
            )
        out = [name for name in self._unloaded if name != model]
        told = await self._carried_out((model,), out)
        self._unloaded.pop(model, None)
        return told

    async def _unload(self, model: str) -> Reloaded:
        if not _plain(model):
            return Reloaded()  # It has no folder, so that it cannot be served.
        before = await asyncio.to_thread(stamp, self._root / model)
        told = await self._carried_out((), {*self._unloaded, model})
        # Without a folder there is nothing that it could be kept out of.
        if before:
            self._unloaded[model] = before
        return told

    async def _reload(self, look: Collection[str] | None) -> Reloaded:
        changed = await asyncio.to_thread(self._changed)
        out = [name for name in self._unloaded if name not in changed]
        told = await self._carried_out(None if look is None else tuple(sorted(look)), out)
        for name in changed:
            if told.results.get(name) is not None:
                self._unloaded.pop(name, None)
        return told

    def _changed(self) -> set[str]:
        """Those that were unloaded, and have other files since."""
        return {
            name
            for name, before in list(self._unloaded.items())
            if stamp(self._root / name) != before
        }

    async def _carried_out(self, look: tuple[str, ...] | None, out: Iterable[str]) -> Reloaded:
        begun = self._clock()
        order = Reload(self.generation + 1, look, tuple(sorted(out)))
        told = await self._carry_out(order)
        if told.changed:
            self.generation = order.generation
        self._counted.add(told, self._clock() - begun)
        if told.problems:
            reasons = [str(problem) for problem in told.problems]
            log.error("nothing was loaded: what is served stays", reasons=reasons)
            raise LoadFailed("nothing has changed: " + "\n".join(reasons))
        if told.changed:
            log.info(
                "another catalog is served",
                generation=order.generation,
                loaded=told.of(Result.LOADED),
                unloaded=told.of(Result.UNLOADED),
            )
        return told


def _plain(name: str) -> bool:
    """Whether it can be the name of a folder in the repository."""
    return bool(name) and not name.startswith(".") and "/" not in name and "\0" not in name


def _result(told: Reloaded) -> str:
    parts = [
        f"{result.value} {' '.join(told.of(result))}"
        for result in (Result.LOADED, Result.UNLOADED)
        if told.of(result)
    ]
    return ", ".join(parts) or "unchanged"
