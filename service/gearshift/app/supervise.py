"""Several serving processes behind one port, put together: the parent, which does not serve."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import asdict
from functools import partial

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from gearshift import telemetry
from gearshift.access import names_of
from gearshift.app.descriptors import raise_limit
from gearshift.app.entrance import Entrance, make_entrance
from gearshift.app.first_places import check_device_memory
from gearshift.app.inside import Inside, dialling
from gearshift.app.observing import Here, beginning
from gearshift.app.passing import Passing
from gearshift.app.quotas import check_quotas, shared_table
from gearshift.app.reloading import Reloading
from gearshift.app.settings import Settings
from gearshift.app.signals import on_hang_up, stop_on_signal
from gearshift.app.watching import asked_again
from gearshift.core.frontier import packed
from gearshift.core.limits import Usage
from gearshift.door import Door, bound, release
from gearshift.http import HttpServer, create_app
from gearshift.http.rest import rest_routes
from gearshift.processes import (
    Fleet,
    Orders,
    Pages,
    Supervisor,
    Total,
    divide,
    usable_cores,
)
from gearshift.processes.messages import BESIDE, EXEMPLARS, METRICS, STATISTICS, TRITON
from gearshift.repository import stamps
from gearshift.rpc import Explainer, statistics

MARGIN = 10.0
"""Seconds beyond `drain_seconds` until processes that have not ended are ended."""


async def supervise(settings: Settings, announce: Callable[[str, str], None]) -> None:
    """Serve with `settings.processes` processes until SIGTERM or SIGINT, then let them drain.

    Raises before anything is announced if a port is taken, the cores or workers cannot be
    divided, or a process does not get ready. `announce` gets the gRPC and the HTTP address once
    all processes serve.
    """
    check_device_memory(settings)
    raise_limit()
    here = Here(beginning(settings))
    check_quotas(settings)
    way_in = make_entrance(settings)
    with shared_table(settings) as quota_table:
        await _supervise(settings, announce, quota_table, way_in, here)


async def _supervise(
    settings: Settings,
    announce: Callable[[str, str], None],
    quota_table: str,
    way_in: Entrance,
    here: Here,
) -> None:
    shares = divide(usable_cores(), settings.workers, settings.processes)
    orders = [
        Orders(
            index,
            share.cores,
            share.first_worker,
            settings.model_copy(
                update={
                    "workers": share.workers,
                    "processes": 1,
                    **asdict(settings.limits.share(settings.processes)),
                }
            ).model_dump(mode="json"),
            quota_table=quota_table,
        )
        for index, share in enumerate(shares)
    ]
    hung_up = on_hang_up()
    before = stamps(settings.repository)
    passing = Passing(here)
    reloads = telemetry.ReloadsCollector()
    # Which folders are not served, and why, each process says of itself.
    reloading = Reloading(settings.repository, passing.carry_out, reloads, dict, way_in.acted_alone)
    listeners = bound(settings.host, settings.grpc_port)
    pages = Pages()
    fleet = Fleet([len(share.cores) for share in shares])
    own = (reloads, way_in.metrics)
    metrics, triton = _Together(pages, METRICS, fleet, own), _Together(pages, TRITON)
    watch = telemetry.FrontierWatch(metrics.families)
    supervisor = Supervisor(
        orders,
        fleet,
        pages,
        Total(pages, STATISTICS, statistics.summed),
        lambda: packed(watch.view()),
        post=passing,
    )
    passing.follow(supervisor, reloading)
    explainer, inside = Explainer(), Inside()

    def board() -> bytes:
        living, _ = pages.collect(BESIDE)
        told = [telemetry.beside(body) for body in living]
        return telemetry.board(watch, told, ready=supervisor.ready, grpc_port=explainer.port)

    door = Door(listeners, supervisor.give)
    http: HttpServer | None = None
    closing = AsyncExitStack()
    try:
        http = HttpServer(
            create_app(
                exposition=metrics.exposition,
                triton=triton.exposition,
                is_ready=lambda: supervisor.ready,
                board=board,
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
        metrics.tell(telemetry.LimitCollector(Usage(), lambda: (http.connections, http.refused)))
        http.start()
        await closing.enter_async_context(way_in.watching())
        await supervisor.start()
        watch.start()
        # Before anybody is told: whoever starts this may stop it as soon as it says it is ready.
        stop = stop_on_signal()
        door.open()
        port = listeners[0].getsockname()[1]
        dial = dialling(partial(_given, supervisor), asyncio.get_running_loop())
        explainer.listening(port, dial)
        inside.listening(dial)
        announce(f"{settings.host}:{port}", http.url)
        async with asked_again(settings, reloading, before, hung_up, way_in.reload):
            await stop.wait()
        # Who comes now should go to another replica, and does so if it is refused.
        door.shut()
        release(listeners)
        await supervisor.drain(settings.drain_seconds + MARGIN)
    finally:
        watch.stop()
        door.shut()
        release(listeners)
        passing.close()
        supervisor.close()
        if http is not None:
            http.stop()
        await closing.aclose()


def _given(supervisor: Supervisor, connection: socket.socket) -> None:
    """Whoever asks from inside hears that all have their hands full."""
    if not supervisor.give(connection, inside=True):
        connection.close()


class _Together:
    """The families of all processes together; with the `fleet`, what is to be said of it, of the
    process that started them, and of the machine; and what its `own` collectors say."""

    def __init__(
        self,
        pages: Pages,
        question: bytes,
        fleet: Fleet | None = None,
        own: Iterable[Collector] = (),
    ) -> None:
        self._pages = pages
        self._question = question
        self._fleet = fleet
        self._past = telemetry.Past()
        self._own = CollectorRegistry()
        if fleet is not None:
            ProcessCollector(registry=self._own)
            # Once, not by each process: it is that of the machine.
            self._own.register(telemetry.EnergyCollector(telemetry.domains()))
        for collector in own:
            self._own.register(collector)
        self._merging = threading.Lock()

    def tell(self, collector: Collector) -> None:
        """Tell this as well, beside what the processes do."""
        self._own.register(collector)

    def families(self) -> list[Metric]:
        # One at a time: what one has learned of those that ended, all must know.
        with self._merging:
            living, ended = self._pages.collect(self._question)
            own, _ = telemetry.exposed(self._own.collect())
            for page in ended:
                self._past.add(page)
            told = None
            if self._fleet is not None:
                fleet = self._fleet
                told = telemetry.Fleet(fleet.serving, fleet.wanted, fleet.replaced)
            return telemetry.merged([*living, own], self._past, told)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        families: Iterable[Metric] = self.families()
        if telemetry.is_openmetrics(accept):
            told, _ = self._pages.collect(EXEMPLARS)
            families = telemetry.with_exemplars(families, telemetry.unpacked(told))
        return telemetry.exposed(families, accept)
