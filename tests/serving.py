"""A real server process, driven from outside only."""

from __future__ import annotations

import re
import select
import signal
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[1]
START_WITHIN = 240


@dataclass(frozen=True)
class Server:
    grpc: str
    http: str
    process: subprocess.Popen[str]

    def page(self, path: str = "/metrics") -> str:
        with urllib.request.urlopen(self.http + path, timeout=10) as response:
            return response.read().decode()

    def samples(self, name: str, **labels: str) -> dict[tuple[str, ...], float]:
        """Values of one metric by its other labels, where the given labels match."""
        found = {}
        for family in text_string_to_metric_families(self.page()):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    key = tuple(v for k, v in sorted(sample.labels.items()) if k not in labels)
                    found[key] = sample.value
        return found


def gearshift(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gearshift", *arguments],
        capture_output=True,
        text=True,
        timeout=START_WITHIN,
        check=False,
        **options,
    )


def start(*arguments: str) -> Server:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gearshift", "serve"),
            *("--grpc-port", "0", "--http-port", "0"),
            *arguments,
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    readable, _, _ = select.select([process.stdout], [], [], START_WITHIN)
    line = process.stdout.readline() if readable else ""
    match = re.fullmatch(r"gearshift is ready: gRPC on (\S+), metrics on (\S+)/metrics\n", line)
    if match is None:
        process.kill()
        process.wait()
        pytest.fail(f"the server said {line!r} instead of its addresses")
    return Server(match[1], match[2], process)


def stop(server: Server) -> int:
    server.process.send_signal(signal.SIGTERM)
    try:
        return server.process.wait(60)
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
        server.process.stdout.close()
