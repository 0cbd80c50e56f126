"""Work beside serving: on a thread of its own, behind those that serve."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from gearshift.executors.thread import BEHIND, give_way

T = TypeVar("T")

MEASURING = BEHIND
"""How much nicer than the loop is what is measured: as workers are, so that a run takes as long as
it will take a caller."""

LAST = 10
"""The same of what has time: a tenth of the loop's share where both want a core."""


async def aside(work: Callable[[], T], niceness: int) -> T:
    """What `work` returns or raises. Whoever waits may leave; the work then ends by itself, and
    does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        give_way(niceness)
        result: T | None = None
        problem: BaseException | None = None
        try:
            result = context.run(work)
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            problem = error
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, result, problem)

    threading.Thread(target=run, name="gearshift-aside", daemon=True).start()
    return await done
