"""The servers of one variant: which of them gets a batch, and what if it fails or takes long.

A batch goes to the server that should answer first, by what it took before and what it is at. One
that cannot be reached, or answers what is none, is given up at once, and the batch goes to another
while there is time; one that keeps failing is asked only when no other can be. One that takes twice
as long as nineteen of twenty before is asked of a second server as well, and whoever answers first
counts (hedged requests: Dean and Barroso, The Tail at Scale, 2013); no more than one run of twenty,
so that servers that are slow because they are busy are not made busier. It is also asked whether it
is still there: one that is frozen is found out while there is time for its requests.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass

import grpc
from tritonclient.grpc import service_pb2 as pb

from gearshift.errors import ExecutorUnavailable
from gearshift.executors.remote.endpoint import Endpoint, GivenUp, reason
from gearshift.executors.remote.hosted import Hosted
from gearshift.ports import Tensors

HEDGES, SAVED_UP = 0.05, 5.0
"""Second requests for each first one, and how many may be saved up."""

ODD = frozenset({grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT})
"""What a server says of a model that is gone, or is another one now: requests have been checked
here."""

ELSEWHERE = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
    }
)
"""What says nothing about the request, so that another server may do better."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One run. `until` on the loop's clock; `kind` says which runs take about as long; `request` is
    what each server is sent, and `read` what its answer means: ValueError if it is none."""

    request: Callable[[Endpoint, float], pb.ModelInferRequest]
    until: float
    kind: Hashable
    read: Callable[[pb.ModelInferResponse], Tensors]


class Pool:
    """Used on one event loop."""

    def __init__(self, hosted: Sequence[Hosted], free: asyncio.Event) -> None:
        """`free` is set when any server of any pool has room again, or another state."""
        self.hosted = hosted
        self.hedged = 0
        self._saved = 1.0
        self._free = free

    async def infer(self, asked: Asked) -> Tensors:
        """The answer of one of them. ExecutorUnavailable if none can give one in time, RuntimeError
        if what they say is no answer."""
        tried: list[Hosted] = []
        told = ""
        nonsense: ValueError | None = None
        while True:
            hosted = await self._next(tried, asked)
            if hosted is None:
                if nonsense is not None:
                    raise RuntimeError(told) from nonsense
                raise ExecutorUnavailable(f"no remote server can run it: {told or self._why()}")
            tried.append(hosted)
            try:
                return await self._hedged(hosted, tried, asked)
            except grpc.aio.AioRpcError as error:
                told = f"{hosted.endpoint.address}: {reason(error)}"
                if error.code() not in ELSEWHERE:
                    raise RuntimeError(told) from error
            except GivenUp as error:
                told = str(error)
            except ValueError as error:
                told, nonsense = f"{hosted.endpoint.address}: {error}", error

    def _why(self) -> str:
        return "; ".join(each.why for each in self.hosted)

    async def _next(self, tried: Collection[Hosted], asked: Asked) -> Hosted | None:
        """The one that should answer first, once one has room; None if there is none in time."""
        loop = asyncio.get_running_loop()
        while any(each.usable and each not in tried for each in self.hosted):
            left = asked.until - loop.time()
            if left <= 0.0:
                return None
            found = self._best(tried, asked.kind)
            if found is not None:
                return found
            self._free.clear()
            try:
                async with asyncio.timeout(None if left == math.inf else left):
                    await self._free.wait()
            except TimeoutError:
                return None
        return None

    def _best(self, tried: Collection[Hosted], kind: Hashable) -> Hosted | None:
        now = asyncio.get_running_loop().time()

        def order(each: Hosted) -> tuple[bool, float, int]:
            busy = each.endpoint.under_way
            return not each.sound(now), (busy + 1) * each.endpoint.observed.usual(kind, now), busy

        able = [each for each in self.hosted if each.room and each not in tried]
        return min(able, key=order, default=None)

    def _patience(self, first: Hosted, kind: Hashable) -> float:
        """Seconds, after which another one is asked as well. One of which little is known is
        given as long as those take that are known."""
        now = asyncio.get_running_loop().time()
        patience = first.endpoint.observed.slow(kind, now)
        if patience < math.inf:
            return patience
        return min(each.endpoint.observed.slow(kind, now) for each in self.hosted)

    async def _hedged(self, first: Hosted, tried: list[Hosted], asked: Asked) -> Tensors:
        loop = asyncio.get_running_loop()
        self._saved = min(SAVED_UP, self._saved + HEDGES)
        patience = self._patience(first, asked.kind)
        runs = {self._ask(first, asked)}
        try:
            if len(self.hosted) > 1 and loop.time() + patience < asked.until:
                done, _ = await asyncio.wait(runs, timeout=patience)
                second = None if done or self._saved < 1.0 else self._best(tried, asked.kind)
                if second is not None and self._in_time(second, asked):
                    self._saved -= 1.0
                    self.hedged += 1
                    tried.append(second)
                    runs.add(self._ask(second, asked))
            return await _first_good(runs)
        finally:
            for run in runs:
                run.cancel()

    def _in_time(self, hosted: Hosted, asked: Asked) -> bool:
        now = asyncio.get_running_loop().time()
        return now + hosted.endpoint.observed.usual(asked.kind, now) < asked.until

    def _ask(self, hosted: Hosted, asked: Asked) -> asyncio.Task[Tensors]:
        loop = asyncio.get_running_loop()
        endpoint = hosted.endpoint
        # At once, because others choose before the task begins.
        endpoint.under_way += 1
        run = hosted.began()
        within = max(0.001, asked.until - loop.time())
        message = asked.request(endpoint, within)
        task = loop.create_task(endpoint.infer(message, within, asked.kind, asked.read))
        task.add_done_callback(lambda task: self._over(hosted, run, task))
        slow = endpoint.observed.slower(asked.kind, loop.time())
        if slow < within:
            check = loop.call_later(slow, endpoint.check)
            task.add_done_callback(lambda _: check.cancel())
        return task

    def _over(self, hosted: Hosted, run: int, task: asyncio.Task[Tensors]) -> None:
        hosted.endpoint.under_way -= 1
        self._free.set()
        error = None if task.cancelled() else task.exception()
        if task.cancelled():
            hosted.inconclusive(run)
        elif error is None:
            hosted.worked(run)
        else:
            code = error.code() if isinstance(error, grpc.aio.AioRpcError) else None
            if isinstance(error, ValueError) or code in ODD:
                hosted.doubt()
            if code is grpc.StatusCode.INVALID_ARGUMENT:
                hosted.inconclusive(run)
            else:
                hosted.failed(run)


async def _first_good(asked: set[asyncio.Task[Tensors]]) -> Tensors:
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
