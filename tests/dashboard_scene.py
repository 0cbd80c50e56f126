"""A real server with real traffic, scraped by a real Prometheus with the real rules: what the
dashboards are tried on."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc.aio as triton
import yaml
from tritonclient.utils import InferenceServerException

from gearshift.v1 import gearshift_pb2 as pb
from gearshift.v1.gearshift_pb2_grpc import GearshiftStub
from serving import ROOT, start, stop
from tools import tool

RULES = ROOT / "deploy" / "chart" / "files" / "rules"
MODEL = "garment"
PATIENCE = 30.0

KINDS: tuple[dict[str, float | str], ...] = (
    {},
    {"service_class": "interactive"},
    {"service_class": "interactive", "latency_budget_ms": 15, "min_accuracy": 0.5},
    {"service_class": "archive"},
    {"service_class": "archive", "variant": "pruned-then-teacher"},
    {"service_class": "archive", "variant": "student-then-pruned"},
    {"service_class": "archive", "variant": "student"},
    {"service_class": "archive", "variant": "mini"},
    {"service_class": "edge", "variant": "nano"},
    {"min_accuracy": 0.99},  # nothing reaches it
)

# What no machine without a GPU and readable counters has, each value growing with time, and no
# server without TLS.
BESIDE = """\
# TYPE gearshift_variant_busy_seconds_total counter
gearshift_variant_busy_seconds_total{{model="garment",variant="teacher-int8",device="gpu"}} {gpu}
# TYPE gearshift_energy_joules_total counter
gearshift_energy_joules_total{{domain="package-0"}} {package}
gearshift_energy_joules_total{{domain="package-0/dram"}} {memory}
gearshift_energy_joules_total{{domain="gpu-0"}} {card}
# TYPE gearshift_certificate_expiry_timestamp_seconds gauge
gearshift_certificate_expiry_timestamp_seconds {end}
"""


class Page:
    """A metrics page that is made up, until it is closed."""

    def __init__(self) -> None:
        self.text = ""
        """Times in it are filled in when it is asked for."""
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                now = time.time() % 1e6
                told = page.text.format(
                    gpu=0.4 * now,
                    package=40 * now,
                    memory=5 * now,
                    card=120 * now,
                    end=time.time() + 30 * 86_400,
                )
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                with suppress(ConnectionError):  # who asked had no patience
                    self.wfile.write(told.encode())

            def log_message(self, *_: Any) -> None:
                """Nothing: the test's output is not for it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PATIENCE)


@dataclass
class Scene:
    """`prometheus` is where it answers; `beside` the page of what this machine has not."""

    prometheus: str
    grpc: str
    beside: Page
    gone: Page
    answered: int = 0
    refused: int = 0
    variables: dict[str, str] = field(
        default_factory=lambda: {
            "model": MODEL,
            "service_class": ".+",
            "instance": ".+",
            "cpu_hour": "0.04",
            "gpu_hour": "2.50",
            "__rate_interval": "1m",
            "__range": "5m",
        }
    )

    def filled(self, expression: str) -> str:
        """As Grafana would send it; a variable that nobody knows is an error."""
        for name in sorted(self.variables, key=len, reverse=True):
            expression = expression.replace(f"${name}", self.variables[name])
        assert "$" not in expression, f"an unknown variable in {expression}"
        return expression

    def ask(self, path: str, **query: Any) -> Any:
        """Prometheus' HTTP API; AssertionError with its own words."""
        address = f"{self.prometheus}/api/v1/{path}?{urllib.parse.urlencode(query, doseq=True)}"
        try:
            with urllib.request.urlopen(address, timeout=PATIENCE) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{query}: {error.read().decode()}") from None

    def now(self, expression: str, at: float | None = None) -> list[dict[str, Any]]:
        """The series of an expression, filled in, as they are now or were `at` a time."""
        when = {} if at is None else {"time": at}
        return self.ask("query", query=self.filled(expression), **when)["result"]

    def until(self, expression: str, within: float = PATIENCE) -> None:
        """Wait until an expression has a series."""
        ends = time.monotonic() + within
        while not self.now(expression):
            assert time.monotonic() < ends, f"after {within} s there is no {expression}"
            time.sleep(0.2)


