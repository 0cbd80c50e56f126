"""The real engine with the fake executor behind a real gRPC server in a thread of its own."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from builders import ONE_VECTOR, make_catalog, make_model, make_profiles
from gearshift.access import names_of
from gearshift.core.catalog import Late, ServiceClass
from gearshift.core.limits import Limits, Usage
from gearshift.core.scheduler import Scheduler
from gearshift.engine import Engine, LoopClock
from gearshift.executors.fake import FakeExecutor
from gearshift.ports import Worker
from gearshift.rpc import make_server
from recording import RecordingTelemetry

CLASSES = (
    ServiceClass("default", budget=20.0),
    ServiceClass("archive", budget=math.inf, late=Late.SERVE),
)


class GrpcBench:
    """A served engine; `run` executes a function on the server's loop and waits for it."""

    def __init__(
        self,
        predicted=None,
        duration: Callable[[str, int], float] = lambda variant, rows: 0.0,
        workers: int = 2,
        max_batch_size: int = 8,
        shared_memory: bool = True,
        everyone=None,
        frontier=None,
        tracing=None,
        repository=None,
        observing=None,
        connection_age: float = math.inf,
        tls=None,
        access=None,
        audit=None,
        limits: Limits | None = None,
        max_regions: int = 256,
        steps: Mapping[str, Any] | None = None,
        preparing_threads: int = 2,
    ) -> None:
        """`steps` are `before` and `after` of the model `m`."""
        self.usage = Usage(limits)
        model = make_model(classes=CLASSES, max_batch_size=max_batch_size)
        model = replace(model, **(steps or {}))
        self.catalog = make_catalog(model, make_model("other", classes=CLASSES))
        profiles = make_profiles(
            self.catalog, predicted or {"large": (0.002, 0.0), "small": (0.001, 0.0)}
        )
        self.executor = FakeExecutor(ONE_VECTOR, duration)
        for known in self.catalog.models.values():
            for variant in known.variants:
                self.executor.load(known, variant)
        self.telemetry = RecordingTelemetry()
        places = [Worker(index, "cpu") for index in range(workers)]
        self._ready = threading.Event()

        async def live() -> None:
            self.engine = Engine(
                self.catalog,
                Scheduler(
                    self.catalog,
                    profiles,
                    {w.id: w.device for w in places},
                    max_waiting=self.usage.limits.max_queue,
                ),
                places,
                {"fake": self.executor},
                LoopClock(asyncio.get_running_loop()),
                self.telemetry,
                tracing=tracing,
                usage=self.usage,
            )
            self.engine.start()
            self.loop = asyncio.get_running_loop()
            self._end = asyncio.Event()
            self.server = await make_server(
                self.engine,
                shared_memory=shared_memory,
                everyone=everyone,
                frontier=frontier,
                repository=repository,
                observing=observing,
                connection_age=connection_age,
                access=access,
                audit=audit,
                names=names_of,
                max_regions=max_regions,
                preparing_threads=preparing_threads,
            )
            await self.server.listen("127.0.0.1", 0, tls)
            self._ready.set()
            await self._end.wait()
            await self.engine.drain(1.0)
            await self.server.stop(0.5)

        self._thread = threading.Thread(target=lambda: asyncio.run(live()), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)
        self.address = f"127.0.0.1:{self.server.port}"

    def run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
        assert not self._thread.is_alive()
