"""The server: every part put together, started in order, stopped in the reverse order."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import Callable

import structlog

from gearshift.app.parts import (
    Progress,
    load_catalog,
    load_variants,
    make_executors,
    make_workers,
    measure_profiles,
)
from gearshift.app.settings import Settings
from gearshift.core.scheduler import Scheduler
from gearshift.engine import Engine, LoopClock
from gearshift.errors import ConfigurationInvalid
from gearshift.http import HttpServer, create_app
from gearshift.profiling import warm_up
from gearshift.rpc import serve as serve_rpc
from gearshift.telemetry import PrometheusTelemetry

log = structlog.get_logger(__name__)


async def serve(
    settings: Settings, on_progress: Progress, announce: Callable[[str, str], None]
) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Raises before anything is announced if a
    port is taken or the repository does not load.

    `announce` gets the gRPC and the HTTP address once every variant has answered.
    """
    check_port(settings.host, settings.grpc_port)
    executors = make_executors(settings)
    catalog = load_catalog(settings, executors)
    telemetry = PrometheusTelemetry(catalog)
    serving = False
    http = HttpServer(
        create_app(telemetry.exposition, lambda: serving, telemetry.triton_exposition),
        settings.host,
        settings.http_port,
    )
    http.start()
    try:
        load_variants(catalog, executors)
        workers = make_workers(settings, executors)
        profiles = await measure_profiles(
            settings, catalog, executors, workers, refresh=False, on_progress=on_progress
        )
        await warm_up(catalog, executors, workers)
        telemetry.profiled(p for name in catalog.models for p in profiles.everywhere(name))
        scheduler = Scheduler(
            catalog,
            profiles,
            {w.id: w.device for w in workers},
            on_time_bonus=settings.on_time_bonus,
        )
        clock = LoopClock(asyncio.get_running_loop())
        engine = Engine(catalog, scheduler, workers, executors, clock, telemetry)
        # Before anybody is told: whoever starts this may stop it as soon as it says it is ready.
        stop = _stop_on_signal()
        engine.start()
        # What was loaded stays: the collector need not look through it again and again.
        gc.collect()
        gc.freeze()
        rpc = await serve_rpc(
            engine,
            settings.host,
            settings.grpc_port,
            shared_memory=settings.registers_shared_memory,
        )
        serving = True
        announce(f"{settings.host}:{rpc.port}", f"http://{settings.host}:{http.port}")
        await stop.wait()
        log.info("draining")
        serving = False
        await rpc.not_serving()
        await engine.drain(settings.drain_seconds)
        await rpc.stop(grace=1.0)
    finally:
        http.stop()
        for executor in executors.values():
            executor.close()


def check_port(host: str, port: int) -> None:
    """Find a taken gRPC port at once: the real one opens only after loading and warm-up."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigurationInvalid(
                f"cannot listen on {host}:{port} for gRPC: {error.strerror}; stop what uses it"
                f" or choose another with --grpc-port"
            ) from None


def _stop_on_signal() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)

    def first() -> None:
        stop.set()
        for number in numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in numbers:
        loop.add_signal_handler(number, first)
    return stop
