"""Clients of the HTTP port that are slow, greedy or odd: bounded, and nobody else kept out."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress

import pytest

from gearshift.core.limits import HttpLimits
from gearshift.http import HttpServer, create_app

SMALL = HttpLimits(connections=8, head_bytes=2_048, seconds=0.4)
PAGE = bytes(8_000_000)
"""More than the kernel takes for who does not read."""


class Pages:
    """What is served, and how often it was made."""

    def __init__(self) -> None:
        self.made = 0
        self.go_on = threading.Event()
        self.go_on.set()

    def exposition(self, accept: str) -> tuple[bytes, str]:
        self.go_on.wait(10)
        self.made += 1
        return (PAGE if accept == "large" else b"up %d\n" % self.made), "text/plain"


async def explained(query: Mapping[str, str]) -> tuple[int, bytes]:
    return 200, b"{}"


@pytest.fixture
def pages() -> Pages:
    return Pages()


def serving(pages: Pages, limits: HttpLimits) -> HttpServer:
    app = create_app(
        exposition=pages.exposition,
        triton=lambda: (b"", "text/plain"),
        is_ready=lambda: True,
        board=lambda: b"{}",
        explain=explained,
    )
    made = HttpServer(app, "127.0.0.1", 0, limits)
    made.start()
    return made


@pytest.fixture
def server(pages: Pages) -> Iterator[HttpServer]:
    made = serving(pages, SMALL)
    yield made
    made.stop()


def connect(server: HttpServer) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", server.port))
    made.settimeout(10)
    return made


def rest(client: socket.socket) -> bytes:
    """All that comes until the connection ends; TimeoutError if it does not end."""
    parts = []
    with suppress(ConnectionResetError, BrokenPipeError):
        while part := client.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def answers(server: HttpServer, path: str = "/healthz") -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    finally:
        connection.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"G",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /he",
    ],
    ids=["nothing", "a byte", "no end of the head", "half of a second request"],
)
def test_who_does_not_say_what_it_wants_is_sent_away(server, sent):
    with connect(server) as client:
        client.sendall(sent)
        ended = threading.Event()

        def drip() -> None:  # a byte now and then is no progress
            with suppress(OSError):
                while sent and not ended.wait(0.05):
                    client.sendall(b"x")

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            rest(client)
        finally:
            ended.set()
            dripping.join()
    assert answers(server)


def test_who_asks_and_does_not_read_is_sent_away(server):
    clients = [connect(server) for _ in range(3)]
    try:
        for client in clients:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: large\r\n\r\n")
        assert answers(server)
        deadline = time.monotonic() + 10
        while server.connections and time.monotonic() < deadline:
            time.sleep(0.02)
        assert server.connections == 0
        for client in clients:
            assert len(rest(client)) < len(PAGE)
    finally:
        for client in clients:
            client.close()


def test_who_reads_may_ask_again_and_again(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    until = time.monotonic() + 3 * SMALL.seconds
    while time.monotonic() < until:
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b"ok\n"
        time.sleep(0.05)
    connection.close()


def test_a_thousand_connections_keep_nobody_out(server):
    clients = []
    try:
        for _ in range(1_000):
            clients.append(connect(server))
            if not len(clients) % 100:
                assert answers(server)
        assert server.connections <= SMALL.connections
        assert server.refused >= 1_000 - SMALL.connections
        assert answers(server, "/metrics")
    finally:
        for client in clients:
            client.close()


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"p" * 700_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 100_000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: nine\r\n\r\n",
    ],
    ids=["a long path", "many headers", "TLS", "a length that is none"],
)
def test_what_is_no_request_or_too_long_is_refused_and_closed(server, head):
    with connect(server) as client:
        with suppress(ConnectionResetError, BrokenPipeError):
            client.sendall(head)
        told = rest(client)
    assert not told or told.startswith(b"HTTP/1.1 4")
    assert answers(server)


def test_a_body_is_not_kept(server):
    with connect(server) as client:
        client.sendall(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000000\r\n\r\n")
        with suppress(ConnectionResetError, BrokenPipeError, TimeoutError):
            client.settimeout(0.5)
            for _ in range(300):
                client.sendall(bytes(65_536))
        client.settimeout(10)
        assert rest(client)[:12] in (b"HTTP/1.1 405", b"")
    assert answers(server)


def test_requests_in_a_row_are_answered_in_a_row(server):
    with connect(server) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
        told = b""
        while told.count(b"ok\n") < 50:
            told += client.recv(65_536)
    assert told.count(b"HTTP/1.1 200") == 50


@pytest.mark.parametrize("method", ["PUT", "DELETE", "TRACE", "OPTIONS", "FROB"])
def test_odd_methods_are_refused(server, method):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, "/metrics")
    assert connection.getresponse().status == 405
    connection.close()


def test_a_page_is_made_once_for_all_who_wait_for_it(pages):
    """Scrapers without end must not take the time of those who serve."""
    server = serving(pages, HttpLimits())
    pages.go_on.clear()
    told: list[bytes] = []

    def scrape() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("GET", "/metrics")
        told.append(connection.getresponse().read())
        connection.close()

    first = threading.Thread(target=scrape)
    first.start()
    time.sleep(0.1)
    others = [threading.Thread(target=scrape) for _ in range(6)]
    for each in others:
        each.start()
    time.sleep(0.1)
    pages.go_on.set()
    for each in (first, *others):
        each.join(10)
    server.stop()
    # Those who came while it was made get the next one: it knows what has happened until then.
    assert sorted(told) == [b"up 1\n", *[b"up 2\n"] * 6]
