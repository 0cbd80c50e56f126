"""The HTTP side over real sockets."""

from __future__ import annotations

import http.client
import logging
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from gearshift import __version__
from gearshift.errors import ConfigurationInvalid
from gearshift.http import HttpServer, create_app

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass
class State:
    """What the application is told, and what it did."""

    ready: bool = False
    broken: bool = False
    threads: set[int] = field(default_factory=set)

    def exposition(self) -> tuple[bytes, str]:
        self.threads.add(threading.get_ident())
        if self.broken:
            raise RuntimeError("secret cause")
        return b"up 1\n", CONTENT_TYPE


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def server(state: State) -> Iterator[HttpServer]:
    app = create_app(state.exposition, lambda: state.ready, lambda: (b"nv 1\n", CONTENT_TYPE))
    server = HttpServer(app, "127.0.0.1", 0)
    server.start()
    yield server
    server.stop()


@dataclass
class Reply:
    status: int
    body: str
    headers: http.client.HTTPMessage


def ask(server: HttpServer, path: str, method: str = "GET") -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return Reply(response.status, response.read().decode(), response.headers)
    finally:
        connection.close()


def test_metrics_are_what_the_exposition_gives(server: HttpServer) -> None:
    reply = ask(server, "/metrics")
    assert (reply.status, reply.body) == (200, "up 1\n")
    assert reply.headers["Content-Type"] == CONTENT_TYPE
    assert ask(server, "/metrics/triton").body == "nv 1\n"


def test_metrics_are_rendered_on_another_thread(server: HttpServer, state: State) -> None:
    ask(server, "/metrics")
    assert state.threads
    assert threading.get_ident() not in state.threads


def test_health_is_the_process_and_readiness_the_service(server: HttpServer, state: State) -> None:
    assert (ask(server, "/healthz").status, ask(server, "/healthz").body) == (200, "ok\n")
    assert ask(server, "/readyz").status == 503
    assert ask(server, "/readyz").body.startswith("not ready")
    state.ready = True
    assert ask(server, "/readyz").status == 200


def test_the_page_names_the_version_and_links_what_is_there(server: HttpServer) -> None:
    reply = ask(server, "/")
    assert reply.status == 200
    assert f"gearshift {__version__}" in reply.body
    for path in ("/metrics", "/metrics/triton", "/healthz", "/readyz"):
        assert f'href="{path}"' in reply.body
        assert ask(server, path).status in (200, 503)


def test_without_tritons_names_there_is_no_such_page(state: State) -> None:
    server = HttpServer(create_app(state.exposition, lambda: True), "127.0.0.1", 0)
    server.start()
    try:
        assert ask(server, "/metrics/triton").status == 404
        assert "triton" not in ask(server, "/").body
    finally:
        server.stop()


@pytest.mark.parametrize("path", ["/nothing", "/metrics/", "/../etc/passwd", "/docs"])
def test_other_paths_are_not_found(server: HttpServer, path: str) -> None:
    reply = ask(server, path)
    assert reply.status == 404
    assert "there are: /, /metrics" in reply.body


def test_only_reading_is_answered(server: HttpServer) -> None:
    assert ask(server, "/metrics", "POST").status == 405
    assert ask(server, "/metrics", "DELETE").headers["Allow"]
    head = ask(server, "/metrics", "HEAD")
    assert (head.status, head.body) == (200, "")


@pytest.mark.parametrize("path", ["/", "/metrics", "/nothing"])
def test_every_answer_has_the_security_headers(server: HttpServer, path: str) -> None:
    headers = ask(server, path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    assert headers["Server"] is None


def test_a_failure_is_logged_and_tells_the_caller_nothing(
    server: HttpServer, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    state.broken = True
    with caplog.at_level(logging.ERROR):
        reply = ask(server, "/metrics")
        assert ask(server, "/healthz").status == 200
        server.stop()  # the line is written after the answer: wait for the thread's end
    assert reply.status == 500
    assert "secret" not in reply.body
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert "secret cause" in caplog.text


def test_a_taken_port_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationInvalid) as caught:
            HttpServer(create_app(lambda: (b"", ""), lambda: True), "127.0.0.1", port)
    message = str(caught.value)
    assert f"127.0.0.1:{port}" in message
    assert "--http-port" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("host", "port", "part"),
    [
        ("127.0.0.1", 70_000, "0 to 65535"),
        ("no such host", 0, "not an address of this machine"),
        ("192.0.2.1", 0, "not an address of this machine"),
    ],
)
def test_an_impossible_address_says_what_to_change(host: str, port: int, part: str) -> None:
    with pytest.raises(ConfigurationInvalid, match=part):
        HttpServer(create_app(lambda: (b"", ""), lambda: True), host, port)


def test_the_port_is_free_again_after_stop(state: State) -> None:
    app = create_app(state.exposition, lambda: True)
    first = HttpServer(app, "127.0.0.1", 0)
    first.start()
    first.stop()
    again = HttpServer(app, "127.0.0.1", first.port)
    again.start()
    assert ask(again, "/healthz").status == 200
    again.stop()
    again.stop()


def test_a_server_that_never_started_gives_its_port_back(state: State) -> None:
    app = create_app(state.exposition, lambda: True)
    server = HttpServer(app, "127.0.0.1", 0)
    server.stop()
    HttpServer(app, "127.0.0.1", server.port).stop()


def test_stop_does_not_wait_for_an_idle_connection(server: HttpServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.request("GET", "/healthz")
    connection.getresponse().read()
    server.stop()
    assert "gearshift-http" not in {thread.name for thread in threading.enumerate()}
    connection.close()
