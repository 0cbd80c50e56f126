"""`gearshift health` against servers that serve, do not, or are none."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from grpc_health.v1 import health as checks
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gearshift.app.settings import Settings
from gearshift.cli.health import own_address
from serving import gearshift

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@contextmanager
def server(*states: tuple[str, int]) -> Iterator[str]:
    """The address of one that tells these states, or has no health at all where there are none."""
    made = grpc.server(ThreadPoolExecutor(2))
    if states:
        servicer = checks.HealthServicer()
        for service, status in states:
            servicer.set(service, status)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, made)
    port = made.add_insecure_port("127.0.0.1:0")
    made.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        made.stop(0).wait(5)


def health(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return gearshift("health", *arguments, env={**os.environ, **environment})


def test_what_is_well_and_what_is_not():
    with server(("", NOT_SERVING), ("live", SERVING)) as draining:
        # A proxy that cannot be reached: it is for the way out, not for this machine.
        alive = health("live", "--address", draining, http_proxy="http://127.0.0.1:1")
        assert (alive.returncode, alive.stdout) == (0, f"'live' at {draining}: SERVING\n")
        whole = health("--address", draining)
        assert (whole.returncode, whole.stderr) == (1, f"gearshift: {draining}: NOT_SERVING\n")
        unknown = health("fruad", "--address", draining)
        assert unknown.returncode == 1
        assert "no service 'fruad': name a model, or live" in unknown.stderr


def test_where_nobody_answers_is_one_line():
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        told = health("--within", "1", GEARSHIFT_HOST="0.0.0.0", GEARSHIFT_GRPC_PORT=port)
    assert told.returncode == 1
    assert told.stderr.startswith(f"gearshift: no server answers at 127.0.0.1:{port} (")
    assert len(told.stderr.splitlines()) == 1


def test_a_server_of_another_kind():
    with server() as address:
        told = health("--address", address)
    assert told.returncode == 1
    assert "does not speak grpc.health.v1" in told.stderr


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "127.0.0.1:8001"),
        ("0.0.0.0", "127.0.0.1:8001"),
        ("::", "[::1]:8001"),
        ("fd00::5", "[fd00::5]:8001"),
        ("localhost", "localhost:8001"),
    ],
)
def test_the_address_that_the_settings_mean(host, expected):
    assert own_address(Settings(host=host)) == expected
