"""Callers of the servers under test: steady traffic, and labels for the answers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc.aio as triton
from loadtests.oncall import models
from tritonclient.utils import InferenceServerException

from gearshift.v1 import gearshift_pb2 as pb
from gearshift.v1.gearshift_pb2_grpc import GearshiftStub

PATIENCE = 20.0
"""Seconds for one call."""

LABELS_EVERY = 1.0


@dataclass(slots=True)
class Traffic:
    """What is asked, changed while it goes on: requests a second by class of `kinds`, and to
    `slow`; by how much the inputs are shifted; whether labels say that answers are right, and of
    which variant they say so (others are reported as right)."""

    rates: dict[str, float] = field(default_factory=lambda: {"realtime": 20.0, "strict": 5.0})
    slow: float = 1.0
    shift: float = 0.0
    wrong: str = ""
    """The variant of which labels say that its answers are wrong."""
    statuses: Counter[str] = field(default_factory=Counter)
    """By class and gRPC status."""


@asynccontextmanager
async def calling(addresses: list[str], traffic: Traffic) -> AsyncIterator[None]:
    """Until the block ends; each request goes to the next of `addresses`."""
    caller = _Caller(addresses, traffic)
    tasks = [asyncio.create_task(work) for work in caller.work()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await caller.close()
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error


class _Caller:
    def __init__(self, addresses: list[str], traffic: Traffic) -> None:
        self._traffic = traffic
        self._clients = [triton.InferenceServerClient(address) for address in addresses]
        self._channels = [grpc.aio.insecure_channel(address) for address in addresses]
        self._rows = models.rows(10_000, seed=7)
        self._asked = 0
        self._calls: set[asyncio.Task[None]] = set()
        self._reports: list[list[pb.Report]] = [[] for _ in addresses]

    def work(self) -> list[Any]:
        """What goes on at the same time."""
        traffic = self._traffic
        kinds = [
            self._steadily(partial(traffic.rates.__getitem__, name), partial(self._ask, name))
            for name in traffic.rates
        ]
        return [*kinds, self._steadily(lambda: traffic.slow, self._ask_slow), self._report()]

    async def close(self) -> None:
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        for client in self._clients:
            await client.close()
        for channel in self._channels:
            await channel.close()

    async def _steadily(self, rate: Callable[[], float], ask: Callable[[], Any]) -> None:
        """Open loop: nobody waits for an answer before the next one asks."""
        while True:
            await asyncio.sleep(1.0 / rate())
            call = asyncio.create_task(ask())
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    async def _ask(self, service_class: str) -> None:
        self._asked += 1
        row = self._rows[self._asked % len(self._rows)][None] + np.float32(self._traffic.shift)
        place = self._asked % len(self._clients)
        answer = await self._infer(place, "kinds", service_class, row)
        if answer is None:
            return
        told = answer.get_response()
        kind = int(answer.as_numpy("y").argmax())
        # Else what the card says: 97 and 80 of a hundred are right.
        variant = told.parameters["variant"].string_param
        accuracy = 0.97 if variant == "large" else 0.8
        right = variant != self._traffic.wrong and self._asked % 100 < 100 * accuracy
        label = kind if right else (kind + 1) % models.CLASSES
        self._reports[place].append(pb.Report(model="kinds", request_id=told.id, labels=[label]))

    async def _ask_slow(self) -> None:
        self._asked += 1
        row = np.full((1, 1), models.ROUNDS, np.float32)
        await self._infer(self._asked % len(self._clients), "slow", "tight", row)

    async def _infer(
        self, place: int, model: str, service_class: str, row: np.ndarray[Any, Any]
    ) -> Any:
        tensor = triton.InferInput("x", row.shape, "FP32")
        tensor.set_data_from_numpy(row)
        try:
            answer = await self._clients[place].infer(
                model,
                [tensor],
                request_id=f"r{self._asked}",
                parameters={"service_class": service_class},
                client_timeout=PATIENCE,
            )
        except InferenceServerException as error:
            status = str(error.status()).removeprefix("StatusCode.")
            self._traffic.statuses[f"{service_class} {status}"] += 1
            return None
        self._traffic.statuses[f"{service_class} OK"] += 1
        return answer

    async def _report(self) -> None:
        """The labels of the last second, to the server that answered."""
        while True:
            await asyncio.sleep(LABELS_EVERY)
            for place, channel in enumerate(self._channels):
                reports, self._reports[place] = self._reports[place], []
                if reports:
                    request = pb.FeedbackRequest(reports=reports)
                    try:
                        await GearshiftStub(channel).Feedback(request, timeout=PATIENCE)
                    except grpc.aio.AioRpcError as error:
                        self._traffic.statuses[f"labels {error.code().name}"] += 1


async def hang(address: str) -> str:
    """One request that takes hours, without a budget; the status that it ends with."""
    tensor = triton.InferInput("x", (1, 1), "FP32")
    tensor.set_data_from_numpy(np.full((1, 1), models.FOR_EVER, np.float32))
    async with triton.InferenceServerClient(address) as client:
        try:
            await client.infer("slow", [tensor], parameters={"service_class": "patient"})
        except InferenceServerException as error:
            return str(error.status()).removeprefix("StatusCode.")
    return "OK"
