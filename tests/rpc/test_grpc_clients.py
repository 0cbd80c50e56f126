"""What stock gRPC clients make of a server that stops, and of one that says when to come back."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from gearshift.rpc import server
from http2_pair import GREETING

OWN = ("grpc.use_local_subchannel_pool", 1)
QUICK = ("grpc.initial_reconnect_backoff_ms", 100)

REQUEST = pb.ModelInferRequest(model_name="m", raw_input_contents=[bytes(12)])
REQUEST.inputs.add(name="x", datatype="FP32", shape=[1, 3])


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def channel_to(*benches, policy: str, **more) -> grpc.Channel:
    config = {"loadBalancingConfig": [{policy: {}}], **more}
    return grpc.insecure_channel(
        "ipv4:" + ",".join(bench.address for bench in benches),
        [("grpc.service_config", json.dumps(config)), OWN, QUICK],
    )


class Callers:
    """Ask without pause over one channel."""

    def __init__(self, channel: grpc.Channel, count: int = 4) -> None:
        self.seen: Counter[str] = Counter()
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        while not self._ending.is_set():
            try:
                self._stub.ModelInfer(REQUEST, timeout=20)
                self.seen["OK"] += 1
            except grpc.RpcError as error:
                self.seen[f"{error.code().name}: {error.details()}"] += 1

    def wait_for(self, more: int) -> None:
        wanted = self.seen["OK"] + more
        until(lambda: self.seen["OK"] >= wanted)

    def end(self) -> Counter[str]:
        self._ending.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()
        return self.seen


async def stop(bench) -> None:
    """What the server does at SIGTERM."""
    await bench.server.not_serving()
    await bench.server.send_away()
    await bench.engine.drain(20.0)
    await bench.server.stop(1.0)


@pytest.mark.parametrize("policy", ["round_robin", "pick_first"])
def test_nobody_who_can_go_elsewhere_notices(make_bench, policy):
    """Without a retry policy: each request has one try, or gRPC's own for what was never taken."""
    benches = [make_bench(duration=lambda variant, rows: 0.02) for _ in range(2)]
    with channel_to(*benches, policy=policy) as channel:
        callers = Callers(channel)
        callers.wait_for(30)
        benches[0].run(stop(benches[0]))
        callers.wait_for(30)
        assert set(callers.end()) == {"OK"}


def test_a_server_that_says_not_serving_gets_nothing_from_who_asks_for_its_health(make_bench):
    """By the service config of examples/python_grpcio.py."""
    benches = [make_bench() for _ in range(2)]
    asks = {"healthCheckConfig": {"serviceName": ""}}
    with channel_to(*benches, policy="round_robin", **asks) as channel:
        callers = Callers(channel)
        callers.wait_for(50)
        first = benches[0].telemetry
        assert first.queued
        benches[0].run(benches[0].server.not_serving())

        def left_out() -> bool:
            so_far = len(first.settleds)
            callers.wait_for(50)
            return len(first.settleds) == so_far

        until(left_out)
        assert set(callers.end()) == {"OK"}


