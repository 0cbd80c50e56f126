"""Waiting for what another thread or process does, and not for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

WITHIN = 20.0
"""Seconds."""


def until(so: Callable[[], bool]) -> None:
    """Returns when it is so."""
    deadline = time.monotonic() + WITHIN
    while not so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


async def until_so(so: Callable[[], Awaitable[bool]]) -> None:
    """The same of what must be asked for."""
    async with asyncio.timeout(WITHIN):
        while not await so():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
