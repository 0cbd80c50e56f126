"""A real Prometheus with the shipped rules, a real Alertmanager with the shipped routes, and who
is on call: a web hook that writes down what arrives, and when."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from loadtests.peers.peer import ROOT

DEPLOY = ROOT / "deploy"
TOOLS = ROOT / "build" / "tools"
STARTED_WITHIN = 30.0
STOPPED_WITHIN = 10.0
RECEIVERS = ("pager", "tickets", "news")


@dataclass(frozen=True, slots=True)
class Arrived:
    """One alert as a receiver got it; `at` on the monotonic clock."""

    at: float
    receiver: str
    name: str
    severity: str
    labels: dict[str, str]
    annotations: dict[str, str]


class OnCall:
    """Keeps each alert once, when it first came. Filled on other threads."""

    def __init__(self) -> None:
        self._arrived: dict[tuple[tuple[str, str], ...], Arrived] = {}
        self._lock = threading.Lock()

    @property
    def arrived(self) -> list[Arrived]:
        with self._lock:
            return list(self._arrived.values())

    def take(self, receiver: str, message: dict[str, Any]) -> None:
        """A message of Alertmanager (web hook, version 4)."""
        now = time.monotonic()
        with self._lock:
            for alert in message["alerts"]:
                labels = alert["labels"]
                if alert["status"] == "firing":
                    self._arrived.setdefault(
                        tuple(sorted(labels.items())),
                        Arrived(
                            now,
                            receiver,
                            labels["alertname"],
                            labels["severity"],
                            labels,
                            alert["annotations"],
                        ),
                    )


@dataclass(frozen=True, slots=True)
class Stack:
    on_call: OnCall
    prometheus: str
    alertmanager: str

    def held_back(self) -> list[str]:
        """Names of the alerts that Alertmanager keeps to itself, because of another one."""
        return sorted(
            alert["labels"]["alertname"]
            for alert in _json(f"{self.alertmanager}/api/v2/alerts")
            if alert["status"]["inhibitedBy"]
        )


def _json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as response:
        return json.load(response)


@contextmanager
def watching(targets: Sequence[str], folder: Path, interval: float) -> Iterator[Stack]:
    """All of it until the block ends, over `targets` (host:port of /metrics), scraped and judged
    every `interval` seconds. Rules and routes are the shipped ones; Alertmanager gathers for one
    second instead of up to five minutes."""
    with alerting(folder) as (on_call, alertmanager):
        prometheus = _free_port()
        with _prometheus(folder, targets, prometheus, alertmanager, interval):
            yield Stack(on_call, f"http://127.0.0.1:{prometheus}", alertmanager)


@contextmanager
def alerting(folder: Path) -> Iterator[tuple[OnCall, str]]:
    """Who is on call and the address of an Alertmanager that tells them, until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    on_call = OnCall()
    with _hook(on_call) as hook:
        port = _free_port()
        with _alertmanager(folder, hook, port):
            yield on_call, f"http://127.0.0.1:{port}"


@contextmanager
def _hook(on_call: OnCall) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            on_call.take(self.path.strip("/"), json.loads(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """What arrives is kept, not printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def _alertmanager(folder: Path, hook: str, port: int) -> Iterator[None]:
    shipped = (DEPLOY / "alertmanager" / "alertmanager.yml").read_text()
    routes, _ = shipped.split("\nreceivers:\n")
    routes = re.sub(r"(group_wait|group_interval): \S+", r"\1: 1s", routes)
    receivers = [
        f"  - name: {name}\n    webhook_configs:\n      - url: {hook}/{name}\n"
        for name in RECEIVERS
    ]
    (folder / "alertmanager.yml").write_text(f"{routes}\nreceivers:\n{''.join(receivers)}")
    shutil.copy(DEPLOY / "alertmanager" / "gearshift.tmpl", folder)
    words = [
        str(TOOLS / "alertmanager"),
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
    with _running(words, f"http://127.0.0.1:{port}/-/ready", folder / "alertmanager.log"):
        yield


@contextmanager
def _prometheus(
    folder: Path, targets: Sequence[str], port: int, alertmanager: str, interval: float
) -> Iterator[None]:
    shipped = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    shipped = re.sub(r"(scrape_interval|evaluation_interval): \S+", rf"\1: {interval:g}s", shipped)
    shipped = shipped.replace("../chart", str(DEPLOY / "chart"))
    shipped = shipped.replace("localhost:9093", alertmanager.removeprefix("http://"))
    shipped = shipped.replace("localhost:8002", ", ".join(targets))
    (folder / "prometheus.yml").write_text(shipped)
    words = [
        str(TOOLS / "prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with _running(words, f"http://127.0.0.1:{port}/-/ready", folder / "prometheus.log"):
        yield


@contextmanager
def _running(words: Sequence[str], ready: str, log: Path) -> Iterator[None]:
    """A process that answers at `ready` once it is; ended with the block."""
    with log.open("w") as written:
        process = subprocess.Popen(words, stdout=written, stderr=written)
    try:
        end = time.monotonic() + STARTED_WITHIN
        while True:
            try:
                with urllib.request.urlopen(ready, timeout=1):
                    break
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"{words[0]} did not start: {log.read_text()}") from None
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    """A port that was free a moment ago: neither of the two says which it took by itself."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
