"""A closed-loop client: so many callers, each asking again as soon as it is answered.

`python loadtests/closed_loop.py ADDRESS MODEL VERSION CALLERS SECONDS` prints one JSON line.
The request bytes are made once; answers are counted, and their latency is kept.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import suppress
from pathlib import Path

import grpc
import numpy as np
import uvloop
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

REPOSITORY = Path(__file__).parents[1] / "model_repo"
INPUTS = {
    "fraud": ("features", "FP32"),
    "tumor": ("features", "FP32"),
    "garment": ("pixels", "UINT8"),
}


def request_for(model: str, version: str = "", rows: int = 1) -> pb.ModelInferRequest:
    with np.load(REPOSITORY / model / "samples.npz", allow_pickle=False) as file:
        chosen = file["inputs"][:rows]
    name, datatype = INPUTS[model]
    message = pb.ModelInferRequest(model_name=model, model_version=version)
    message.inputs.add(name=name, datatype=datatype, shape=chosen.shape)
    message.raw_input_contents.append(chosen.tobytes())
    return message


async def measure(address: str, message: pb.ModelInferRequest, callers: int, seconds: float):
    async with grpc.aio.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for _ in range(20):
            with suppress(grpc.RpcError):
                await stub.ModelInfer(message, timeout=30)
        latencies: list[float] = []
        refused = 0
        end = time.perf_counter() + seconds

        async def caller() -> None:
            nonlocal refused
            while (begun := time.perf_counter()) < end:
                try:
                    await stub.ModelInfer(message, timeout=30)
                except grpc.RpcError:
                    refused += 1
                else:
                    latencies.append(time.perf_counter() - begun)

        begun = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(callers)))
        took = time.perf_counter() - begun
    latencies.sort()
    return {
        "requests_per_s": len(latencies) / took,
        "refused": refused,
        "p50_ms": latencies[len(latencies) // 2] * 1e3,
        "p99_ms": latencies[int(0.99 * (len(latencies) - 1))] * 1e3,
    }


if __name__ == "__main__":
    address, model, version, callers, seconds = sys.argv[1:]
    result = uvloop.run(measure(address, request_for(model, version), int(callers), float(seconds)))
    print(json.dumps(result))
