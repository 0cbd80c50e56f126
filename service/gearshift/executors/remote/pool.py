"""The servers of one variant: which of them gets a batch, and what if it fails or takes long.

A batch goes to the server that should answer first, by what it took before and what it is at. One
that cannot be reached is given up at once, and the batch goes to another while there is time. One
that takes twice as long as nineteen of twenty before is asked of a second server as well, and
whoever answers first counts (hedged requests: Dean and Barroso, The Tail at Scale, 2013); no more
than one run of twenty, so that servers that are slow because they are busy are not made busier.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Hashable, Sequence

import grpc
from tritonclient.grpc import service_pb2 as pb

from gearshift.errors import ExecutorUnavailable
from gearshift.executors.remote.endpoint import Endpoint, reason

HEDGES, SAVED_UP = 0.05, 5.0
"""Second requests for each first one, and how many may be saved up."""

ELSEWHERE = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)
"""What says nothing about the request, so that another server may do better."""


class Pool:
    """Used on one event loop."""

    def __init__(self, endpoints: Sequence[Endpoint], free: asyncio.Event) -> None:
        """`free` is set when any server of any pool has room again, or another state."""
        self.endpoints = endpoints
        self.hedged = 0
        self._saved = 1.0
        self._free = free

    async def infer(
        self, request: pb.ModelInferRequest, within: float, kind: Hashable
    ) -> pb.ModelInferResponse:
        """The answer of one of them. ExecutorUnavailable if none can give one within so many
        seconds."""
        loop = asyncio.get_running_loop()
        until = loop.time() + within
        tried: list[Endpoint] = []
        told = ""
        while True:
            endpoint = await self._next(tried, until, kind)
            if endpoint is None:
                raise ExecutorUnavailable(f"no remote server can run it: {told or self._why()}")
            tried.append(endpoint)
            try:
                return await self._hedged(endpoint, tried, request, until, kind)
            except grpc.aio.AioRpcError as error:
                told = f"{endpoint.address}: {reason(error)}"
                if error.code() not in ELSEWHERE:
                    raise RuntimeError(told) from error

    def _why(self) -> str:
        return "; ".join(f"{each.address}: {each.why or 'it is busy'}" for each in self.endpoints)

    async def _next(
        self, tried: Collection[Endpoint], until: float, kind: Hashable
    ) -> Endpoint | None:
        """The one that should answer first, once one has room; None if there is none in time."""
        loop = asyncio.get_running_loop()
        while any(each.ready and each not in tried for each in self.endpoints):
            found = self._best(tried, kind)
            if found is not None:
                return found
            self._free.clear()
            left = until - loop.time()
            try:
                async with asyncio.timeout(None if left == math.inf else max(0.0, left)):
                    await self._free.wait()
            except TimeoutError:
                return None
        return None

    def _best(self, tried: Collection[Endpoint], kind: Hashable) -> Endpoint | None:
        able = [each for each in self.endpoints if each.room and each not in tried]
        return min(
            able,
            key=lambda each: ((each.under_way + 1) * each.usual(kind), each.under_way),
            default=None,
        )

    async def _hedged(
        self,
        first: Endpoint,
        tried: list[Endpoint],
        request: pb.ModelInferRequest,
        until: float,
        kind: Hashable,
    ) -> pb.ModelInferResponse:
        loop = asyncio.get_running_loop()
        self._saved = min(SAVED_UP, self._saved + HEDGES)
        patience = first.slow(kind)
        asked = {self._ask(first, request, until, kind)}
        try:
            if len(self.endpoints) > 1 and loop.time() + patience < until:
                done, _ = await asyncio.wait(asked, timeout=patience)
                second = None if done or self._saved < 1.0 else self._best(tried, kind)
                if second is not None and loop.time() + second.usual(kind) < until:
                    self._saved -= 1.0
                    self.hedged += 1
                    tried.append(second)
                    asked.add(self._ask(second, request, until, kind))
            return await _first_good(asked)
        finally:
            for task in asked:
                task.cancel()

    def _ask(
        self, endpoint: Endpoint, request: pb.ModelInferRequest, until: float, kind: Hashable
    ) -> asyncio.Task[pb.ModelInferResponse]:
        loop = asyncio.get_running_loop()
        # At once, because others choose before the task begins.
        endpoint.under_way += 1
        within = max(0.001, until - loop.time())
        task = loop.create_task(endpoint.infer(request, within, kind))
        task.add_done_callback(lambda _: self._over(endpoint))
        return task

    def _over(self, endpoint: Endpoint) -> None:
        endpoint.under_way -= 1
        self._free.set()


async def _first_good(asked: set[asyncio.Task[pb.ModelInferResponse]]) -> pb.ModelInferResponse:
    """The first answer; the first one's error if all fail."""
    left = set(asked)
    error: BaseException | None = None
    while left:
        done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            failed = task.exception()
            if failed is None:
                return task.result()
            error = error or failed
    assert error is not None
    raise error
