"""One of several serving processes: no port of its own, connections come from its parent."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial

from prometheus_client import ProcessCollector

from gearshift.access import names_of
from gearshift.app.descriptors import within_descriptors
from gearshift.app.entrance import make_entrance
from gearshift.app.exchanging import Exchanging
from gearshift.app.health import end_if_stuck
from gearshift.app.learning import learning
from gearshift.app.observing import Here, beginning
from gearshift.app.parts import (
    Progress,
    drain,
    first_load,
    make_executors,
    placed,
    preparing_threads,
)
from gearshift.app.passing import Passed
from gearshift.app.quotas import keeping_quotas
from gearshift.app.settings import Settings
from gearshift.app.starting import start_engine
from gearshift.app.tracing import sending_traces
from gearshift.core.frontier import View, unpacked
from gearshift.processes import Orders, Parent
from gearshift.quotas import Table
from gearshift.rpc import RpcServer, make_server, statistics
from gearshift.telemetry import (
    GenerationsCollector,
    Life,
    LimitCollector,
    PlacedCollector,
    PrometheusTelemetry,
    packed,
)

ANSWER_WITHIN = 2.0
"""Seconds until the loop must have made its statistics; the parent waits a little longer."""


async def serve_behind(
    parent: Parent, orders: Orders, settings: Settings, on_progress: Progress
) -> None:
    """Serve what the parent hands over until it says stop, or SIGTERM does; then drain."""

    # Whoever hangs up means the parent.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def get_on(what: str, done: int, total: int) -> None:
        parent.alive()
        on_progress(what, done, total)

    way_in = make_entrance(settings)
    executors = make_executors(settings)
    loaded = first_load(settings, executors, orders.generation, orders.out)
    catalog = loaded.catalog
    telemetry = PrometheusTelemetry(catalog)
    life = Life(catalog, settings.drain_seconds)
    telemetry.registry.register(life)
    telemetry.registry.register(way_in.metrics)
    ProcessCollector(registry=telemetry.registry)
    usage = within_descriptors(settings)
    telemetry.registry.register(LimitCollector(usage))
    loop = asyncio.get_running_loop()
    parent.show(
        lambda: telemetry.exposition()[0],
        lambda: telemetry.triton_exposition()[0],
        lambda: json.dumps(telemetry.beside()).encode(),
    )
    try:
        async with (
            way_in.watching(),
            AsyncExitStack() as stack,
            learning(settings, catalog, telemetry, among_others=True) as learned,
            sending_traces(settings, orders.index) as tracing,
        ):
            engine, workers, *_ = await start_engine(
                settings,
                catalog,
                executors,
                telemetry,
                get_on,
                learned,
                tracing,
                orders.first_worker,
                usage=usage,
            )
            if tracing is not None:
                parent.show_exemplars(lambda: packed(telemetry.exemplars()))
            parent.show_statistics(lambda: _on(loop, lambda: statistics.of_process(engine)))
            exchanging = Exchanging(
                settings,
                engine,
                loaded,
                executors,
                workers,
                telemetry,
                learned.prepare,
                orders.first_worker,
            )
            telemetry.registry.register(GenerationsCollector(lambda: exchanging.generations))
            telemetry.registry.register(
                PlacedCollector(lambda: placed(exchanging.catalog, executors))
            )
            passed = Passed(parent, exchanging, Here(beginning(settings), tracing))
            # A region is registered with one process, and the next request may reach another.
            rpc = await make_server(
                engine,
                shared_memory=False,
                everyone=parent.sum,
                feedback=learned.feedback,
                frontier=lambda: _frontier(parent),
                repository=passed,
                observing=passed,
                connection_age=settings.connection_age,
                access=way_in.guard,
                audit=way_in.audit,
                names=names_of,
                preparing_threads=preparing_threads(settings),
            )
            exchanging.tell(telemetry, life, learned, rpc)
            table = Table.opened(orders.quota_table) if orders.quota_table else None
            await stack.enter_async_context(keeping_quotas(settings, engine, telemetry, table))
            stop = asyncio.Event()
            # The parent may say it, and whoever ends a whole group of processes says it to each: a
            # second word changes nothing here, it is the parent whose end ends all at once.
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop.set)
            all_stop = asyncio.Event()
            parent.on_stop(all_stop.set, loop)
            # The handshake is here: the parent has no time for it, and knows nothing of calls.
            parent.ready(partial(rpc.adopt, tls=way_in.grpc), rpc.adopt_inside)
            life.serves()
            farewell = asyncio.create_task(_all_end(all_stop, stop, rpc))
            stuck = asyncio.create_task(end_if_stuck(engine, stop.set))
            await stop.wait()
            stuck.cancel()
            await passed.close()
            parent.draining()
            life.drains()
            # The server as a whole goes on if this process alone was told to end: its callers go on
            # with the others, and health does not say NOT_SERVING.
            await drain(settings.drain_seconds, engine, rpc)
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
