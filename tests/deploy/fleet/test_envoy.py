"""Two small servers behind a real Envoy with deploy/envoy/envoy.yaml."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from loadtests.fleet.names import Names
from loadtests.fleet.proxy import Envoy, proxying

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8 for servers of one port"
)

PATH = "/inference.GRPCInferenceService/ModelInfer"
OWN = [("grpc.use_local_subchannel_pool", 1)]
WITHIN = 20.0


class Small(grpc.GenericRpcHandler):
    """Answers every call with its name, or as it is told."""

    def __init__(self, name: str) -> None:
        self.name = name.encode()
        self.error: grpc.StatusCode | None = None
        self.slow = 0.0
        self.left: list[float | None] = []
        """Seconds that each caller still waited."""
        self.health = health.aio.HealthServicer()
        self.server = grpc.aio.server()

    def service(self, handler_call_details):
        if handler_call_details.method == PATH:
            return grpc.unary_unary_rpc_method_handler(self.answer)
        return None

    async def answer(self, request: bytes, context) -> bytes:
        self.left.append(context.time_remaining())
        await asyncio.sleep(self.slow)
        if self.error is not None:
            hint = (("grpc-retry-pushback-ms", "40"),)
            await context.abort(self.error, f"said by {self.name.decode()}", hint)
        return self.name

    async def start(self, address: str) -> None:
        self.server.add_generic_rpc_handlers((self,))
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        await self.health.set("", health_pb2.HealthCheckResponse.SERVING)
        assert self.server.add_insecure_port(address)
        await self.server.start()


class Bench:
    def __init__(self, smalls: list[Small], envoy: Envoy, channel: grpc.aio.Channel) -> None:
        self.smalls = smalls
        self.envoy = envoy
        self._call = channel.unary_unary(PATH)

    async def ask(self, timeout: float | None = WITHIN) -> bytes:  # noqa: ASYNC109 - gRPC's own
        return await self._call(b"", timeout=timeout)

    async def ask_often(self, count: int) -> Counter[bytes]:
        return Counter([await self.ask() for _ in range(count)])


@asynccontextmanager
async def benched(tmp_path) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        net = f"127.{10 + os.getpid() // 250 % 10}.{os.getpid() % 250}"
        with socket.socket() as probe:
            probe.bind((f"{net}.1", 0))
            port = probe.getsockname()[1]
        names = Names()
        await names.listen()
        stack.callback(names.close)
        addresses = [f"{net}.1", f"{net}.2"]
        smalls = []
        for address in addresses:
            smalls.append(Small(address))
            await smalls[-1].start(f"{address}:{port}")
            stack.push_async_callback(smalls[-1].server.stop, None)
        names.stand_for(addresses)
        envoy = await stack.enter_async_context(proxying(tmp_path, port, names.port))
        await envoy.until_healthy(2)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(envoy.address, OWN))
        yield Bench(smalls, envoy, channel)


async def test_one_connection_is_spread_by_request_and_failures_go_elsewhere(tmp_path):
    async with benched(tmp_path) as bench:
        first, second = bench.smalls
        # One connection, one request at a time: by connection, all would go to one server.
        by_server = await bench.ask_often(100)
        assert min(by_server[first.name], by_server[second.name]) > 20, by_server

        # Who is going says UNAVAILABLE: the other one answers.
        first.error = grpc.StatusCode.UNAVAILABLE
        assert await bench.ask_often(20) == {second.name: 20}
        assert (await bench.envoy.counters())["upstream_rq_retry_success"] > 0

        # Refused for load, or out of time: for the caller to decide, who sees all of it.
        for code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED):
            first.error = second.error = code
            before = len(first.left) + len(second.left)
            for _ in range(20):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await bench.ask()
                assert caught.value.code() is code
                assert ("grpc-retry-pushback-ms", "40") in tuple(caught.value.trailing_metadata())
            assert len(first.left) + len(second.left) == before + 20
        first.error = second.error = None
        # Nobody was put out for saying so.
        assert len(await bench.ask_often(40)) == 2

        # Who says NOT_SERVING is left out.
        await first.health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        await bench.envoy.until_healthy(1)
        assert await bench.ask_often(10) == {second.name: 10}


async def test_the_callers_deadline_is_that_of_all_tries_and_the_only_one(tmp_path):
    async with benched(tmp_path) as bench:
        first, second = bench.smalls
        await bench.ask(timeout=5.0)
        (left,) = first.left + second.left
        assert left is not None
        assert 3.0 < left <= 5.0
        await bench.ask(timeout=None)
        assert {*first.left, *second.left} == {left, None}
        first.slow = second.slow = 60.0
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await bench.ask(timeout=0.3)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_server_that_dies_under_a_request_costs_its_caller_nothing(tmp_path):
    async with benched(tmp_path) as bench:
        first, second = bench.smalls
        first.slow = 60.0
        asking = [asyncio.create_task(bench.ask()) for _ in range(8)]
        async with asyncio.timeout(WITHIN):
            while not first.left or len(first.left) + len(second.left) < 8:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await first.server.stop(None)
        assert await asyncio.gather(*asking) == [second.name] * 8
