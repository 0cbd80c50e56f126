"""What Prometheus may answer, and may not: against a server that does as it is told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest

from gearshift.prometheus import query
from gearshift.prometheus.query import PrometheusFailed, query_range
from gearshift.prometheus.requests import request_rates

Asked = dict[str, list[str]]
Answer = Callable[[BaseHTTPRequestHandler, Asked], None]


@contextmanager
def answering(answer: Answer) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            assert self.path == "/api/v1/query_range"
            answer(self, parse_qs(self.rfile.read(length).decode()))

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def send(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def matrix(*series: tuple[dict[str, str], list[list[object]]]) -> bytes:
    found = [{"metric": labels, "values": values} for labels, values in series]
    return json.dumps(
        {"status": "success", "data": {"resultType": "matrix", "result": found}}
    ).encode()


def ask(url: str, timeout: float = 5.0):
    return query_range(url, "up", 0, 600, 60, timeout)


def test_the_series_as_they_were_sent():
    asked: list[Asked] = []

    def answer(handler: BaseHTTPRequestHandler, what: Asked) -> None:
        asked.append(what)
        send(handler, matrix(({"model": "fraud"}, [[60, "1.5"], [120, "NaN"], [180.5, "2"]])))

    with answering(answer) as url:
        (series,) = ask(url + "/")
    assert (series.labels, series.values) == ({"model": "fraud"}, {60.0: 1.5, 180.5: 2.0})
    assert asked[0]["query"] == ["up"]
    assert asked[0]["step"] == ["60.000"]
    assert asked[0]["timeout"] == ["5000ms"]


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (
            400,
            b'{"status":"error","errorType":"bad_data","error":"parse error: no closing )"}',
            "refuses the query (bad_data): parse error: no closing )",
        ),
        (404, b"<html>not here</html>", "answers 404 Not Found; is it a Prometheus?"),
        (500, b"[1]", "answers 500 Internal Server Error"),
        (200, b"<html>hello</html>", "does not answer as a Prometheus does"),
        (200, b'{"status":"success","data":7}', "does not answer as a Prometheus does"),
        (200, b'{"status":"success","data":{"result":[{"metric":[],"values":[]}]}}', "does not"),
        (200, b'{"status":"error","error":"query timed out"}', "query timed out"),
    ],
)
def test_what_is_no_answer(status, body, told):
    with (
        answering(lambda handler, _: send(handler, body, status)) as url,
        pytest.raises(PrometheusFailed) as raised,
    ):
        ask(url)
    assert f"--prometheus {url}: {told}" in str(raised.value)


@pytest.mark.parametrize("url", ["localhost:9090", "ftp://x", "http://", ""])
def test_what_is_no_url(url):
    with pytest.raises(PrometheusFailed, match="is no URL of a Prometheus"):
        ask(url)


def test_nobody_there():
    with answering(lambda *_: None) as url:
        pass
    with pytest.raises(PrometheusFailed, match="cannot be asked: .*refused"):
        ask(url)


def test_an_answer_that_is_cut_off_is_none():
    def answer(handler: BaseHTTPRequestHandler, _: Asked) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"status":')

    with answering(answer) as url, pytest.raises(PrometheusFailed):
        ask(url)


def test_an_answer_that_never_comes_is_not_waited_for():
    stop = threading.Event()
    with answering(lambda *_: stop.wait(20)) as url:
        try:
            with pytest.raises(PrometheusFailed, match="no answer within 0.2 s; ask for fewer"):
                ask(url, timeout=0.2)
        finally:
            stop.set()


def test_neither_is_one_that_comes_by_the_byte():
    def answer(handler: BaseHTTPRequestHandler, _: Asked) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            # Never as long without a byte as the time-out.
            until = time.monotonic() + 20
            while time.monotonic() < until:
                handler.wfile.write(b" ")
                time.sleep(0.05)
        except OSError:
            pass

    with answering(answer) as url, pytest.raises(PrometheusFailed, match="no answer within 0.3 s"):
        ask(url, timeout=0.3)


def test_an_answer_without_end_is_not_kept(monkeypatch):
    monkeypatch.setattr(query, "MOST_BYTES", 1_000)
    with (
        answering(lambda handler, _: send(handler, b" " * 5_000)) as url,
        pytest.raises(PrometheusFailed, match="the answer is longer than"),
    ):
        ask(url)


def rates(url: str, **options):
    given = {"window": 300.0, "over": 3_600.0, "now": 7_200.0, "timeout": 5.0, **options}
    return request_rates(url, **given)


def test_rates_by_model_and_class_at_the_same_moments():
    asked: list[Asked] = []

    def answer(handler: BaseHTTPRequestHandler, what: Asked) -> None:
        asked.append(what)
        send(
            handler,
            matrix(
                ({"model": "fraud", "service_class": "realtime"}, [[3_900, "2"], [4_200, "4"]]),
                ({"model": "tumor", "service_class": "critical"}, [[4_200, "1"]]),
                ({"model": "face", "service_class": "gate"}, [[3_900, "0"], [4_200, "0"]]),
            ),
        )

    with answering(answer) as url:
        history = rates(url, selector='namespace="prod"')
    assert history.times == (3_900.0, 4_200.0)
    assert {pair: values.tolist() for pair, values in history.rates.items()} == {
        ("fraud", "realtime"): [2.0, 4.0],
        ("tumor", "critical"): [0.0, 1.0],
    }
    (sent,) = asked
    assert sent["query"] == [
        "sum by (model, service_class) (rate(gearshift_requests_total{"
        'outcome!~"invalid|infeasible", namespace="prod"}[300000ms]))'
    ]
    # Windows that neither overlap nor leave anything out.
    assert (sent["start"], sent["end"], sent["step"]) == (["3900.000"], ["7200.000"], ["300.000"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"over": 60.0}, "--over 60 s is shorter than the --window of 300 s"),
        ({"over": 86_400.0 * 90}, "25920 windows, and Prometheus gives 11000 at the most; take a"),
        ({}, "there was no request in the last 3600 s"),
    ],
)
def test_nothing_to_plan_with(options, told):
    with (
        answering(lambda handler, _: send(handler, matrix())) as url,
        pytest.raises(PrometheusFailed) as raised,
    ):
        rates(url, **options)
    assert told in str(raised.value)
