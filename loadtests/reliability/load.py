"""Requests at random moments from a process of its own, and what became of them."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

MOST_OPEN = 2_000
"""Requests under way; a server that answers none must not fill this process."""

KEPT = 50
"""Messages of failures that are told."""


def message(model: str, samples: Path) -> pb.ModelInferRequest:
    """One row of the held-out samples."""
    with np.load(samples, allow_pickle=False) as archive:
        row = archive["inputs"][:1].astype(np.float32)
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.add(name="features", datatype="FP32", shape=row.shape)
    request.raw_input_contents.append(row.tobytes())
    return request


async def ask(
    address: str, request: pb.ModelInferRequest, rate: float, budget: float, until: asyncio.Event
) -> dict[str, object]:
    """Ask `rate` times a second, exponential pauses between, each waiting for `budget` seconds."""
    seen: Counter[str] = Counter()
    failed: list[str] = []
    open_: set[asyncio.Task[None]] = set()
    async with grpc.aio.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

        async def one() -> None:
            try:
                await stub.ModelInfer(request, timeout=budget)
                seen["OK"] += 1
            except grpc.aio.AioRpcError as error:
                seen[error.code().name] += 1
                if len(failed) < KEPT:
                    failed.append(f"{error.code().name}: {error.details()}")

        await stub.ServerLive(pb.ServerLiveRequest(), timeout=30)
        pauses, due = random.Random(1), time.monotonic()
        while not until.is_set():
            due += pauses.expovariate(rate)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if len(open_) < MOST_OPEN:
                task = asyncio.create_task(one())
                open_.add(task)
                task.add_done_callback(open_.discard)
        if open_:
            await asyncio.wait(open_)
    return {"seen": dict(seen), "failed": failed}


async def main() -> None:
    """Ask until a line comes on standard input, then tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("model")
    parser.add_argument("samples", type=Path)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--budget", type=float, required=True)
    options = parser.parse_args()
    until = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, until.set)
    request = message(options.model, options.samples)
    told = await ask(options.address, request, options.rate, options.budget, until)
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main())
