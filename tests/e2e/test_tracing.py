"""Traces of real servers, called by the stock client: to a collector, and as exemplars to a real
Prometheus."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.http as triton_http
from loadtests.otlp import Collector
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from tritonclient.utils import InferenceServerException

from cascade_place import CASCADE, FIRST, THEN, tumor_with_cascade
from onnx_models import TWO_VARIANTS, row_sum
from serving import ROOT, Server, start, stop
from tools import tool

OPENMETRICS = "application/openmetrics-text; version=1.0.0, text/plain; q=0.5"
WITHIN = 30.0
REQUESTS = "gearshift_request_duration_seconds"
UNHURRIED = {"service_class": "preview", "latency_budget_ms": 20_000}

two_cores = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2 if hasattr(os, "sched_getaffinity") else False,
    reason="two processes must not share a core",
)


@pytest.fixture(scope="module")
def collector():
    made = Collector()
    yield made
    made.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory, collector):
    root = tmp_path_factory.mktemp("traced")
    tumor_with_cascade(root / "model_repo")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        running = start(
            *("--repository", str(root / "model_repo"), "--state-dir", str(root / "state")),
            *("--trace-ratio", "1"),
        )
    yield running
    assert stop(running) == 0


@pytest.fixture(scope="module")
def rows():
    with np.load(ROOT / "model_repo" / "tumor" / "samples.npz", allow_pickle=False) as file:
        return file["inputs"].astype(np.float32)


def connected(server: Server) -> triton.InferenceServerClient:
    """Channels of one process share their connections otherwise."""
    own = [("grpc.use_local_subchannel_pool", 1)]
    return triton.InferenceServerClient(server.grpc, channel_args=own)


def ask(server: Server, name: str, model: str, values, **options) -> triton.InferResult:
    tensor = triton.InferInput(name, list(values.shape), "FP32")
    tensor.set_data_from_numpy(values)
    with connected(server) as client:
        return client.infer(model, [tensor], **options)


@contextmanager
def asking(server: Server) -> Iterator[Callable[..., None]]:
    """Eight times, over two connections that stay: of two processes each has one of them, because
    a new one goes to whoever has the fewest."""
    rows = triton.InferInput("x", [1, 3], "FP32")
    rows.set_data_from_numpy(np.ones((1, 3), np.float32))
    with connected(server) as one, connected(server) as other:

        def eight(model: str = "sums", **options) -> None:
            for client in (one, other) * 4:
                client.infer(model, [rows], **options)

        yield eight


def until(found: Callable[[], object]) -> object:
    deadline = time.monotonic() + WITHIN
    while not (value := found()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return value


def page(server: Server, accept: str) -> tuple[str, str]:
    request = urllib.request.Request(server.http + "/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.read().decode(), response.headers["Content-Type"]


def exemplars(server: Server, family: str) -> list[dict[str, str]]:
    """Their labels, of a page that is OpenMetrics to the letter."""
    text, content_type = page(server, OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    return [
        sample.exemplar.labels
        for metric in text_string_to_metric_families(text)
        if metric.name == family
        for sample in metric.samples
        if sample.exemplar is not None
    ]


def test_a_request_that_goes_on_in_a_cascade_runs_twice_in_its_trace(server, collector, rows):
    pinned = {**UNHURRIED, "variant": CASCADE}
    ask(server, "features", "tumor", rows[:4], request_id="cascade", parameters=pinned)
    (root,) = collector.roots(1, request_id="cascade")
    assert (root["variant"], root["cascade"], root["reason"]) == (THEN, CASCADE, "pinned")
    steps = collector.children(root)
    assert [step.name for step in steps] == ["decode", "queue", "run", "queue", "run", "encode"]
    assert [step["stage"] for step in steps[1:5]] == ["first", "first", "then", "then"]
    first, then = steps[2], steps[4]
    assert (first["variant"], then["variant"]) == (FIRST, THEN)
    assert first["unsure_rows"] == then["batch.rows"] <= first["batch.rows"] == 4
    assert first.end <= steps[3].begin <= then.begin
    for step in (first, then):
        (link,) = step.links
        assert (step.trace_id, step.span_id) in collector.by_id(link[1]).links


def test_a_real_prometheus_finds_the_trace_behind_a_slow_request(server, collector, rows, tmp_path):
    pinned = {**UNHURRIED, "variant": THEN}
    ask(server, "features", "tumor", rows[:1], request_id="slow", parameters=pinned)
    (root,) = collector.roots(1, request_id="slow")
    assert root.trace_id in {each["trace_id"] for each in exemplars(server, REQUESTS)}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    target = server.http.removeprefix("http://")
    (tmp_path / "prometheus.yml").write_text(
        "scrape_configs: [{job_name: gearshift, scrape_interval: 500ms, scrape_timeout: 500ms,"
        f" static_configs: [{{targets: ['{target}']}}]}}]\n"
    )
    with (tmp_path / "log").open("wb") as log:
        prometheus = subprocess.Popen(
            [
                tool("prometheus"),
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address={address}",
                "--enable-feature=exemplar-storage",
            ],
            stdout=log,
            stderr=log,
        )
    try:

        def asked(path: str, **query: str) -> list[dict]:
            url = f"http://{address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
            try:
                with urllib.request.urlopen(url, timeout=5) as response:
                    data = json.load(response)["data"]
            except OSError:
                return []
            return data if isinstance(data, list) else data["result"]

        def found(name: str) -> list[dict]:
            end = f"{time.time():.3f}"
            return asked("query_exemplars", query=f"{name}_bucket", start="0", end=end)

        def told(name: str) -> set[str]:
            return {e["labels"]["trace_id"] for each in found(name) for e in each["exemplars"]}

        until(lambda: root.trace_id in told(REQUESTS))
        assert root.trace_id in told("gearshift_queue_duration_seconds")
        batches = {batch.trace_id for batch in collector.spans() if batch.name == "batch tumor"}
        assert told("gearshift_compute_duration_seconds") <= batches
        (up,) = asked("query", query="up")
        assert up["value"][1] == "1"
        # Names that OpenMetrics would like otherwise are what they are without it.
        (total,) = asked("query", query="sum(gearshift_served_accuracy_sum)")
        assert float(total["value"][1]) > 0
    finally:
        prometheus.terminate()
        assert prometheus.wait(WITHIN) == 0


def test_who_does_not_ask_for_openmetrics_gets_no_exemplars(server):
    text, content_type = page(server, "text/plain;version=0.0.4")
    assert content_type.startswith("text/plain; version=0.0.4")
    assert "trace_id" not in text
    assert "gearshift_slack_seconds_count" in text


@two_cores
def test_each_of_several_processes_sends_its_own_and_all_that_it_holds_at_the_end(tmp_path):
    collector = Collector()
    for name, scale in (("large", 1.0), ("small", 1.1)):
        row_sum(tmp_path / "repo" / "sums" / name / "model.onnx", scale)
    (tmp_path / "repo" / "sums" / "model.toml").write_text(TWO_VARIANTS)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
        environment.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=pod-7")
        server = start(
            *("--repository", str(tmp_path / "repo"), "--state-dir", str(tmp_path / "state")),
            *("--processes", "2", "--workers", "2"),
            *("--otel-endpoint", collector.endpoint, "--trace-ratio", "1"),
        )
    try:
        with asking(server) as ask_all:
            ask_all()
        shown = {each["trace_id"] for each in exemplars(server, REQUESTS)}
        assert shown
    finally:
        assert stop(server) == 0
    roots = collector.roots(8)
    assert shown <= {root.trace_id for root in roots}
    resources = {
        (r.resource["service.instance.id"], r.resource["gearshift.process"]) for r in roots
    }
    assert resources == {("pod-7/0", 0), ("pod-7/1", 1)}
    collector.close()


@pytest.mark.parametrize("processes", ["1", pytest.param("2", marks=two_cores)])
def test_stock_clients_say_what_is_traced_of_all_processes(tmp_path, processes):
    collector = Collector()
    for name in ("large", "small"):
        for model in ("sums", "others"):
            row_sum(tmp_path / "repo" / model / name / "model.onnx")
    for model in ("sums", "others"):
        (tmp_path / "repo" / model / "model.toml").write_text(TWO_VARIANTS)
    server = start(
        *("--repository", str(tmp_path / "repo"), "--state-dir", str(tmp_path / "state")),
        *("--processes", processes, "--workers", "2"),
        *("--otel-endpoint", collector.endpoint, "--trace-ratio", "0"),
    )
    try:
        with asking(server) as ask_all:
            ask_all(request_id="before")
            with triton_http.InferenceServerClient(server.http.removeprefix("http://")) as client:
                assert client.get_trace_settings()["trace_rate"] == "0"
                told = client.update_trace_settings("", {"trace_rate": "1"})
                assert told["trace_level"] == ["TIMESTAMPS"]
                assert client.get_trace_settings("sums") == told
                client.update_log_settings({"log_info": False, "log_verbose_level": 1})
                assert client.get_log_settings()["log_info"] is False
                with pytest.raises(InferenceServerException, match="cannot be set") as failed:
                    client.update_log_settings({"log_file": "/tmp/x"})
                assert failed.value.status() == "501"
            ask_all(request_id="traced")
            with triton_http.InferenceServerClient(server.http.removeprefix("http://")) as client:
                own = client.update_trace_settings("sums", {"trace_level": ["OFF"]})
                assert own == {**told, "trace_level": ["OFF"]}
                assert client.get_trace_settings() == client.get_trace_settings("others") == told
            ask_all(request_id="not of this model")
            ask_all("others", request_id="of another")
            with triton.InferenceServerClient(server.grpc) as client:
                client.update_trace_settings(settings={"trace_level": ["OFF"]})
                client.update_trace_settings("sums", {"trace_level": None})
                assert client.get_log_settings().settings["log_verbose_level"].uint32_param == 1
            ask_all(request_id="after")
    finally:
        assert stop(server) == 0
    roots = collector.roots(16)
    assert Counter((root["model"], root["request_id"]) for root in roots) == {
        ("sums", "traced"): 8,
        ("others", "of another"): 8,
    }
    if processes == "2":
        assert {root.resource["gearshift.process"] for root in roots} == {0, 1}
    collector.close()
