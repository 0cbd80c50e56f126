"""The HTTP side over real sockets."""

from __future__ import annotations

import http.client
import logging
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from starlette.applications import Starlette

from gearshift import __version__
from gearshift.errors import ConfigurationInvalid
from gearshift.http import HttpServer, create_app

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass
class State:
    """What the application is told, and what it did."""

    ready: bool = False
    broken: bool = False
    boards: int = 0
    accepts: list[str] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        self.accepts.append(accept)
        self.threads.add(threading.get_ident())
        if self.broken:
            raise RuntimeError("secret cause")
        return b"up 1\n", CONTENT_TYPE

    def board(self) -> bytes:
        self.threads.add(threading.get_ident())
        if self.broken:
            raise RuntimeError("secret cause")
        self.boards += 1
        return b'{"board": %d}' % self.boards

    async def explain(self, query: Mapping[str, str]) -> tuple[int, bytes]:
        self.asked.append(dict(query))
        return 404, b'{"error": "no such model"}'

    def app(self) -> Starlette:
        return create_app(
            exposition=self.exposition,
            triton=lambda: (b"nv 1\n", CONTENT_TYPE),
            is_ready=lambda: self.ready,
            board=self.board,
            explain=self.explain,
        )


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def server(state: State) -> Iterator[HttpServer]:
    server = HttpServer(state.app(), "127.0.0.1", 0)
    server.start()
    yield server
    server.stop()


@dataclass
class Reply:
    status: int
    body: str
    headers: http.client.HTTPMessage


def ask(
    server: HttpServer, path: str, method: str = "GET", headers: Mapping[str, str] | None = None
) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request(method, path, headers=dict(headers or {}))
        response = connection.getresponse()
        return Reply(response.status, response.read().decode(), response.headers)
    finally:
        connection.close()


def test_metrics_are_what_the_exposition_gives(server: HttpServer) -> None:
    reply = ask(server, "/metrics")
    assert (reply.status, reply.body) == (200, "up 1\n")
    assert reply.headers["Content-Type"] == CONTENT_TYPE
    assert ask(server, "/metrics/triton").body == "nv 1\n"


def test_metrics_come_in_the_format_that_is_asked_for(server: HttpServer, state: State) -> None:
    reply = ask(server, "/metrics", headers={"Accept": "application/openmetrics-text"})
    assert reply.headers["Vary"] == "Accept"
    ask(server, "/metrics")
    assert state.accepts == ["application/openmetrics-text", ""]


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
    assert f"<small>{__version__}</small>" in reply.body
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    for path in ("/metrics", "/metrics/triton", "/healthz", "/readyz"):
        assert f'href="{path}"' in reply.body
        assert ask(server, path).status in (200, 503)


def test_the_page_brings_its_own_files_and_no_others(server: HttpServer) -> None:
    """Whatever the page and its scripts name is there, from this server, with its own type."""
    types = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    wanted = set(re.findall(r'(?:href|src)="(/page/[^"]+)"', ask(server, "/").body))
    assert {"/page/main.js", "/page/page.css", "/page/icon.svg"} <= wanted
    seen: set[str] = set()
    while wanted:
        path = wanted.pop()
        seen.add(path)
        reply = ask(server, path)
        assert reply.status == 200, path
        kind = types[path.rpartition(".")[2]]
        assert reply.headers["Content-Type"].removesuffix("; charset=utf-8") == kind
        modules = re.findall(r'from "\./([^"]+)"', reply.body) if path.endswith(".js") else []
        wanted |= {f"/page/{name}" for name in modules} - seen
        assert not re.search(r"https?://(?!www\.w3\.org/)", reply.body), path
    assert ask(server, "/page/index.html").status == 404
    assert ask(server, "/page/../app.py").status == 404


def test_no_inline_script_or_style(server: HttpServer) -> None:
    page = ask(server, "/").body
    assert not re.search(r"<style|style=|<script[^>]*>[^<]| on[a-z]+=", page)
    policy = ask(server, "/").headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy


def test_one_board_serves_all_who_ask_at_the_same_time(server: HttpServer, state: State) -> None:
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: ask(server, "/frontier.json"), range(16)))
    assert {reply.status for reply in replies} == {200}
    assert {reply.headers["Content-Type"] for reply in replies} == {"application/json"}
    assert state.boards < 16
    assert threading.get_ident() not in state.threads


def test_a_board_that_fails_is_not_the_last_one(
    server: HttpServer, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    state.broken = True
    with caplog.at_level(logging.CRITICAL):
        assert ask(server, "/frontier.json").status == 500
    state.broken = False
    assert ask(server, "/frontier.json").body == '{"board": 1}'


def test_explain_is_asked_with_the_query_and_answered_as_it_answers(
    server: HttpServer, state: State
) -> None:
    reply = ask(server, "/explain?model=a%2Fb&budget_ms=10")
    assert (reply.status, reply.body) == (404, '{"error": "no such model"}')
    assert reply.headers["Content-Type"] == "application/json"
    assert state.asked == [{"model": "a/b", "budget_ms": "10"}]


@pytest.mark.parametrize("path", ["/nothing", "/metrics/", "/../etc/passwd", "/docs", "/page/"])
def test_other_paths_are_not_found(server: HttpServer, path: str) -> None:
    reply = ask(server, path)
    assert reply.status == 404
    assert "there are: /, /frontier.json, /explain, /metrics" in reply.body


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
            HttpServer(State().app(), "127.0.0.1", port)
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
        HttpServer(State().app(), host, port)


def test_the_port_is_free_again_after_stop(state: State) -> None:
    app = state.app()
    first = HttpServer(app, "127.0.0.1", 0)
    first.start()
    first.stop()
    again = HttpServer(app, "127.0.0.1", first.port)
    again.start()
    assert ask(again, "/healthz").status == 200
    again.stop()
    again.stop()


def test_a_server_that_never_started_gives_its_port_back(state: State) -> None:
    app = state.app()
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
