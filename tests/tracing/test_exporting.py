"""Nobody takes the spans, or not fast enough: serving goes on, and few words are lost about it."""

from __future__ import annotations

import io
import json
import logging
import socket
import time

import pytest

from gearshift import tracing
from gearshift.errors import UNEXPECTED, ConfigurationInvalid
from gearshift.telemetry import configure_logs
from gearshift.tracing.exporting import CHATTY, Health
from grpc_bench import GrpcBench

BOUND = 30.0


@pytest.fixture
def nobody():
    """An address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def silent():
    """Somebody who takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def log():
    stream = io.StringIO()
    configure_logs(format="json", stream=stream)
    return stream


def lines(log: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def spans(traces, count: int) -> None:
    for _ in range(count):
        traces.begin("a/B", (), 1.0, 1.0).failed(ValueError("over"), UNEXPECTED, 2.0)


@pytest.mark.parametrize("where", ["nobody", "silent"])
def test_a_collector_that_is_not_there_disturbs_nobody(where, request, ask, log, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    endpoint = request.getfixturevalue(where)
    traces = tracing.start(endpoint, 1.0)
    bench = GrpcBench(tracing=traces)
    for _ in range(20):
        ask(bench)
    deadline = time.monotonic() + BOUND
    while not any("not taken" in str(line["event"]) for line in lines(log)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    ask(bench)
    bench.stop()
    before = time.monotonic()
    traces.close(0.2)
    assert time.monotonic() - before < BOUND
    told = [line for line in lines(log) if line["level"] != "info"]
    assert [line["event"] for line in told] == [
        "spans are not taken; requests are served all the same"
    ]
    assert told[0]["endpoint"] == endpoint
    assert "Failed to export" in str(told[0]["reason"])


def test_more_than_can_be_sent_is_dropped_and_told_once(silent, log, monkeypatch):
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "30")
    traces = tracing.start(silent, 1.0)
    spans(traces, 1_000)
    traces.close(0.1)
    dropped = [line for line in lines(log) if "dropped" in str(line["event"])]
    assert len(dropped) == 1


def test_when_they_are_taken_again_that_is_told(log):
    health = Health("http://c:4317")
    for spans_sent, taken in ((5, False), (3, False), (4, True), (4, True), (1, False)):
        health.sent(spans_sent, taken)
    health.close()
    told = [(line["event"].split()[2], line.get("lost")) for line in lines(log)]
    assert told == [("not", None), ("taken", 8), ("not", None)]


def test_what_is_held_is_sent_at_the_end(collector, monkeypatch):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
    traces = tracing.start(collector.endpoint, 1.0)
    spans(traces, 10)
    assert collector.spans() == []
    traces.close(10.0)
    assert len(collector.roots(10)) == 10
    assert max(collector.batches) <= 32
    for name in CHATTY:
        logger = logging.getLogger(name)
        assert (logger.handlers, logger.propagate) == ([], True)


def test_what_the_environment_says_of_sending_must_be_right(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")
    with pytest.raises(ConfigurationInvalid, match=r"http://c:4317.*OTEL_\*.*soon"):
        tracing.start("http://c:4317", 1.0)
    assert logging.getLogger(CHATTY[0]).handlers == []
