"""Callers with a plan: requests at moments that no answer changes, and what became of each."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

METHOD = "/inference.GRPCInferenceService/ModelInfer"
TENANT = "x-tenant"

PAUSE_AT_ONCE = 0.005
"""Seconds after which the impatient ask again."""


class Retry(StrEnum):
    """What callers do who are refused for load."""

    NEVER = "never"
    AT_ONCE = "at once"
    AS_TOLD = "as told"


@dataclass(frozen=True, slots=True)
class Stretch:
    """From `begin` to `end` (seconds) a tenant sends `rate` requests a second, gaps exponential."""

    tenant: str
    begin: float
    end: float
    rate: float


@dataclass(frozen=True, slots=True)
class Ended:
    """One try: when it was sent and answered (seconds since the start), its status."""

    tenant: str
    sent: float
    answered: float
    status: str
    attempt: int
    last: bool
    """No other try follows."""


def moments(stretches: Sequence[Stretch], seed: int) -> Iterator[tuple[float, str]]:
    """When who sends, in order."""
    found = []
    for number, stretch in enumerate(stretches):
        draw, at = random.Random(f"{seed}/{number}"), stretch.begin
        while (at := at + draw.expovariate(stretch.rate)) < stretch.end:
            found.append((at, stretch.tenant))
    return iter(sorted(found))


class Callers:
    """Of one server. Each tenant has a channel of its own; `budget` is each request's deadline,
    in seconds, over all of its tries; `tries` at most."""

    def __init__(
        self, address: str, message: bytes, budget: float, retry: Retry, tries: int = 3
    ) -> None:
        self._address = address
        self._message = message
        self._budget = budget
        self._retry = retry
        self._tries = tries
        self._channels: dict[str, grpc.aio.Channel] = {}
        self.begun = 0.0
        """By the monotonic clock."""
        self.ended: list[Ended] = []
        self.lags: list[float] = []
        """How late each request was sent, in seconds: the callers' own fault."""

    async def send(self, stretches: Sequence[Stretch], seed: int = 0) -> None:
        """All of them; returns when the last has ended."""
        loop = asyncio.get_running_loop()
        under_way: set[asyncio.Task[None]] = set()
        plan = list(moments(stretches, seed))
        self.begun = loop.time() + 0.1
        for at, tenant in plan:
            pause = self.begun + at - loop.time()
            if pause > 0:
                await asyncio.sleep(pause)
            self.lags.append(loop.time() - self.begun - at)
            task = loop.create_task(self._ask(tenant))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        while under_way:
            await asyncio.wait(under_way)
        for channel in self._channels.values():
            await channel.close()

    async def _ask(self, tenant: str) -> None:
        channel = self._channels.get(tenant)
        if channel is None:
            options = (("grpc.use_local_subchannel_pool", 1),)
            channel = self._channels[tenant] = grpc.aio.insecure_channel(self._address, options)
        call = channel.unary_unary(METHOD)
        until = time.monotonic() + self._budget
        for attempt in range(self._tries):
            sent = time.monotonic()
            status, wait = "OK", 0.0
            try:
                await call(
                    self._message, timeout=max(0.001, until - sent), metadata=((TENANT, tenant),)
                )
            except grpc.aio.AioRpcError as error:
                status = error.code().name
                wait = told_wait(error)
            now = time.monotonic()
            if self._retry is Retry.AT_ONCE:
                wait = PAUSE_AT_ONCE
            again = (
                status == "RESOURCE_EXHAUSTED"
                and self._retry is not Retry.NEVER
                and attempt + 1 < self._tries
                and now + wait < until
            )
            begun = self.begun
            self.ended.append(
                Ended(tenant, sent - begun, now - begun, status, attempt, last=not again)
            )
            if not again:
                return
            await asyncio.sleep(wait)


def told_wait(error: grpc.RpcError) -> float:
    """The seconds of RetryInfo, 0.0 without one."""
    status = rpc_status.from_call(error)
    for detail in () if status is None else status.details:
        info = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            return float(info.retry_delay.ToNanoseconds()) / 1e9
    return 0.0
