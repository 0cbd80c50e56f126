"""What KServe's clients are asked for. Run by the Python of their own environment, where there is
no gearshift, with the gRPC and the HTTP address; prints JSON: by call what came of it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable
from typing import Any

import numpy as np
from kserve import (
    InferenceGRPCClient,
    InferenceRESTClient,
    InferInput,
    InferRequest,
    RESTConfig,
)

MODEL = "garment"
ROWS = np.zeros((2, 28, 28), np.uint8)


def asked(kind: str, parameters: dict[str, Any] | None = None) -> InferRequest:
    """`kind`: how the tensor travels."""
    if kind == "binary":
        tensor = InferInput("pixels", list(ROWS.shape), "UINT8")
        tensor.set_data_from_numpy(ROWS, binary_data=True)
    else:
        data = ROWS.flatten().tolist()
        tensor = InferInput("pixels", list(ROWS.shape), "UINT8", data=data)
    return InferRequest(MODEL, [tensor], request_id="7", parameters=parameters)


async def outcome(call: Awaitable[Any]) -> str:
    try:
        answer = await call
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        return f"{type(error).__name__}: {error}"[:200]
    if isinstance(answer, bool):
        return str(answer)
    return ", ".join(f"{out.name} {list(out.shape)}" for out in answer.outputs)


async def main(grpc_address: str, http_address: str) -> None:
    base = f"http://{http_address}"
    budget = {"latency_budget_ms": 60_000, "service_class": "archive"}
    async with (
        InferenceRESTClient(RESTConfig(protocol="v2", timeout=90)) as rest,
        InferenceGRPCClient(grpc_address, timeout=90) as grpc,
    ):
        calls = {
            "REST, is_server_live": rest.is_server_live(base),
            "REST, is_server_ready": rest.is_server_ready(base),
            "REST, is_model_ready": rest.is_model_ready(base, MODEL),
            "REST, is_model_ready of none": rest.is_model_ready(base, "none"),
            "REST, infer, JSON": rest.infer(base, asked("json"), model_name=MODEL),
            "REST, infer, binary": rest.infer(base, asked("binary"), model_name=MODEL),
            "REST, infer, parameters": rest.infer(base, asked("json", budget), model_name=MODEL),
            "gRPC, is_server_live": grpc.is_server_live(),
            "gRPC, is_server_ready": grpc.is_server_ready(),
            "gRPC, is_model_ready": grpc.is_model_ready(MODEL),
            "gRPC, infer, typed": grpc.infer(asked("json")),
            "gRPC, infer, raw": grpc.infer(asked("binary")),
            "gRPC, infer, parameters": grpc.infer(asked("binary", budget)),
        }
        print(json.dumps({name: await outcome(call) for name, call in calls.items()}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
