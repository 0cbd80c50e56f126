"""Whether the process is worth keeping: what liveness probes are told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from gearshift.engine import Engine
from gearshift.rpc import RpcServer

log = structlog.get_logger(__name__)

LOOK_EVERY = 1.0
"""Seconds between two looks."""

SILENT = 30.0
"""Seconds without a look after which the loop itself hangs, in a run on the express worker or
anywhere else. Nothing on the loop could tell; HTTP is answered on a thread of its own."""


async def end_if_stuck(engine: Engine, end: Callable[[], None]) -> None:
    """One of several processes is simply replaced: `end` is called once only that helps."""
    while engine.alive:  # noqa: ASYNC110 - it changes when a thread ends, which nobody tells of
        await asyncio.sleep(LOOK_EVERY)
    log.error("too many runs hang: this process ends, and another takes its place")
    end()


class Health:
    """Alive until something says otherwise; read on any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._engine_alive = True
        self._looked: float | None = None

    @property
    def alive(self) -> bool:
        """False if only another process helps."""
        looked = self._looked
        return self._engine_alive and (looked is None or self._clock() - looked < SILENT)

    async def watch(self, engine: Engine, rpc: RpcServer) -> None:
        """Look until cancelled, and tell gRPC health checks of what changes."""
        try:
            while True:
                self._looked = self._clock()
                if engine.alive is not self._engine_alive:
                    self._engine_alive = engine.alive
                    if self._engine_alive:
                        log.info("runs that hung have ended: this process serves again")
                    else:
                        log.error("too many runs hang: this process should be started anew")
                    await rpc.alive(self._engine_alive)
                await asyncio.sleep(LOOK_EVERY)
        finally:
            self._looked = None
