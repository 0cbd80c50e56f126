"""One of several serving processes: no port of its own, connections come from its parent."""

from __future__ import annotations

import asyncio
import signal

from gearshift.app.parts import Progress, drain, load_catalog, make_executors, start_engine
from gearshift.app.settings import Settings
from gearshift.processes import Orders, Parent
from gearshift.rpc import make_server
from gearshift.telemetry import PrometheusTelemetry


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
    parent.show(lambda: telemetry.exposition()[0], lambda: telemetry.triton_exposition()[0])
    try:
        engine = await start_engine(
            settings, catalog, executors, telemetry, get_on, orders.first_worker
        )
        # A region is registered with one process, and the next request may reach another.
        rpc = await make_server(engine, shared_memory=False)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        # The parent may say it, and whoever ends a whole group of processes says it to each: a
        # second word changes nothing here, it is the parent whose end ends all at once.
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        parent.on_stop(stop.set, loop)
        parent.ready(rpc.adopt)
        await stop.wait()
        parent.draining()
        await drain(settings, engine, rpc)
    finally:
        for executor in executors.values():
            executor.close()
