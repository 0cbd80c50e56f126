"""The server: every part put together, started in order, stopped in the reverse order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

from prometheus_client import ProcessCollector

from gearshift.app.learning import learning
from gearshift.app.parts import Progress, drain, load_catalog, make_executors, start_engine
from gearshift.app.quotas import check_quotas, keeping_quotas
from gearshift.app.settings import Settings
from gearshift.app.signals import stop_on_signal
from gearshift.app.tracing import check_tracing, sending_traces
from gearshift.http import HttpServer, create_app
from gearshift.processes import bound, release
from gearshift.rpc import Explainer
from gearshift.rpc import serve as serve_rpc
from gearshift.telemetry import (
    EnergyCollector,
    FrontierWatch,
    Life,
    PrometheusTelemetry,
    board,
    domains,
)


async def serve(
    settings: Settings, on_progress: Progress, announce: Callable[[str, str], None]
) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Raises before anything is announced if a
    port is taken or the repository does not load.

    `announce` gets the gRPC and the HTTP address once every variant has answered.
    """
    check_tracing(settings)
    check_quotas(settings)
    # A taken port is told at once: the real one opens only after loading and warm-up.
    release(bound(settings.host, settings.grpc_port))
    executors = make_executors(settings)
    catalog = load_catalog(settings, executors)
    telemetry = PrometheusTelemetry(catalog)
    life = Life(catalog, settings.drain_seconds)
    telemetry.registry.register(life)
    telemetry.registry.register(EnergyCollector(domains()))
    ProcessCollector(registry=telemetry.registry)
    watch = FrontierWatch(telemetry.families)
    explainer = Explainer()
    http = HttpServer(
        create_app(
            exposition=telemetry.exposition,
            triton=telemetry.triton_exposition,
            is_ready=lambda: life.ready,
            board=lambda: board(
                watch, [telemetry.beside()], ready=life.ready, grpc_port=explainer.port
            ),
            explain=explainer,
        ),
        settings.host,
        settings.http_port,
    )
    http.start()
    try:
        watch.start()
        async with (
            AsyncExitStack() as stack,
            learning(settings, catalog, telemetry) as learned,
            sending_traces(settings) as tracing,
        ):
            engine = await start_engine(
                settings, catalog, executors, telemetry, on_progress, learned, tracing
            )
            # Before anybody is told: whoever starts this may stop it as soon as it says that.
            stop = stop_on_signal()
            rpc = await serve_rpc(
                engine,
                settings.host,
                settings.grpc_port,
                shared_memory=settings.registers_shared_memory,
                feedback=learned.feedback,
                frontier=lambda: asyncio.to_thread(watch.view),
                connection_age=settings.connection_age,
            )
            explainer.listening(settings.host, rpc.port)
            await stack.enter_async_context(keeping_quotas(settings, engine, telemetry))
            life.serves()
            announce(f"{settings.host}:{rpc.port}", f"http://{settings.host}:{http.port}")
            await stop.wait()
            life.drains()
            await rpc.not_serving()
            await drain(settings, engine, rpc)
    finally:
        watch.stop()
        http.stop()
        for executor in executors.values():
            executor.close()