@contextmanager
def scene(folder: Path, *, pause: float = 0.0) -> Iterator[Scene]:
    """Everything started, without traffic yet; `pause` is the `for` of alerts in seconds."""
    repository = folder / "repo"
    shutil.copytree(ROOT / "model_repo" / MODEL, repository / MODEL)
    intent = repository / MODEL / "model.toml"
    text = intent.read_text()
    name = 'name = "mini"\n'
    assert name in text
    intent.write_text(text.replace(name, f"{name}canary = 0.05\n"))
    beside, gone = Page(), Page()
    gone.text = 'gearshift_build_info{{version="0"}} 1\n'
    server = start(
        *("--repository", str(repository), "--state-dir", str(folder / "state")),
        *("--shadow-share", "1"),
    )
    try:
        targets = [server.http.removeprefix("http://"), beside.address, gone.address]
        with _prometheus(folder, targets, pause) as address:
            made = Scene(address, server.grpc, beside, gone)
            # From now on one target is down that was a server, which an alert says.
            made.until(f'gearshift_build_info{{instance="{gone.address}"}}')
            gone.close()
            yield made
    finally:
        beside.close()
        assert stop(server) == 0


@contextmanager
def _prometheus(folder: Path, targets: list[str], pause: float) -> Iterator[str]:
    rules = []
    for path in sorted(RULES.glob("*.yml")):
        groups = yaml.safe_load(path.read_text())
        for group in groups["groups"]:
            for rule in group["rules"]:
                if "for" in rule:
                    rule["for"] = f"{pause}s" if pause else "0s"
        (folder / path.name).write_text(yaml.safe_dump(groups))
        rules.append(path.name)
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": rules,
        "scrape_configs": [{"job_name": "gearshift", "static_configs": [{"targets": targets}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    log = folder / "prometheus.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [
                tool("prometheus"),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address={listen}",
            ],
            stdout=file,
            stderr=file,
        )
    try:
        _wait(f"http://{listen}/-/ready", process, log)
        yield f"http://{listen}"
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"Prometheus does not get ready:\n{log.read_text()[-2000:]}")


def drive(scene: Scene, *shown: str, within: float = 120.0) -> None:
    """Send held-out rows of all kinds, and say what was true of half of the answers, until
    Prometheus has a series for each expression in `shown`."""
    asyncio.run(_drive(scene, shown, within))


async def _drive(scene: Scene, shown: tuple[str, ...], within: float) -> None:
    with np.load(ROOT / "model_repo" / MODEL / "samples.npz", allow_pickle=False) as file:
        inputs, labels = file["inputs"], file["labels"]
    enough = asyncio.Event()
    reports: list[pb.Report] = []
    async with (
        triton.InferenceServerClient(scene.grpc) as client,
        grpc.aio.insecure_channel(scene.grpc) as channel,
    ):
        stub = GearshiftStub(channel)
        # Nothing has changed, which is counted.
        await client.load_model(MODEL, client_timeout=PATIENCE)

        async def call(seed: int) -> None:
            random = np.random.default_rng(seed)
            while not enough.is_set():
                chosen = random.integers(len(labels), size=8)
                tensor = triton.InferInput("pixels", inputs[chosen].shape, "UINT8")
                tensor.set_data_from_numpy(inputs[chosen])
                kind = KINDS[int(random.integers(len(KINDS)))]
                # Shadows run in spare time only.
                await asyncio.sleep(0.03)
                try:
                    answer = await client.infer(
                        MODEL, [tensor], parameters=kind or None, client_timeout=PATIENCE
                    )
                except InferenceServerException:
                    scene.refused += 1
                    continue
                scene.answered += 1
                if random.random() < 0.5:
                    told = answer.get_response().id
                    reports.append(pb.Report(model=MODEL, request_id=told, labels=labels[chosen]))

        async def tell() -> None:
            while not enough.is_set():
                await asyncio.sleep(0.5)
                told = reports[:200]
                del reports[:200]
                await stub.Feedback(pb.FeedbackRequest(reports=told), timeout=PATIENCE)

        async def look() -> None:
            ends = time.monotonic() + within
            missing = list(shown)
            try:
                while missing:
                    assert time.monotonic() < ends, f"after {within} s there is no {missing}"
                    await asyncio.sleep(0.5)
                    found = [await asyncio.to_thread(scene.now, each) for each in missing]
                    missing = [
                        each for each, there in zip(missing, found, strict=True) if not there
                    ]
            finally:
                enough.set()

        await asyncio.gather(look(), tell(), *(call(seed) for seed in range(3)))
