"""The two servers that are asked: gearshift in this process, Triton in one of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from conformance.models import SHAPES, SLOW, TRITON_MODEL, Computing, models, triton_config
from gearshift.app.inside import Inside, dialling, giving
from gearshift.app.observing import Observed
from gearshift.core.catalog import Catalog
from gearshift.core.observability import Beginning, Observability
from gearshift.core.profile import LatencyPoint, Profile, Profiles
from gearshift.core.scheduler import Scheduler
from gearshift.engine import Engine, LoopClock
from gearshift.ports import Worker
from gearshift.rpc import make_server
from gearshift.telemetry import PrometheusTelemetry
from rest_site import opened

END_WITHIN = 30.0
MOST = 64 * 2**20
"""Bytes of a body."""


class At(NamedTuple):
    """Where a server is: host:port of either."""

    grpc: str
    http: str


async def _nobody(state: Observability) -> None:
    """Follows."""


@contextmanager
def gearshift() -> Iterator[At]:
    """The addresses of the real engine and server, with an executor that computes in Python."""
    ready, told = threading.Event(), {}

    async def live() -> None:
        loop = asyncio.get_running_loop()
        catalog = Catalog(1, {model.name: model for model in models()})
        executor = Computing(
            catalog.models["sum"].signature,
            lambda variant, rows: SLOW if variant.startswith("slow") else 0.0,
        )
        profiles = []
        for model in catalog.models.values():
            seconds = SLOW if model.name == "slow" else 0.001
            for variant in model.variants:
                executor.load(model, variant)
                points = [LatencyPoint(8, seconds, seconds)]
                profiles.append(Profile(variant, "cpu", points, model.max_batch_size))
        workers = [Worker(0, "cpu")]
        engine = Engine(
            catalog,
            Scheduler(catalog, Profiles(catalog.models, profiles), {0: "cpu"}),
            workers,
            {"fake": executor},
            LoopClock(loop),
            PrometheusTelemetry(catalog),
        )
        engine.start()
        # What is logged here is the business of whoever runs this.
        observed = Observed(Beginning(Observability()), _nobody)
        server = await make_server(engine, shared_memory=True, observing=observed)
        await server.listen("127.0.0.1", 0)
        inside = Inside()
        inside.listening(dialling(giving(server), loop))
        http = opened(inside, MOST)
        end = asyncio.Event()
        told.update(
            at=At(f"127.0.0.1:{server.port}", f"127.0.0.1:{http.port}"),
            end=lambda: loop.call_soon_threadsafe(end.set),
        )
        ready.set()
        await end.wait()
        http.stop()
        await engine.drain(1.0)
        await server.stop(0.5)

    thread = threading.Thread(target=lambda: asyncio.run(live()), daemon=True)
    thread.start()
    assert ready.wait(END_WITHIN), "the server did not come up"
    try:
        yield told["at"]
    finally:
        told["end"]()
        thread.join(END_WITHIN)


@contextmanager
def triton(place: Path) -> Iterator[At]:
    """The addresses of a real Triton with the same models, installed under `place` at first."""
    # Only here: the benchmarks' way to Triton needs more than the tests.
    from loadtests.peers.peer import Peer, Place, start
    from loadtests.peers.processes import free_port
    from loadtests.peers.triton import TRITON, site_packages

    found = Place(place, {})
    TRITON.prepare(found)
    repository = place / "conformance-models"
    site = site_packages(found)
    for name, shape in SHAPES.items():
        for version in range(1, shape.versions + 1):
            folder = repository / name / str(version)
            folder.mkdir(parents=True, exist_ok=True)
            text = TRITON_MODEL.format(site=str(site), slow=SLOW)
            (folder / "model.py").write_text(text)
        (repository / name / "config.pbtxt").write_text(triton_config(name))
    launch, http_port = TRITON.launch, free_port()

    def ours(where: Place, port: int):
        there = launch(where, port)
        command = (
            f"--model-repository={repository}" if part.startswith("--model-repository") else part
            for part in there.command
            if part != "--allow-http=false"
        )
        http = ("--http-address=127.0.0.1", f"--http-port={http_port}")
        explicit = ("--model-control-mode=explicit", "--load-model=*")
        return type(there)((*command, *http, *explicit), there.environment)

    running = start(Peer("triton-conformance", TRITON.title, TRITON.prepare, ours), found)
    try:
        yield At(f"127.0.0.1:{running.port}", f"127.0.0.1:{http_port}")
    finally:
        running.tree.kill()
