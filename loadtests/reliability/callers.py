"""Callers who know what the right answer is: requests to the sums models over stock gRPC."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import grpc
import numpy as np
from loadtests.reliability.endings import NO_ENDING, Ending
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

WITHIN = 10.0
"""Seconds that a caller waits, far beyond every budget: who hears nothing by then never does."""

ACCURACIES = {"slow": 0.9, "quick": 0.8}
FLOOR = 0.85
CONNECTIONS = 4

Channel = Callable[[], grpc.aio.Channel]


@dataclass(frozen=True, slots=True)
class Kind:
    """What one kind of caller asks, and how many of a thousand requests are theirs."""

    share: int
    pinned: str = ""
    floor: float = 0.0
    model: str = "sums"


EVERYBODY = (
    Kind(600),
    Kind(150, floor=FLOOR),
    Kind(50, pinned="slow"),
    Kind(100, pinned="quick"),
    Kind(100, model="other"),
)
FREE = (Kind(900), Kind(100, model="other"))
"""Who leaves the choice to the server."""


@dataclass
class Callers:
    """Ask `rate` times a second, Poisson, until `stop` is set; how each request ended goes into
    `endings`. Times are those of time.monotonic(). `budget` in seconds. `metadata` goes with each
    request."""

    channel: Channel
    rate: float
    budget: float
    metadata: Sequence[tuple[str, str]] = ()
    kinds: Sequence[Kind] = EVERYBODY
    endings: list[Ending] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    unanswered: list[str] = field(default_factory=list)
    """Of each request that had no ending: when that was clear, and what it was."""
    open: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self, seed: int = 1) -> None:
        """Returns when the last has ended."""
        chance = random.Random(seed)
        channels = [self.channel() for _ in range(CONNECTIONS)]
        stubs = [service_pb2_grpc.GRPCInferenceServiceStub(each) for each in channels]
        due = time.monotonic()
        try:
            while not self.stop.is_set():
                due += chance.expovariate(self.rate)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                kind = chance.choices(self.kinds, [each.share for each in self.kinds])[0]
                asked = self._ask(chance.choice(stubs), kind, chance.randrange(1, 1000))
                task = asyncio.create_task(asked)
                self.open.add(task)
                task.add_done_callback(self.open.discard)
            await self.settled()
        finally:
            for channel in channels:
                await channel.close()

    async def settled(self) -> None:
        """Until all that is under way now has ended."""
        if self.open:
            await asyncio.wait(set(self.open))

    async def _ask(
        self, stub: service_pb2_grpc.GRPCInferenceServiceStub, kind: Kind, value: int
    ) -> None:
        request = message(kind, value, self.budget)
        sent = time.monotonic()
        wrong = said = ""
        try:
            answer = await stub.ModelInfer(request, timeout=WITHIN, metadata=self.metadata)
            status, wrong = "OK", mistake(answer, kind, value)
        except grpc.aio.AioRpcError as error:
            status, said = error.code().name, error.details() or ""
        ended = time.monotonic()
        if ended - sent >= WITHIN - 0.1 and status == "DEADLINE_EXCEEDED":
            status = NO_ENDING
            self.unanswered.append(f"{datetime.now(UTC).isoformat()}: {kind}, {value}, {said}")
        in_time = status == "OK" and not wrong and ended - sent <= self.budget
        self.endings.append(Ending(sent, ended, status, in_time, wrong))


def message(kind: Kind, value: float, budget: float) -> pb.ModelInferRequest:
    """One row of three times `value`."""
    request = pb.ModelInferRequest(model_name=kind.model)
    request.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    request.raw_input_contents.append(np.full((1, 3), value, np.float32).tobytes())
    request.parameters["latency_budget_ms"].double_param = 1e3 * budget
    if kind.pinned:
        request.parameters["variant"].string_param = kind.pinned
    if kind.floor:
        request.parameters["min_accuracy"].double_param = kind.floor
    return request


def mistake(answer: pb.ModelInferResponse, kind: Kind, value: float) -> str:
    """What is wrong with an answer, "" for nothing."""
    variant = answer.parameters["variant"].string_param
    told = [output.name for output in answer.outputs]
    if told != ["y"] or len(answer.raw_output_contents) != 1:
        return "wrong outputs"
    found = np.frombuffer(answer.raw_output_contents[0], np.float32)
    if found.shape != (1,) or not math.isclose(found[0], 3 * value, rel_tol=1e-4):
        return "wrong answer"
    if ACCURACIES.get(variant, 0.0) < kind.floor:
        return "below the floor"
    if kind.pinned and variant != kind.pinned:
        return "another variant than the pinned one"
    return ""
