"""Callers that mean harm, or leave: by hand-made bytes and by stock clients."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import urllib.request
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial

import grpc
import numpy as np
from loadtests.reliability.attacks import ATTACKS
from loadtests.reliability.callers import Kind, message
from loadtests.reliability.faults.fault import Act, Fault, Group
from loadtests.reliability.faults.scene import Scene
from loadtests.reliability.hostile import attack
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

SECONDS = 2.0
ANSWERED_WITHIN = 20.0

BY_BYTES = (
    "silence",
    "slow greeting",
    "slow headers",
    "slow messages",
    "streams without an end",
    "large requests without an end",
    "answers into a closed window",
    "answers that nobody reads",
    "rapid reset (CVE-2023-44487)",
    "made you reset (CVE-2025-8671)",
    "flood of cancellations",
    "PING flood",
    "SETTINGS flood",
    "CONTINUATION flood (CVE-2024-27316)",
    "header bomb",
    "compressed bombs",
    "four gigabytes announced",
    "a million empty tensors",
    "garbage",
    "flood of requests",
    "connections without end",
    "HTTP: slow heads",
    "HTTP: nobody reads /metrics",
    "HTTP: scrapers without end",
)


def by_name(name: str, address: tuple[str, int], seconds: float) -> dict[str, int]:
    """An attack of `loadtests.reliability.attacks`, whose bytes do not travel between processes."""
    return attack(next(each for each in ATTACKS if each.name == name), address, seconds)


@cache
def attackers() -> ProcessPoolExecutor:
    """A process of its own, last in line for the processor."""
    return ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), initializer=os.nice, initargs=(19,)
    )


def attacked(name: str) -> Fault:
    what = next(each for each in ATTACKS if each.name == name)

    def strike(scene: Scene) -> str:
        host, port = (scene.http if what.http else scene.grpc).split(":")
        run = attackers().submit(by_name, name, (host, int(port)), SECONDS)
        seen = run.result(SECONDS + 60)
        return ", ".join(f"{text} ({count:,})" for text, count in sorted(seen.items()))

    return Fault(
        name=f"{name}: {what.what}, {what.connections} at a time", strike=strike, seconds=0.0
    )


# --- stock clients ------------------------------------------------------------------------------


async def cancelling(scene: Scene, times: int) -> Counter[str]:
    """Calls that are cancelled a moment after they were sent."""
    request = message(Kind(1), 1.0, 5.0)
    async with scene.channel() as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

        async def one(number: int) -> str:
            call = stub.ModelInfer(request, timeout=ANSWERED_WITHIN)
            await asyncio.sleep(0.001 * (number % 20))
            call.cancel()
            try:
                await call
            except asyncio.CancelledError:
                return "CANCELLED"
            except grpc.aio.AioRpcError as error:
                return str(error.code().name)
            return "OK"

        return Counter(await asyncio.gather(*map(one, range(times))))


async def leaving(scene: Scene, times: int) -> Counter[str]:
    """Connections that are closed with ten requests under way on each."""
    request = message(Kind(1), 1.0, 5.0)
    found: Counter[str] = Counter()

    async def one(call: grpc.aio.Call) -> str:
        try:
            await call
        except asyncio.CancelledError:
            return "CANCELLED"
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)
        return "OK"

    for number in range(times):
        channel = scene.channel()
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        calls = [stub.ModelInfer(request, timeout=ANSWERED_WITHIN) for _ in range(10)]
        await asyncio.sleep(0.002 * (number % 10))
        ends = asyncio.gather(*map(one, calls))
        await channel.close()
        found.update(await ends)
    return found


async def _asking(scene: Scene, request: pb.ModelInferRequest, times: int) -> Counter[str]:
    found: Counter[str] = Counter()
    async with grpc.aio.insecure_channel(scene.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for _ in range(times):
            try:
                await stub.ModelInfer(request, timeout=ANSWERED_WITHIN)
                found["OK"] += 1
            except grpc.aio.AioRpcError as error:
                found[error.code().name] += 1
    return found


def wrong_rows() -> pb.ModelInferRequest:
    """Three hundred rows where eight are allowed at a time."""
    request = message(Kind(1), 1.0, 5.0)
    request.inputs[0].shape[:] = [300, 3]
    return request


def endless() -> pb.ModelInferRequest:
    request = message(Kind(1), 1.0, 5.0)
    request.raw_input_contents[0] = bytes(100 * 2**20)
    return request


def not_finite() -> pb.ModelInferRequest:
    request = message(Kind(1), 1.0, 5.0)
    request.raw_input_contents[0] = np.full((1, 3), np.nan, np.float32).tobytes()
    return request


def asks(made: object, times: int, only: str) -> Act:
    """A request over and over, which must be refused with this status."""

    def act(scene: Scene) -> str:
        found = asyncio.run(_asking(scene, made(), times))  # type: ignore[operator]
        if set(found) != {only}:
            raise RuntimeError(f"it was answered {dict(found)} instead of {only}")
        return told(found)

    return act


def told(found: Counter[str]) -> str:
    return ", ".join(f"{status} ({count:,})" for status, count in found.most_common())


def scraped(scene: Scene, times: int) -> str:
    for _ in range(times):
        with urllib.request.urlopen(f"http://{scene.http}/metrics", timeout=20) as page:
            page.read()
    return f"{times} pages"


STOCK = (
    Fault(
        name="2,000 calls of grpc.aio are cancelled within 20 ms",
        strike=lambda scene: told(asyncio.run(cancelling(scene, 2_000))),
        seconds=0.0,
    ),
    Fault(
        name="100 connections leave with ten requests under way on each",
        strike=lambda scene: told(asyncio.run(leaving(scene, 100))),
        seconds=0.0,
    ),
    Fault(
        name="200 requests whose bytes do not fit their shape",
        strike=asks(wrong_rows, 200, "INVALID_ARGUMENT"),
        seconds=0.0,
    ),
    Fault(
        name="three requests of 100 MiB",
        strike=asks(endless, 3, "RESOURCE_EXHAUSTED"),
        seconds=0.0,
    ),
    Fault(
        name="200 requests with NaN in their inputs",
        strike=asks(not_finite, 200, "INVALID_ARGUMENT"),
        seconds=0.0,
    ),
    Fault(
        name="200 scrapes of /metrics without a pause",
        strike=partial(scraped, times=200),
        seconds=0.0,
    ),
)

GROUPS = (Group("clients", Scene, (*map(attacked, BY_BYTES), *STOCK)),)
