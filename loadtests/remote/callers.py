"""Callers of the server in front: requests at random moments, and how each ended."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import time
from dataclasses import dataclass, field

import grpc
import numpy as np
from loadtests.remote.far import MODEL
from loadtests.remote.judging import NOTHING, Ended
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

RATE = 80.0
"""Requests a second."""

BUDGET = 0.4
WITHIN = 5.0
"""Seconds, far beyond the budget: who hears nothing by then never does."""

FLOORS, SHARES = (0.0, 0.85, 0.92), (0.7, 0.2, 0.1)
"""Any variant; the best in front or the one behind; only the one behind."""

CONNECTIONS = 4
LOOK_EVERY = 0.01


@dataclass
class Callers:
    address: str
    endings: list[Ended] = field(default_factory=list)
    late: list[tuple[float, float]] = field(default_factory=list)
    """When this process went on after a pause, and by how many seconds too late."""
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def watch(self) -> None:
        """Until they stop."""
        while not self.stop.is_set():
            due = time.monotonic() + LOOK_EVERY
            await asyncio.sleep(LOOK_EVERY)
            now = time.monotonic()
            self.late.append((now, now - due))

    def late_since(self, begin: float) -> float:
        return max((by for at, by in self.late if at >= begin), default=0.0)

    async def run(self, seed: int = 1) -> None:
        """Returns when the last has ended."""
        chance = random.Random(seed)
        own = (("grpc.use_local_subchannel_pool", 1),)
        channels = [grpc.aio.insecure_channel(self.address, own) for _ in range(CONNECTIONS)]
        stubs = [service_pb2_grpc.GRPCInferenceServiceStub(each) for each in channels]
        open_: set[asyncio.Task[None]] = set()
        due = time.monotonic()
        try:
            for number in itertools.count():
                due += chance.expovariate(RATE)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if self.stop.is_set():
                    break
                floor = chance.choices(FLOORS, SHARES)[0]
                asked = self._ask(chance.choice(stubs), f"r{number}", floor, number % 1000)
                task = asyncio.create_task(asked)
                open_.add(task)
                task.add_done_callback(open_.discard)
            if open_:
                await asyncio.wait(open_)
        finally:
            for channel in channels:
                await channel.close()

    async def _ask(
        self, stub: service_pb2_grpc.GRPCInferenceServiceStub, name: str, floor: float, value: int
    ) -> None:
        request = pb.ModelInferRequest(model_name=MODEL, id=name)
        request.inputs.add(name="x", datatype="FP32", shape=[1, 3])
        request.raw_input_contents.append(np.full((1, 3), value, np.float32).tobytes())
        request.parameters["latency_budget_ms"].double_param = 1e3 * BUDGET
        if floor:
            request.parameters["min_accuracy"].double_param = floor
        sent = time.monotonic()
        variant, accuracy, right = "", 0.0, False
        try:
            answer = await stub.ModelInfer(request, timeout=WITHIN)
            status = "OK"
            variant = answer.parameters["variant"].string_param
            accuracy = answer.parameters["accuracy"].double_param
            (found,) = np.frombuffer(answer.raw_output_contents[0], np.float32)
            right = math.isclose(found, 3 * value, rel_tol=1e-4) and accuracy >= floor
        except grpc.aio.AioRpcError as error:
            status = error.code().name
        ended = time.monotonic()
        if status == "DEADLINE_EXCEEDED" and ended - sent >= WITHIN - 0.1:
            status = NOTHING
        self.endings.append(
            Ended(name, floor, sent, BUDGET, ended, status, right, variant, accuracy)
        )
