"""The demo's traffic: real held-out rows through tritonclient, nothing of ours on the wire."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from gearshift.artifacts import SamplesFile
from gearshift.demo.mails import MAILS

PATIENCE = 30.0
"""Seconds after which the client gives a request up: nothing here may hang."""

BACK_OFF = 0.02
"""Seconds that a caller waits after a refusal: one who does not takes the server's cores away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One kind of traffic: what is asked, by how many callers at a time, for what.

    `budget` (seconds) is only what the client judges "in time" by; what the server is told
    stands in `parameters`, in `client_timeout` (seconds) or in the model's default class.
    """

    title: str
    model: str
    budget: float
    requests: int
    callers: int = 2
    rows: int = 1
    parameters: Mapping[str, float | str] = field(default_factory=dict)
    client_timeout: float | None = None
    version: str = ""


SCENES = (
    Scene(
        title="fraud, as it comes (class realtime, 10 ms)",
        model="fraud",
        budget=0.010,
        requests=250,
        rows=8,
    ),
    Scene(title="tumor, as it comes (class critical)", model="tumor", budget=0.250, requests=171),
    Scene(
        title="garment, latency_budget_ms=1000",
        model="garment",
        budget=1.0,
        requests=300,
        parameters={"service_class": "archive", "latency_budget_ms": 1000},
    ),
    Scene(title="garment, as it comes (class edge)", model="garment", budget=0.005, requests=300),
    Scene(
        title="garment, gRPC deadline 20 ms alone",
        model="garment",
        budget=0.020,
        requests=100,
        parameters={"service_class": "interactive"},
        client_timeout=0.020,
    ),
    Scene(
        title="garment, min_accuracy=0.99 (nothing reaches it)",
        model="garment",
        budget=1.0,
        requests=20,
        parameters={"min_accuracy": 0.99},
    ),
    Scene(
        title="text, mails as texts (8 made up for this)",
        model="text",
        budget=0.2,
        requests=40,
    ),
    Scene(
        title="OVERLOAD garment, 24 callers, best variant demanded",
        model="garment",
        budget=0.050,
        requests=1500,
        callers=24,
        parameters={"service_class": "interactive", "min_accuracy": "best"},
    ),
    Scene(
        title="OVERLOAD garment, 24 callers, free to shift down",
        model="garment",
        budget=0.050,
        requests=1500,
        callers=24,
        parameters={"service_class": "interactive"},
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How one request ended, as the client saw it. `latency` in seconds; `status` is OK or
    the gRPC status; `output` (rows, ...) and `chosen` (rows of the samples) only when OK."""

    status: str
    latency: float
    message: str = ""
    variant: str = ""
    reason: str = ""
    accuracy: float = 0.0
    output: Any = None
    chosen: Any = None


class Samples:
    """A model's held-out rows: `inputs`, `labels`, and how many rows each stands for. Of `text` the
    demo's own mails, as text."""

    def __init__(self, repository: Path, model: str) -> None:
        if model == "text":
            texts = [[mail.encode()] for mail, _ in MAILS]
            self.inputs: Any = np.array(texts, object)
            self.labels: Any = np.array([label for _, label in MAILS], np.int64)
            self.weights: Any = np.ones(len(MAILS))
            return
        with SamplesFile(repository / model / "samples.npz") as file:
            self.inputs = file.array("inputs")
            self.labels = file.array("labels")
            self.weights = file.array("weights") if "weights" in file else np.ones(len(self.labels))


async def play(
    scene: Scene,
    samples: Samples,
    address: str,
    best_seen: float,
    on_done: Callable[[], None],
) -> list[Result]:
    """Send the scene's requests, `callers` at a time, and return how each one ended.

    Rows are taken in a fixed shuffled order, so that two runs ask the same. A floor of "best"
    is `best_seen`, the highest accuracy of any answer that the client has had so far.
    """
    order = np.random.default_rng(0).permutation(len(samples.labels))
    async with triton.InferenceServerClient(address) as client:
        metadata = await client.get_model_metadata(scene.model)
        parameters: dict[str, float | str] = dict(scene.parameters)
        if parameters.get("min_accuracy") == "best":
            parameters["min_accuracy"] = best_seen
        places = asyncio.Semaphore(scene.callers)

        async def one(index: int) -> Result:
            first = index * scene.rows
            chosen = order[np.arange(first, first + scene.rows) % len(order)]
            async with places:
                result = await _ask(client, scene, parameters or None, metadata, samples, chosen)
                if result.status != "OK":
                    await asyncio.sleep(BACK_OFF)
            on_done()
            return result

        return await asyncio.gather(*(one(index) for index in range(scene.requests)))


def _tensors(metadata: Any, rows: Any) -> list[Any]:
    tensor = triton.InferInput(metadata.inputs[0].name, rows.shape, np_to_triton_dtype(rows.dtype))
    tensor.set_data_from_numpy(rows)
    return [tensor]


async def _ask(
    client: Any, scene: Scene, parameters: Any, metadata: Any, samples: Samples, chosen: Any
) -> Result:
    tensors = _tensors(metadata, samples.inputs[chosen])
    begun = time.perf_counter()
    try:
        response = await client.infer(
            scene.model,
            tensors,
            model_version=scene.version,
            parameters=parameters,
            client_timeout=scene.client_timeout or PATIENCE,
        )
    except InferenceServerException as error:
        status = (error.status() or "UNKNOWN").removeprefix("StatusCode.")
        latency = time.perf_counter() - begun
        return Result(status=status, latency=latency, message=error.message())
    latency = time.perf_counter() - begun
    told = response.get_response().parameters
    return Result(
        status="OK",
        latency=latency,
        variant=told["variant"].string_param,
        reason=told["reason"].string_param,
        accuracy=told["accuracy"].double_param,
        output=response.as_numpy(metadata.outputs[0].name),
        chosen=chosen,
    )
