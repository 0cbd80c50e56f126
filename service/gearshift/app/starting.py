"""The engine put together at a start: what is loaded first, measured and warm."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from gearshift.app.first_places import first_places
from gearshift.app.learning import Learning
from gearshift.app.memory import give_back
from gearshift.app.newcomers import Newcomers
from gearshift.app.parts import (
    Progress,
    apart,
    load_variants,
    make_workers,
    measure_profiles,
    with_express,
)
from gearshift.app.residing import Residing
from gearshift.app.settings import Settings
from gearshift.core.catalog import Catalog
from gearshift.core.limits import Usage
from gearshift.core.scheduler import Scheduler
from gearshift.engine import Engine, LoopClock
from gearshift.executors.remote import RemoteExecutor
from gearshift.ports import Executor, Tracing, Worker
from gearshift.profiling import warm_up
from gearshift.telemetry import PrometheusTelemetry


class Started(NamedTuple):
    """The last two where memory has limits."""

    engine: Engine
    workers: Sequence[Worker]
    residing: Residing | None = None
    newcomers: Newcomers | None = None


async def start_engine(
    settings: Settings,
    catalog: Catalog,
    executors: Mapping[str, Executor],
    telemetry: PrometheusTelemetry,
    on_progress: Progress,
    learned: Learning,
    tracing: Tracing | None = None,
    first_worker: int = 0,
    *,
    usage: Usage,
) -> Started:
    """Everything loaded, measured and warm, as far as there is memory for it, and the engine that
    runs it."""
    first = None
    if settings.device_memory:
        first = await first_places(settings, catalog, executors, on_progress, first_worker)
        profiles, workers = first.profiles, first.workers
    else:
        load_variants(catalog, executors)
        workers = make_workers(settings, executors, first_worker)
        profiles = await measure_profiles(
            settings, catalog, executors, workers, refresh=False, on_progress=on_progress
        )
        profiles, workers = with_express(catalog, profiles, workers, first_worker, apart(executors))
    await warm_up(catalog, executors, workers)
    telemetry.profiled(p for name in catalog.models for p in profiles.everywhere(name))
    telemetry.employs(worker.device for worker in workers)
    scheduler = Scheduler(
        catalog,
        profiles,
        {w.id: w.device for w in workers},
        on_time_bonus=settings.on_time_bonus,
        max_waiting=usage.limits.max_queue,
    )
    clock = LoopClock(asyncio.get_running_loop())
    engine = Engine(
        catalog,
        scheduler,
        workers,
        executors,
        clock,
        telemetry,
        learned.journal,
        learned.shadow_share,
        tracing,
        usage=usage,
        hung_after=settings.hung_after_seconds,
    )
    limited = () if first is None else first.served_by(engine)
    engine.start()
    remote = executors.get("triton")
    if isinstance(remote, RemoteExecutor):
        remote.on_return(partial(_try_again, asyncio.get_running_loop(), engine))
    learned.correct(engine)
    # What was loaded stays: the collector need not look through it again and again.
    gc.collect()
    gc.freeze()
    give_back()
    return Started(engine, workers, *limited)


def _try_again(loop: asyncio.AbstractEventLoop, engine: Engine) -> None:
    """From a thread of the executor's: what runs on other servers may run again."""
    with suppress(RuntimeError):  # The loop is over, and nobody serves any more.
        loop.call_soon_threadsafe(engine.try_again, "triton")
