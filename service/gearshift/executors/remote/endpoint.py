"""One remote server: is it there, how much is under way there, how long does it take?"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Any, Protocol

import grpc
import structlog
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from gearshift.executors.remote.credentials import files, token
from gearshift.executors.remote.intent import Remote
from gearshift.executors.remote.observed import Observed
from gearshift.ports import Tensors

log = structlog.get_logger(__name__)

LOOK_EVERY = 0.5
"""Seconds between two looks whether a server is there."""

LOOK_WITHIN = 1.0
"""Seconds that it may take to say so."""

PROMPT = 0.2
"""Seconds that it may take while a run there takes unusually long. If it does not, both say that it
is gone, long before the next look would."""

SILENT_AFTER = 10.0
"""Seconds without any answer, until what is under way there is given up and it is connected to
anew: the connection may lead nowhere any more, and nobody would hear of that."""

GRACE = 60.0
"""Seconds for runs on a connection that was made with credentials that are others now."""

LARGEST_MESSAGE = 2**30 + 2**20
"""Bytes of an answer: what the catalog allows to a batch, and its names and shapes."""

OURS = "gearshift"
"""What a server of this kind calls itself: it is told budgets and floors."""

_OPTIONS = (
    ("grpc.max_receive_message_length", LARGEST_MESSAGE),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # In truth how long a try to connect may take: several ways across an ocean, with TLS.
    ("grpc.min_reconnect_backoff_ms", 2_000),
)
"""It is looked every LOOK_EVERY: a connection must not wait longer for its next try."""


class GivenUp(Exception):
    """A run was ended from this side."""


class Guest(Protocol):
    """What is kept of a server's models by whoever uses them."""

    async def look(self) -> None:
        """The server is there. It may be another one than it was, after it had `left`."""

    def left(self) -> None:
        """It is not there any more."""