def test_what_is_open_ends_well_and_nobody_new_gets_in(make_bench):
    going_on = threading.Event()
    bench = make_bench()
    run = bench.executor.run

    async def held(*arguments):
        await asyncio.to_thread(going_on.wait, 20)
        return await run(*arguments)

    bench.executor.run = held
    said: dict[str, list[int]] = {"": [], "m": [], "live": []}

    def watch(channel: grpc.Channel, service: str) -> None:
        asked = health_pb2.HealthCheckRequest(service=service)
        with suppress(grpc.RpcError):
            for answer in health_pb2_grpc.HealthStub(channel).Watch(asked, timeout=20):
                said[service].append(answer.status)

    serving, not_serving = 1, 2
    with channel_to(bench, policy="pick_first") as channel:
        watchers = [threading.Thread(target=watch, args=(channel, name)) for name in said]
        for watcher in watchers:
            watcher.start()
        admitted = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer.future(
            REQUEST, timeout=20
        )
        until(lambda: all(said.values()) and bench.telemetry.queued)
        stopped = asyncio.run_coroutine_threadsafe(stop(bench), bench.loop)
        until(lambda: said["m"] == said[""] == [serving, not_serving])
        with channel_to(bench, policy="pick_first") as late, pytest.raises(grpc.RpcError) as caught:
            service_pb2_grpc.GRPCInferenceServiceStub(late).ModelInfer(REQUEST, timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert said["live"] == [serving]
        assert not admitted.done()
        going_on.set()
        assert admitted.result(20).model_name == "m"
        stopped.result(20)
        for watcher in watchers:
            watcher.join(20)
            assert not watcher.is_alive()
    assert said["live"] == [serving]


def test_who_has_been_here_for_long_connects_anew_and_loses_nothing(make_bench, monkeypatch):
    monkeypatch.setattr(server, "SWEEP_EVERY", 0.05)
    bench = make_bench(connection_age=0.2)
    seen: set[object] = set()

    def several() -> bool:
        seen.update(bench.server._connections)
        return len(seen) >= 4

    with channel_to(bench, policy="round_robin") as channel:
        callers = Callers(channel)
        until(several)
        assert set(callers.end()) == {"OK"}
    until(lambda: not bench.server._connections)
    assert not bench.server._ages


def test_a_connection_may_live_for_ever(make_bench, monkeypatch):
    monkeypatch.setattr(server, "SWEEP_EVERY", 0.01)
    bench = make_bench()
    with channel_to(bench, policy="round_robin") as channel:
        callers = Callers(channel)
        callers.wait_for(10)
        (before,) = bench.server._connections
        callers.wait_for(50)
        assert bench.server._connections == {before}
        callers.end()


def test_who_does_not_hear_is_not_waited_for(make_bench, monkeypatch):
    """A peer that never reads, as behind a network that is gone."""
    monkeypatch.setattr(server, "HEARD_WITHIN", 0.05)
    bench = make_bench()
    host, port = bench.address.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as silent:
        silent.sendall(GREETING)
        until(lambda: any(each.greeted for each in bench.server._connections))
        bench.run(stop(bench))


RETRIES = {
    "name": [{}],
    "retryPolicy": {
        "maxAttempts": 5,
        "initialBackoff": "600s",
        "maxBackoff": "600s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["RESOURCE_EXHAUSTED"],
    },
}


def asked_over_grpcio(address: str, budget_ms: int) -> None:
    urgent = pb.ModelInferRequest()
    urgent.CopyFrom(REQUEST)
    urgent.parameters["latency_budget_ms"].int64_param = budget_ms
    with grpc.insecure_channel(address, retrying()) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert stub.ModelInfer(urgent, timeout=20).model_name == "m"


def asked_over_tritonclient(address: str, budget_ms: int) -> None:
    x = triton.InferInput("x", [1, 3], "FP32")
    x.set_data_from_numpy(np.zeros((1, 3), np.float32))
    with triton.InferenceServerClient(address, channel_args=retrying()) as client:
        told = {"latency_budget_ms": budget_ms}
        assert client.infer("m", [x], parameters=told, client_timeout=20).get_response().outputs


def retrying() -> list[tuple[str, object]]:
    return [("grpc.service_config", json.dumps({"methodConfig": [RETRIES]})), OWN]


@pytest.mark.parametrize("ask", [asked_over_grpcio, asked_over_tritonclient])
def test_a_retry_by_service_config_waits_as_long_as_the_server_says(make_bench, ask):
    """gRPC's own retries read no RetryInfo: they would come back after their own backoff."""
    bench = make_bench(
        predicted={"large": (0, 1.0), "small": (0, 1.0)},
        duration=lambda variant, rows: 0.6,
        workers=1,
        max_batch_size=1,
    )
    with channel_to(bench, policy="pick_first") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        before = stub.ModelInfer.future(REQUEST, timeout=20)
        until(lambda: bool(bench.executor.runs))
        # Refused at first: the worker is busy for longer than it can wait. Then its turn comes.
        ask(bench.address, 1_200)
        assert before.result().model_name == "m"
    assert bench.telemetry.outcomes()["shed"] >= 1
