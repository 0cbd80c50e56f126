"""SIGHUP and `--watch`: the repository is looked at again without anybody calling."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from gearshift.app.reloading import Reloading
from gearshift.app.settings import Settings
from gearshift.core.reload import Settled
from gearshift.errors import Overloaded, RequestError
from gearshift.repository import Stamp, stamps

log = structlog.get_logger(__name__)

SIGHUP, WATCH = "SIGHUP", "--watch"
"""Who has asked."""

SLOWEST = 1.0
"""Seconds between two looks at the folders, or half of what they have to settle in if that is
less."""


@asynccontextmanager
async def asked_again(
    settings: Settings,
    reloading: Reloading,
    known: Mapping[str, Stamp],
    hung_up: asyncio.Event,
    others: Callable[[], None] = lambda: None,
) -> AsyncIterator[None]:
    """SIGHUP, and the watch where the setting says so, until the block ends; then nothing is loaded
    any more. `known` as in `watch`; `hung_up` is set by SIGHUP, for which `others` reads anew what
    else is read from files, and may block."""
    asking = [hang_up(reloading, hung_up, others)]
    if settings.watch:
        settle = settings.watch_settle_seconds
        asking.append(watch(reloading, settings.repository, settle, known))
    tasks = [asyncio.ensure_future(each) for each in asking]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await reloading.close()


async def watch(
    reloading: Reloading,
    root: Path,
    settle: float,
    known: Mapping[str, Stamp],
    *,
    look: Callable[[Path], dict[str, Stamp]] = stamps,
) -> None:
    """Until cancelled. `known` is how the folders were before they were loaded. Asks the system for
    sizes and modification times, again and again: that works on every file system, where
    notifications do not come from network volumes nor for links that are swapped."""
    settled = Settled(settle, known)
    loop = asyncio.get_running_loop()
    pause = min(SLOWEST, settle / 2)
    while True:
        await asyncio.sleep(pause)
        found = await asyncio.to_thread(look, root)
        due = settled.look(loop.time(), found)
        if due:
            await _reload(reloading, WATCH, due)


async def hang_up(
    reloading: Reloading, wanted: asyncio.Event, others: Callable[[], None] = lambda: None
) -> None:
    """Until cancelled: look at the whole repository each time that it is wanted."""
    while True:
        await wanted.wait()
        # What is asked for while it is looked at is looked at again.
        wanted.clear()
        await asyncio.to_thread(others)
        await _reload(reloading, SIGHUP, None)


async def _reload(reloading: Reloading, who: str, look: list[str] | None) -> None:
    """What is wrong stands in the log; serving goes on, and so does who asks."""
    while True:
        try:
            await reloading.reload(who, look)
        except Overloaded as error:
            # Nobody would ask for it again.
            await asyncio.sleep(error.retry_after)
            continue
        except RequestError:
            pass
        except Exception:
            log.exception("the repository could not be looked at", who=who)
        return
