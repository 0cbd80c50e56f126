"""One of several serving processes: no port of its own, connections come from its parent."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack

from prometheus_client import ProcessCollector

from gearshift.app.learning import learning
from gearshift.app.parts import Progress, drain, load_catalog, make_executors, start_engine
from gearshift.app.quotas import keeping_quotas
from gearshift.app.settings import Settings
from gearshift.app.tracing import sending_traces
from gearshift.core.frontier import View, unpacked
from gearshift.processes import Orders, Parent
from gearshift.quotas import Table
from gearshift.rpc import RpcServer, make_server, statistics
from gearshift.telemetry import Life, PrometheusTelemetry, packed

ANSWER_WITHIN = 2.0
"""Seconds until the loop must have made its statistics; the parent waits a little longer."""


async def serve_behind(
    parent: Parent, orders: Orders, settings: Settings, on_progress: Progress
) -> None:
    """Serve what the parent hands over until it says stop, or SIGTERM does; then drain."""

    def get_on(what: str, done: int, total: int) -> None:
        parent.alive()
        on_progress(what, done, total)

    executors = make_executors(settings)
    catalog = load_catalog(settings, executors)
    telemetry = PrometheusTelemetry(catalog)
    life = Life(catalog, settings.drain_seconds)
    telemetry.registry.register(life)
    ProcessCollector(registry=telemetry.registry)
    loop = asyncio.get_running_loop()
    parent.show(
        lambda: telemetry.exposition()[0],
        lambda: telemetry.triton_exposition()[0],
        lambda: json.dumps(telemetry.beside()).encode(),
    )
    try:
        async with (
            AsyncExitStack() as stack,
            learning(settings, catalog, telemetry, among_others=True) as learned,
            sending_traces(settings, orders.index) as tracing,
        ):
            engine = await start_engine(
                settings,
                catalog,
                executors,
                telemetry,
                get_on,
                learned,
                tracing,
                orders.first_worker,
            )
            if tracing is not None:
                parent.show_exemplars(lambda: packed(telemetry.exemplars()))
            parent.show_statistics(lambda: _on(loop, lambda: statistics.of_process(engine)))
            # A region is registered with one process, and the next request may reach another.
            rpc = await make_server(
                engine,
                shared_memory=False,
                everyone=parent.sum,
                feedback=learned.feedback,
                frontier=lambda: _frontier(parent),
                connection_age=settings.connection_age,
            )
            table = Table.opened(orders.quota_table) if orders.quota_table else None
            await stack.enter_async_context(keeping_quotas(settings, engine, telemetry, table))
            stop = asyncio.Event()
            # The parent may say it, and whoever ends a whole group of processes says it to each: a
            # second word changes nothing here, it is the parent whose end ends all at once.
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop.set)
            all_stop = asyncio.Event()
            parent.on_stop(all_stop.set, loop)
            parent.ready(rpc.adopt)
            life.serves()
            farewell = asyncio.create_task(_all_end(all_stop, stop, rpc))
            await stop.wait()
            parent.draining()
            life.drains()
            # The server as a whole goes on if this process alone was told to end: its callers go on
            # with the others, and health does not say NOT_SERVING.
            await drain(settings, engine, rpc)
            farewell.cancel()
    finally:
        for executor in executors.values():
            executor.close()


async def _frontier(parent: Parent) -> View:
    return unpacked(await parent.frontier())


async def _all_end(all_stop: asyncio.Event, stop: asyncio.Event, rpc: RpcServer) -> None:
    """Once the whole server stops, its health says so; then this process drains."""
    await all_stop.wait()
    await rpc.not_serving()
    stop.set()


def _on(loop: asyncio.AbstractEventLoop, make: Callable[[], bytes]) -> bytes:
    """Called on another thread. Between two events all figures of a request are there, or none:
    who reads them from outside may find some missing."""

    async def made() -> bytes:
        return make()

    return asyncio.run_coroutine_threadsafe(made(), loop).result(ANSWER_WITHIN)
