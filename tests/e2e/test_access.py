"""A real server with TLS and access control: who gets in, and what it writes of secrets."""

from __future__ import annotations

import os
import ssl
import time
from datetime import timedelta
from pathlib import Path

import pytest
from loadtests.reliability.credentials import Place, sound, tried

from serving import Server, gearshift, start, stop


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whatever the server writes to standard error."""
    return tmp_path_factory.mktemp("said") / "stderr"


@pytest.fixture(scope="module")
def guarded(place: Place, said: Path):
    before = os.dup(2)
    with said.open("wb") as file:
        os.dup2(file.fileno(), 2)
        try:
            running = start(*place.options, "--log-level", "debug")
        finally:
            os.dup2(before, 2)
            os.close(before)
    yield running
    assert stop(running) == 0


def test_nobody_gets_in_who_does_not_belong_and_no_secret_is_written(
    place: Place, guarded: Server, said: Path
) -> None:
    attempts = tried(place, guarded)
    assert len(attempts) > 800
    assert [attempt for attempt in attempts if attempt.let_in] == []
    controls = sound(place, guarded)
    assert [attempt for attempt in controls if not attempt.welcome] == []
    written = said.read_text() + place.audit.read_text()
    assert '"result": "UNAUTHENTICATED"' in written
    secrets = [place.access.ops, place.access.desk, place.issuer.sign().rpartition(".")[0][:60]]
    secrets += [shown.rpartition(" ")[2] for _, shown in place.headers() if len(shown) > 40]
    for secret in secrets:
        assert secret not in written


def serial(address: str, place: Place) -> str:
    """Of the certificate that a server shows."""
    host, port = address.split("://")[-1].split(":")
    return ssl.get_server_certificate((host, int(port)), ca_certs=str(place.certified.ca))


def test_a_certificate_is_exchanged_on_both_ports_while_it_serves(
    place: Place, guarded: Server
) -> None:
    addresses = (guarded.grpc, guarded.http)
    before = [serial(address, place) for address in addresses]
    assert before[0] == before[1]
    place.certified.issue("localhost", "127.0.0.1", valid=timedelta(days=3))
    deadline = time.monotonic() + 60
    while any(serial(address, place) == before[0] for address in addresses):
        assert time.monotonic() < deadline, "the new one was never shown"
        time.sleep(0.2)


def test_what_would_be_open_to_others_is_not_started(tmp_path: Path) -> None:
    done = gearshift("serve", "--host", "0.0.0.0", "--state-dir", str(tmp_path / "state"))
    assert done.returncode == 1
    assert "gRPC on 0.0.0.0 would be open to other machines without TLS" in done.stderr
    assert "--insecure" in done.stderr
