"""Quotas put together: read at the start, and again when the file changes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import structlog

from gearshift.app.settings import Settings
from gearshift.core.quota import Quotas
from gearshift.engine import Engine
from gearshift.errors import ConfigurationInvalid
from gearshift.quotas import QuotaFile, Table, read
from gearshift.quotas.file import unknown
from gearshift.telemetry import PrometheusTelemetry
from gearshift.telemetry.turned_away import TurnedAway

log = structlog.get_logger(__name__)

LOOK_EVERY = 2.0
"""Seconds between two looks at whether the file has changed."""

Mark = tuple[int, int, int] | None


def check_quotas(settings: Settings) -> None:
    """ConfigurationInvalid if the file is wrong: told before anything else is done."""
    if settings.quotas is not None:
        read(settings.quotas)


@contextmanager
def shared_table(settings: Settings) -> Iterator[str]:
    """The path of a table for several processes, until the block ends; "" without quotas."""
    if settings.quotas is None:
        yield ""
        return
    table = Table.shared()
    try:
        yield table.path
    finally:
        table.remove()


@asynccontextmanager
async def keeping_quotas(
    settings: Settings, engine: Engine, telemetry: PrometheusTelemetry, table: Table | None = None
) -> AsyncIterator[None]:
    """The engine's doorkeeper goes by the file until the block ends. `table` is what processes of
    one server share."""
    doorkeeper = engine.doorkeeper

    def over() -> Counter[str]:
        named = () if doorkeeper.quotas is None else doorkeeper.quotas.clients
        return Counter({**dict.fromkeys(("", *named), 0), **doorkeeper.refused})

    telemetry.registry.register(TurnedAway(over, lambda: doorkeeper.retries_refused))
    if settings.quotas is None:
        yield
        return
    table = table or Table.private()
    path = settings.quotas

    def use(file: QuotaFile) -> None:
        doorkeeper.quotas = Quotas(file.limits, table.numbers, table.key)
        doorkeeper.identity = file.identity
        classes = {m.name: frozenset(m.classes) for m in engine.catalog.models.values()}
        for problem in unknown(file, classes):
            log.warning("a quota is for nobody", file=str(path), problem=problem)

    mark = _mark(path)
    use(read(path))
    following = asyncio.create_task(_follow(path, mark, use))
    try:
        yield
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following


async def _follow(path: Path, mark: Mark, use: Callable[[QuotaFile], None]) -> None:
    """Use what the file says whenever it says something else; a wrong one changes nothing."""
    while True:
        await asyncio.sleep(LOOK_EVERY)
        now = await asyncio.to_thread(_mark, path)
        if now == mark:
            continue
        mark = now
        try:
            file = await asyncio.to_thread(read, path)
        except ConfigurationInvalid as error:
            log.warning("the quotas stay as they were", reason=str(error))
            continue
        use(file)
        log.info("quotas read anew", file=str(path))


def _mark(path: Path) -> Mark:
    """What changes when the file does."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
