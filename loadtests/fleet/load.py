"""Requests at a steady rate, and what became of each, as callers see it and as pods count."""

from __future__ import annotations

import asyncio
import json
import re
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from loadtests.fleet.fleet import MODEL, Fleet
from loadtests.fleet.names import NAME
from loadtests.peers.peer import ROOT
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from gearshift.demo.traffic import Samples

OWN = ("grpc.use_local_subchannel_pool", 1)
COUNT_EVERY, LAST_WORDS_EVERY = 0.5, 0.05
"""Seconds between two looks at what pods have counted; the second while one of them is ending."""

COUNTED = re.compile(r'^gearshift_requests_total\{(?=.*outcome="(\w+)").*\} (\S+)$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Ended:
    """One request: when it was sent (s since the start), its status and text, its duration (s)."""

    sent: float
    status: str
    text: str
    took: float


@dataclass(slots=True)
class Outcomes:
    """Of all requests of one kind of caller. `budget` in seconds."""

    title: str
    budget: float
    ended: list[Ended] = field(default_factory=list)

    @property
    def statuses(self) -> Counter[str]:
        return Counter(each.status for each in self.ended)

    @property
    def attainment(self) -> float:
        """Share that was answered within the budget, by the caller's clock."""
        good = sum(each.status == "OK" and each.took <= self.budget for each in self.ended)
        return good / max(len(self.ended), 1)

    @property
    def failed(self) -> list[Ended]:
        return [each for each in self.ended if each.status != "OK"]

    def percentile(self, share: float) -> float:
        """Of the answers, in seconds."""
        took = [each.took for each in self.ended if each.status == "OK"]
        return float(np.percentile(took, 100 * share)) if took else float("nan")


class Load:
    """`rate` requests a second with exponential gaps, in turns over `channels`. Each has its budget
    as its deadline and one try, but for those that gRPC makes by itself."""

    def __init__(
        self, title: str, channels: Sequence[grpc.aio.Channel], rate: float, budget: float
    ):
        self.outcomes = Outcomes(title, budget)
        self._stubs = [service_pb2_grpc.GRPCInferenceServiceStub(channel) for channel in channels]
        self._rate = rate
        self._request = request()
        self._begun = 0.0

    async def send(self, ending: asyncio.Event) -> None:
        """Until `ending` is set; returns when each has ended."""
        random = np.random.default_rng(0)
        due = self._begun = time.monotonic()
        number = 0
        async with asyncio.TaskGroup() as under_way:
            while not ending.is_set():
                stub = self._stubs[number % len(self._stubs)]
                under_way.create_task(self._ask(stub))
                number += 1
                due += random.exponential(1 / self._rate)
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _ask(self, stub: service_pb2_grpc.GRPCInferenceServiceStub) -> None:
        begun = time.monotonic()
        status, text = "OK", ""
        try:
            await stub.ModelInfer(self._request, timeout=self.outcomes.budget)
        except grpc.aio.AioRpcError as error:
            status, text = error.code().name, error.details() or ""
        took = time.monotonic() - begun
        self.outcomes.ended.append(Ended(begun - self._begun, status, text, took))


class Counts:
    """What the pods say that they have counted, those that are gone included."""

    def __init__(self, fleet: Fleet) -> None:
        self.by_pod: dict[str, Counter[str]] = {}
        self._fleet = fleet

    async def follow(self) -> None:
        """Look again and again, until this is cancelled."""
        while True:
            await self.look()
            ending = any(pod.terminating for pod in self._fleet.living)
            await asyncio.sleep(LAST_WORDS_EVERY if ending else COUNT_EVERY)

    async def look(self) -> Mapping[str, Counter[str]]:
        for pod in self._fleet.living:
            page = await asyncio.to_thread(_page, f"{pod.address}:{self._fleet.http_port}")
            if page is not None:
                counted: Counter[str] = Counter()
                for outcome, value in COUNTED.findall(page):
                    counted[outcome] += int(float(value))
                self.by_pod[pod.name] = counted
        return {name: Counter(counted) for name, counted in self.by_pod.items()}

    @property
    def total(self) -> Counter[str]:
        return sum(self.by_pod.values(), Counter())


@asynccontextmanager
async def balanced(fleet: Fleet) -> AsyncIterator[grpc.aio.Channel]:
    """A stock channel that spreads its requests over the addresses of the headless name. The
    pause between two questions to the DNS is 30 s by default: too long where pods live for less."""
    config: Any = {"loadBalancingConfig": [{"round_robin": {}}]}
    options = [
        OWN,
        ("grpc.service_config", json.dumps(config)),
        ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    ]
    target = f"dns://127.0.0.1:{fleet.names.port}/{NAME}:{fleet.port}"
    async with grpc.aio.insecure_channel(target, options) as channel:
        yield channel


@asynccontextmanager
async def connections(address: str, count: int) -> AsyncIterator[list[grpc.aio.Channel]]:
    """Channels to one address, each with a connection of its own."""
    channels = [grpc.aio.insecure_channel(address, [OWN]) for _ in range(count)]
    try:
        yield channels
    finally:
        for channel in channels:
            await channel.close()


def request() -> pb.ModelInferRequest:
    """One held-out payment."""
    row = Samples(ROOT / "model_repo", MODEL).inputs[:1].astype(np.float32)
    made = pb.ModelInferRequest(model_name=MODEL, raw_input_contents=[row.tobytes()])
    made.inputs.add(name="features", datatype="FP32", shape=row.shape)
    made.parameters["service_class"].string_param = "batch"
    return made


def _page(address: str) -> str | None:
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=2) as page:
            return str(page.read().decode())
    except OSError:
        return None
