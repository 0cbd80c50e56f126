"""The real engine with the fake executor behind a real gRPC server in a thread of its own."""

from __future__ import annotations

import pytest
import tritonclient.grpc as triton

from grpc_bench import GrpcBench


@pytest.fixture
def make_bench():
    benches = []

    def make(**options) -> GrpcBench:
        benches.append(GrpcBench(**options))
        return benches[-1]

    yield make
    for bench in benches:
        bench.stop()


@pytest.fixture(scope="module")
def bench():
    made = GrpcBench()
    yield made
    made.stop()


@pytest.fixture
def client(bench):
    with triton.InferenceServerClient(bench.address) as made:
        yield made
