"""Several serving processes behind one port, put together: the parent, which does not serve."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric

from gearshift import telemetry
from gearshift.app.quotas import check_quotas, shared_table
from gearshift.app.settings import Settings
from gearshift.app.signals import stop_on_signal
from gearshift.app.tracing import check_tracing
from gearshift.core.frontier import packed
from gearshift.http import HttpServer, create_app
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
from gearshift.processes.messages import BESIDE, EXEMPLARS, METRICS, STATISTICS, TRITON
from gearshift.rpc import Explainer, statistics

MARGIN = 10.0
"""Seconds beyond `drain_seconds` until processes that have not ended are ended."""


async def supervise(settings: Settings, announce: Callable[[str, str], None]) -> None:
    """Serve with `settings.processes` processes until SIGTERM or SIGINT, then let them drain.

    Raises before anything is announced if a port is taken, the cores or workers cannot be
    divided, or a process does not get ready. `announce` gets the gRPC and the HTTP address once
    all processes serve.
    """
    check_tracing(settings)
    check_quotas(settings)
    with shared_table(settings) as quota_table:
        await _supervise(settings, announce, quota_table)


async def _supervise(
    settings: Settings, announce: Callable[[str, str], None], quota_table: str
) -> None:
    shares = divide(usable_cores(), settings.workers, settings.processes)
    orders = [
        Orders(
            index,
            share.cores,
            share.first_worker,
            settings.model_copy(update={"workers": share.workers, "processes": 1}).model_dump(
                mode="json"
            ),
            quota_table,
        )
        for index, share in enumerate(shares)
    ]
    listeners = bound(settings.host, settings.grpc_port)
    pages = Pages()
    fleet = Fleet([len(share.cores) for share in shares])
    metrics, triton = _Together(pages, METRICS, fleet), _Together(pages, TRITON)
    watch = telemetry.FrontierWatch(metrics.families)
    supervisor = Supervisor(
        orders,
        fleet,
        pages,
        Total(pages, STATISTICS, statistics.summed),
        lambda: packed(watch.view()),
    )
    explainer = Explainer()

    def board() -> bytes:
        living, _ = pages.collect(BESIDE)
        told = [telemetry.beside(body) for body in living]
        return telemetry.board(watch, told, ready=supervisor.ready, grpc_port=explainer.port)

    door = Door(listeners, supervisor.give)
    http: HttpServer | None = None
    try:
        http = HttpServer(
            create_app(
                exposition=metrics.exposition,
                triton=triton.exposition,
                is_ready=lambda: supervisor.ready,
                board=board,
                explain=explainer,
            ),
            settings.host,
            settings.http_port,
        )
        http.start()
        await supervisor.start()
        watch.start()
        # Before anybody is told: whoever starts this may stop it as soon as it says it is ready.
        stop = stop_on_signal()
        door.open()
        port = listeners[0].getsockname()[1]
        explainer.listening(settings.host, port)
        announce(f"{settings.host}:{port}", f"http://{settings.host}:{http.port}")
        await stop.wait()
        # Who comes now should go to another replica, and does so if it is refused.
        door.shut()
        release(listeners)
        await supervisor.drain(settings.drain_seconds + MARGIN)
    finally:
        watch.stop()
        door.shut()
        release(listeners)
        supervisor.close()
        if http is not None:
            http.stop()


class _Together:
    """The families of all processes together; with the `fleet`, what is to be said of it, of the
    process that started them, and of the machine."""

    def __init__(self, pages: Pages, question: bytes, fleet: Fleet | None = None) -> None:
        self._pages = pages
        self._question = question
        self._fleet = fleet
        self._past = telemetry.Past()
        self._own = CollectorRegistry()
        if fleet is not None:
            ProcessCollector(registry=self._own)
            # Once, not by each process: it is that of the machine.
            self._own.register(telemetry.EnergyCollector(telemetry.domains()))
        self._merging = threading.Lock()

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
