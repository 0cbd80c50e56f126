"""The server: every part put together, started in order, stopped in the reverse order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, nullcontext

from prometheus_client import ProcessCollector

from gearshift.access import names_of
from gearshift.app.descriptors import within_descriptors
from gearshift.app.entrance import make_entrance
from gearshift.app.exchanging import Exchanging
from gearshift.app.first_places import check_device_memory
from gearshift.app.health import Health
from gearshift.app.inside import Inside, dialling, giving
from gearshift.app.learning import learning
from gearshift.app.observing import Here, Observed, beginning
from gearshift.app.parts import (
    Progress,
    drain,
    first_load,
    make_executors,
    placed,
    preparing_threads,
)
from gearshift.app.quotas import check_quotas, keeping_quotas
from gearshift.app.reloading import Reloading
from gearshift.app.settings import Settings
from gearshift.app.signals import on_hang_up, stop_on_signal
from gearshift.app.starting import start_engine
from gearshift.app.tracing import sending_traces
from gearshift.app.watching import asked_again
from gearshift.door import bound, release
from gearshift.http import HttpServer, create_app
from gearshift.http.rest import rest_routes
from gearshift.rpc import Explainer
from gearshift.rpc import serve as serve_rpc
from gearshift.telemetry import (
    EnergyCollector,
    FrontierWatch,
    GenerationsCollector,
    Life,
    LimitCollector,
    PlacedCollector,
    PrometheusTelemetry,
    ReloadsCollector,
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
    begun = beginning(settings)
    check_device_memory(settings)
    check_quotas(settings)
    way_in = make_entrance(settings)
    # A taken port is told at once: the real one opens only after loading and warm-up.
    release(bound(settings.host, settings.grpc_port))
    hung_up = on_hang_up()
    executors = make_executors(settings)
    loaded = first_load(settings, executors)
    catalog = loaded.catalog
    telemetry = PrometheusTelemetry(catalog)
    health = Health()
    life = Life(catalog, settings.drain_seconds, alive=lambda: health.alive)
    telemetry.registry.register(life)
    telemetry.registry.register(EnergyCollector(domains()))
    telemetry.registry.register(way_in.metrics)
    ProcessCollector(registry=telemetry.registry)
    usage = within_descriptors(settings)
    watch = FrontierWatch(telemetry.families)
    explainer, inside = Explainer(), Inside()
    http = HttpServer(
        create_app(
            exposition=telemetry.exposition,
            triton=telemetry.triton_exposition,
            is_ready=lambda: life.ready,
            is_alive=lambda: health.alive,
            board=lambda: board(
                watch, [telemetry.beside()], ready=life.ready, grpc_port=explainer.port
            ),
            explain=explainer,
            rest=rest_routes(inside, settings.max_message_bytes) if settings.rest else (),
            access=way_in.guard,
            audit=way_in.audit,
            names=way_in.hosts,
            tls=way_in.http is not None,
        ),
        settings.listens_http,
        settings.http_port,
        settings.http_limits,
        way_in.http,
        names_of,
    )
    telemetry.registry.register(LimitCollector(usage, lambda: (http.connections, http.refused)))
    http.start()
    try:
        watch.start()
        async with (
            way_in.watching(),
            AsyncExitStack() as stack,
            learning(settings, catalog, telemetry) as learned,
            sending_traces(settings) as tracing,
        ):
            engine, workers, residing, newcomers = await start_engine(
                settings, catalog, executors, telemetry, on_progress, learned, tracing, usage=usage
            )
            # Before anybody is told: whoever starts this may stop it as soon as it says that.
            stop = stop_on_signal()
            exchanging = Exchanging(
                settings,
                engine,
                loaded,
                executors,
                workers,
                telemetry,
                learned.prepare,
                newcomers=newcomers,
            )
            if residing is not None:
                telemetry.registry.register(residing.counted)
            telemetry.registry.register(GenerationsCollector(lambda: exchanging.generations))
            telemetry.registry.register(
                PlacedCollector(lambda: placed(exchanging.catalog, executors))
            )
            reloads = ReloadsCollector()
            telemetry.registry.register(reloads)
            reloading = Reloading(
                settings.repository,
                exchanging.carry_out,
                reloads,
                exchanging.unserved,
                way_in.acted_alone,
            )
            rpc = await serve_rpc(
                engine,
                settings.host,
                settings.grpc_port,
                shared_memory=settings.registers_shared_memory,
                feedback=learned.feedback,
                frontier=lambda: asyncio.to_thread(watch.view),
                repository=reloading,
                observing=Observed.alone(Here(begun, tracing)),
                connection_age=settings.connection_age,
                max_regions=settings.max_shared_memory_regions,
                tls=way_in.grpc,
                access=way_in.guard,
                audit=way_in.audit,
                names=names_of,
                preparing_threads=preparing_threads(settings),
            )
            exchanging.tell(telemetry, life, learned, rpc)
            dial = dialling(giving(rpc), asyncio.get_running_loop())
            explainer.listening(rpc.port, dial)
            inside.listening(dial)
            await stack.enter_async_context(keeping_quotas(settings, engine, telemetry))
            life.serves()
            watched = asyncio.create_task(health.watch(engine, rpc))
            announce(f"{settings.host}:{rpc.port}", http.url)
            async with (
                asked_again(settings, reloading, loaded.stamps, hung_up, way_in.reload),
                nullcontext() if residing is None else residing.running(),
            ):
                await stop.wait()
            watched.cancel()
            life.drains()
            await rpc.not_serving()
            await drain(settings.drain_seconds, engine, rpc)
    finally:
        watch.stop()
        http.stop()
        for executor in executors.values():
            executor.close()