class Endpoint:
    """Used on one event loop. `freed` is called when it may have room that it had not before."""

    def __init__(self, address: str, remote: Remote, freed: Callable[[], None]) -> None:
        """Whatever `remote` says beside its servers. ValueError names a file of it that cannot be
        read."""
        self.address = address
        self.slots = remote.slots
        self.live = False
        self.ours = False
        self.under_way = 0
        self.why = "it has not answered yet"
        self.guests: set[Guest] = set()
        self.observed = Observed()
        self._remote = remote
        self._freed = freed
        self._doubted = False
        self._hurry = asyncio.Event()
        self._heard = asyncio.get_running_loop().time()
        self._looking: asyncio.Task[None] | None = None
        self._calls: set[grpc.aio.UnaryUnaryCall[Any, Any]] = set()
        self._checking: asyncio.Task[None] | None = None
        self._asked: dict[Guest, asyncio.Task[None]] = {}
        self._retired: set[asyncio.Task[None]] = set()
        self._files = files(remote)
        self._connect()

    def _connect(self) -> None:
        if self._remote.tls:
            credentials = self._files.credentials()
            channel = grpc.aio.secure_channel(self.address, credentials, options=_OPTIONS)
        else:
            channel = grpc.aio.insecure_channel(self.address, options=_OPTIONS)
        self._channel = channel
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

    @property
    def room(self) -> bool:
        """Whether it may be given another batch."""
        return self.live and not self._doubted and self.under_way < self.slots

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with each call; the file is read each time, because tokens change. ValueError
        if it holds none."""
        shown = token(self._remote)
        return () if shown is None else (("authorization", f"Bearer {shown}"),)

    # --- is it there? -------------------------------------------------------------------

    async def begin(self) -> None:
        """Look once, at its guests as well, and then again and again."""
        await self.look()
        if self._asked:
            await asyncio.wait(self._asked.values())
        self._looking = asyncio.get_running_loop().create_task(self._look_on())

    def doubt(self) -> None:
        """Look at once, and give it nothing until then."""
        self._doubted = True
        self._hurry.set()

    def check(self) -> None:
        """A run takes unusually long: is anybody there? If not, all runs there are given up, while
        there is time to answer their requests elsewhere."""
        if self._checking is None:
            self._checking = asyncio.get_running_loop().create_task(self._check())

    async def _check(self) -> None:
        try:
            await self.stub.ServerLive(
                pb.ServerLiveRequest(), timeout=PROMPT, metadata=self.metadata()
            )
        except grpc.aio.AioRpcError as error:
            self._failed(reason(error))
            self._give_up()
        except ValueError as error:
            self._failed(str(error))
        finally:
            self._checking = None

    def _give_up(self) -> None:
        for call in self._calls:
            call.cancel()

    def hurry(self) -> None:
        """Look at once."""
        self._hurry.set()

    async def _look_on(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await self._hurry.wait()
            self._hurry.clear()
            try:
                await self.look()
            except Exception:
                # Nothing that a server says may end this.
                log.exception("a remote server cannot be looked at", server=self.address)

    async def look(self) -> None:
        """Not whether it is ready: Triton is not while any of its models is not. Whether it has
        theirs is for the guests to ask."""
        try:
            await self._renew()
            shown = self.metadata()
            said = await self.stub.ServerLive(
                pb.ServerLiveRequest(), timeout=LOOK_WITHIN, metadata=shown
            )
            if said.live and not self.live:
                told = await self.stub.ServerMetadata(
                    pb.ServerMetadataRequest(), timeout=LOOK_WITHIN, metadata=shown
                )
                self.ours = told.name == OURS
        except grpc.aio.AioRpcError as error:
            self._failed(reason(error))
            self._quiet(error)
            return
        except ValueError as error:
            self._failed(str(error))
            return
        finally:
            self._doubted = False
        self._heard = asyncio.get_running_loop().time()
        if not said.live:
            self._failed("it says that it is not live")
            return
        self.why = ""
        if not self.live:
            self.live = True
            log.info("a remote server is there", server=self.address)
        for guest in self.guests:
            self._ask(guest)
        self._freed()

    def _ask(self, guest: Guest) -> None:
        """Apart, and not twice at a time: one that takes long must not hold up the next look."""
        if guest not in self._asked:
            task = asyncio.get_running_loop().create_task(guest.look())
            self._asked[guest] = task
            task.add_done_callback(lambda _: self._told(guest))

    def _told(self, guest: Guest) -> None:
        del self._asked[guest]
        self._freed()

    def _failed(self, why: str) -> None:
        """Give it nothing until it says that it is there."""
        self.why = why
        if self.live:
            self.live = False
            log.warning("a remote server is gone", server=self.address, reason=why)
            for guest in self.guests:
                guest.left()
        # Who waits for a place there waits for nothing.
        self._freed()

    def _quiet(self, error: grpc.aio.AioRpcError) -> None:
        """Nothing came back. That may be so for a while; not for ever."""
        now = asyncio.get_running_loop().time()
        if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
            self._heard = now
        elif now - self._heard >= SILENT_AFTER:
            log.warning(
                "a remote server is silent: what it was running is given up",
                server=self.address,
                runs=self.under_way,
            )
            self._heard = now
            self._give_up()
            self._retire(None)
            self._connect()

    async def _renew(self) -> None:
        """Connect anew if the files by which that is done are others. What cannot be read now was
        read before."""
        if not self._remote.tls:
            return
        with suppress(ValueError):
            found = files(self._remote)
            if found != self._files:
                log.info("credentials for a remote server are others", server=self.address)
                self._files = found
                self._retire(GRACE)
                self._connect()

    def _retire(self, grace: float | None) -> None:
        """Close the connection when its runs are over, within so many seconds or at once."""
        task = asyncio.get_running_loop().create_task(self._channel.close(grace))
        self._retired.add(task)
        task.add_done_callback(self._retired.discard)

    # --- runs ---------------------------------------------------------------------------

    async def infer(
        self,
        request: pb.ModelInferRequest,
        within: float,
        kind: Hashable,
        read: Callable[[pb.ModelInferResponse], Tensors],
    ) -> Tensors:
        """What `read` makes of the answer. grpc.aio.AioRpcError as it comes, and what `read`
        raises; GivenUp. `kind` says which runs take about as long."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        begun = loop.time()
        call = self.stub.ModelInfer(
            request, timeout=None if within == math.inf else within, metadata=self.metadata()
        )
        self._calls.add(call)
        try:
            answer = read(await call)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                # It is gone, or says so of one model or a full queue.
                self.doubt()
            elif error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                self.observed.took_more(kind, loop.time() - begun, loop.time())
            raise
        except asyncio.CancelledError:
            if task is not None and task.cancelling() == 0:
                # Which says nothing of how fast it is while it is there.
                raise GivenUp(f"{self.address}: {self.why or 'the run was given up'}") from None
            self.observed.took_more(kind, loop.time() - begun, loop.time())
            raise
        finally:
            self._calls.discard(call)
        self.observed.took(kind, loop.time() - begun, loop.time())
        return answer

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking
        await self._channel.close()
        left = [*self._asked.values(), *self._retired]
        if self._checking is not None:
            left.append(self._checking)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def reason(error: grpc.aio.AioRpcError) -> str:
    """In a few words."""
    return f"{error.code().name}: {(error.details() or '')[:300]}"
