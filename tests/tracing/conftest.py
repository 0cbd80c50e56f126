"""A served engine that traces everything to a collector in the same process."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import tritonclient.grpc as triton
from loadtests.otlp import Collector

from gearshift import tracing
from grpc_bench import GrpcBench


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    """Spans are sent at once, whatever stands in the environment of the tests."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.delenv("OTEL_TRACES_SAMPLER", raising=False)
    # The SDK says the same again only after 20 seconds, whoever would hear it for the first time.
    for once in logging.getLogger("opentelemetry.exporter.otlp.proto.grpc.exporter").filters:
        once.last_log = None


@pytest.fixture
def collector():
    made = Collector()
    yield made
    made.close()


@pytest.fixture
def make_traced(collector):
    """A bench that traces this share of the requests."""
    made = []

    def make(ratio: float = 1.0, **options) -> GrpcBench:
        traces = tracing.start(collector.endpoint, ratio)
        made.append((GrpcBench(tracing=traces, **options), traces))
        return made[-1][0]

    yield make
    # Each puts back what it found: the last one first.
    for bench, traces in reversed(made):
        bench.stop()
        traces.close(10.0)


@pytest.fixture
def traced(make_traced):
    return make_traced()


@pytest.fixture
def ask():
    """One request; returns the answer, or raises what the stock client raises."""

    def asked(bench, model="m", rows=1, **options):
        tensor = triton.InferInput("x", [rows, 3], "FP32")
        tensor.set_data_from_numpy(np.ones((rows, 3), np.float32))
        with triton.InferenceServerClient(bench.address) as client:
            return client.infer(model, [tensor], **options)

    return asked
