"""One remote server: is it ready, how much is under way there, how long does it take?"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from pathlib import Path

import grpc
import structlog
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from gearshift.executors.remote.intent import Remote

log = structlog.get_logger(__name__)

LOOK_EVERY = 0.5
"""Seconds between two looks whether a server is ready."""

LOOK_WITHIN = 1.0
"""Seconds that it may take to say so."""

OURS = "gearshift"
"""What a server of this kind calls itself: it is told budgets and floors."""

REMEMBERED = 64
"""The latest durations of one kind of run."""

STALE = 30.0
"""Seconds after which one says nothing any more: a server that was slow must not be so for ever."""

ENOUGH = 16
"""So many of them tell what is usual."""

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)
"""It is looked every LOOK_EVERY: a connection must not wait longer for its next try."""


class Endpoint:
    """Used on one event loop. `turned` is told when it gets ready, or is ready no longer."""

    def __init__(self, address: str, remote: Remote, turned: Callable[[Endpoint], None]) -> None:
        """Whatever `remote` says beside its servers."""
        self.address = address
        self.slots = remote.slots
        self.ready = False
        self.ours = False
        self.under_way = 0
        self.why = "it has not answered yet"
        self._turned = turned
        self._durations: dict[Hashable, deque[tuple[float, float]]] = {}
        self._channel = _channel(address, remote)
        self._token_file = remote.token_file
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._looking: asyncio.Task[None] | None = None

    @property
    def room(self) -> bool:
        """Whether it may be given another batch."""
        return self.ready and self.under_way < self.slots

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with each call; the file is read each time, because tokens change."""
        if self._token_file is None:
            return ()
        token = Path(self._token_file).read_text().strip()
        return (("authorization", f"Bearer {token}"),)

    # --- is it ready? -------------------------------------------------------------------

    async def begin(self) -> None:
        """Look once, and then again and again."""
        await self.look()
        self._looking = asyncio.get_running_loop().create_task(self._look_on())

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            await self.look()

    async def look(self) -> None:
        try:
            ready = await self.stub.ServerReady(
                pb.ServerReadyRequest(), timeout=LOOK_WITHIN, metadata=self.metadata()
            )
            if ready.ready and not self.ready:
                told = await self.stub.ServerMetadata(
                    pb.ServerMetadataRequest(), timeout=LOOK_WITHIN, metadata=self.metadata()
                )
                self.ours = told.name == OURS
        except (grpc.aio.AioRpcError, OSError) as error:
            self.failed(reason(error))
            return
        if ready.ready:
            self._turn(True, "")
        else:
            self.failed("it says that it is not ready")

    def failed(self, why: str) -> None:
        """Give it nothing until it says that it is ready."""
        self._turn(False, why)

    def _turn(self, ready: bool, why: str) -> None:
        self.why = why
        if ready is not self.ready:
            self.ready = ready
            if ready:
                log.info("a remote server is ready", server=self.address)
            else:
                log.warning("a remote server is not ready", server=self.address, reason=why)
            self._turned(self)

    # --- runs ---------------------------------------------------------------------------

    async def infer(
        self, request: pb.ModelInferRequest, within: float, kind: Hashable
    ) -> pb.ModelInferResponse:
        """grpc.aio.AioRpcError as it comes. `kind` says which runs take about as long."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            answer = await self.stub.ModelInfer(
                request, timeout=None if within == math.inf else within, metadata=self.metadata()
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                self.failed(reason(error))
            raise
        known = self._durations.setdefault(kind, deque(maxlen=REMEMBERED))
        now = loop.time()
        known.append((now, now - begun))
        return answer

    def usual(self, kind: Hashable) -> float:
        """Seconds, the median; 0 for what is not known, so that it gets known."""
        known = self._known(kind)
        return known[len(known) // 2] if known else 0.0

    def slow(self, kind: Hashable) -> float:
        """Seconds, twice what nineteen of twenty runs take; infinite while little is known. Not
        just what they take: then what may be asked twice would be spent on one run of twenty that
        is a little slower."""
        known = self._known(kind)
        return 2.0 * known[(19 * len(known)) // 20] if len(known) >= ENOUGH else math.inf

    def _known(self, kind: Hashable) -> list[float]:
        """In rising order."""
        since = asyncio.get_running_loop().time() - STALE
        return sorted(took for at, took in self._durations.get(kind, ()) if at >= since)

    def forget(self, kinds: Callable[[Hashable], bool]) -> None:
        for kind in [kind for kind in self._durations if kinds(kind)]:
            del self._durations[kind]

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking
        await self._channel.close()


def reason(error: Exception) -> str:
    """In a few words."""
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {(error.details() or '')[:200]}"
    return str(error)


def _channel(address: str, remote: Remote) -> grpc.aio.Channel:
    if not remote.tls:
        return grpc.aio.insecure_channel(address, options=_OPTIONS)
    roots = None if remote.ca_file is None else Path(remote.ca_file).read_bytes()
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(roots), options=_OPTIONS)
