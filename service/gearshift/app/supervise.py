"""Several serving processes behind one port, put together: the parent, which does not serve."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from gearshift import telemetry
from gearshift.app.settings import Settings
from gearshift.app.signals import stop_on_signal
from gearshift.http import HttpServer, create_app
from gearshift.http.app import Exposition
from gearshift.processes import (
    Door,
    Fleet,
    Orders,
    Pages,
    Supervisor,
    Total,
    bound,
    divide,
    release,
    usable_cores,
)
from gearshift.processes.messages import METRICS, STATISTICS, TRITON
from gearshift.rpc import statistics

MARGIN = 10.0
"""Seconds beyond `drain_seconds` until processes that have not ended are ended."""


async def supervise(settings: Settings, announce: Callable[[str, str], None]) -> None:
    """Serve with `settings.processes` processes until SIGTERM or SIGINT, then let them drain.

    Raises before anything is announced if a port is taken, the cores or workers cannot be
    divided, or a process does not get ready. `announce` gets the gRPC and the HTTP address once
    all processes serve.
    """
    shares = divide(usable_cores(), settings.workers, settings.processes)
    orders = [
        Orders(
            index,
            share.cores,
            share.first_worker,
            settings.model_copy(update={"workers": share.workers, "processes": 1}).model_dump(
                mode="json"
            ),
        )
        for index, share in enumerate(shares)
    ]
    listeners = bound(settings.host, settings.grpc_port)
    pages = Pages()
    fleet = Fleet([len(share.cores) for share in shares])
    supervisor = Supervisor(orders, fleet, pages, Total(pages, STATISTICS, statistics.summed))
    door = Door(listeners, supervisor.give)
    http: HttpServer | None = None
    try:
        http = HttpServer(
            create_app(
                _exposition(METRICS, supervisor, pages, with_fleet=True),
                lambda: supervisor.ready,
                _exposition(TRITON, supervisor, pages, with_fleet=False),
            ),
            settings.host,
            settings.http_port,
        )
        http.start()
        await supervisor.start()
        # Before anybody is told: whoever starts this may stop it as soon as it says it is ready.
        stop = stop_on_signal()
        door.open()
        port = listeners[0].getsockname()[1]
        announce(f"{settings.host}:{port}", f"http://{settings.host}:{http.port}")
        await stop.wait()
        # The door stays open: who comes now hears from a process that it is shutting down.
        await supervisor.drain(settings.drain_seconds + MARGIN)
    finally:
        door.shut()
        release(listeners)
        supervisor.close()
        if http is not None:
            http.stop()


def _exposition(
    question: bytes, supervisor: Supervisor, pages: Pages, *, with_fleet: bool
) -> Exposition:
    past = telemetry.Past()

    def exposition() -> tuple[bytes, str]:
        living, ended = pages.collect(question)
        for page in ended:
            past.add(page)
        fleet = supervisor.fleet
        told = telemetry.Fleet(fleet.serving, fleet.wanted, fleet.replaced)
        return telemetry.merge(living, past, told if with_fleet else None), CONTENT_TYPE_PLAIN_0_0_4

    return exposition
