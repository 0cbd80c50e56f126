"""Calls under way: a message or several come in, an answer or several go out, one ending.

Whatever happens, a call ends once: with its answer, with a status, or because the caller left.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc
import structlog

from gearshift.core.rights import Rights
from gearshift.http2 import Stream
from gearshift.rpc import wire
from gearshift.rpc.context import Aborted, Context
from gearshift.rpc.methods import Method
from gearshift.rpc.shapes import Shapes
from gearshift.rpc.status import ending
from gearshift.rpc.unpacking import Packed, Unpacker, unpacked
from gearshift.rpc.wire import Call, Metadata, TooLarge, WireError

log = structlog.get_logger(__name__)

SMALL = 4_096
"""Bytes below which pieces of a message are put together as they come: as objects of their own they
would take many times what they hold."""


UNREAD = (
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    "answers wait that are not read, as many as may (setting max_unread_bytes); read them, and ask"
    " again",
)


class Responder:
    """The answering side of a call."""

    __slots__ = ("_begun", "_serialize", "_stream", "_usage", "arrival", "call", "rights")

    def __init__(self, stream: Stream, call: Call, rights: Rights) -> None:
        """`rights` are those of whoever calls."""
        self.call = call
        self._usage = stream.usage
        self.rights = rights
        self.arrival = stream.received
        """Seconds, when the call's headers came."""
        self._stream = stream
        self._serialize: Callable[[Any], bytes] = bytes
        self._begun = False

    @property
    def client(self) -> str:
        """Who calls, `anonymous` for whoever has not proved to be anybody."""
        return self.rights.client

    def remaining(self) -> float:
        """Seconds that the caller still waits, infinite for ever."""
        return self.call.timeout - (time.monotonic() - self.arrival)

    def reply(self, message: bytes) -> None:
        """The one answer of a unary call, and its end."""
        self._over()
        stream = self._stream
        if stream.open and not stream.answer(wire.OK_HEAD, wire.framed(message), wire.OK_TRAILERS):
            self.fail(*UNREAD)

    def refused(self, limit: str, why: str) -> None:
        """What came in is above a limit."""
        self.fail(*ending(self._usage.too_many(limit, why)))

    def fail(self, code: grpc.StatusCode, text: str, metadata: Metadata = ()) -> None:
        """End with a status."""
        self._over()
        if self._stream.open:
            ending = wire.trailers if self._begun else wire.trailers_only
            self._stream.finish(ending(code, text, tuple(metadata)))

    def incomplete_since(self) -> float:
        """Since when a message is under way that does not get on, as `time.monotonic` has it;
        infinite if none is."""
        return math.inf

    def end(self, code: grpc.StatusCode, text: str) -> None:
        """End it from outside."""
        self.fail(code, text)

    def _over(self) -> None:
        """Nothing more will be needed of what came in."""

    def begin(self) -> None:
        """The head of a streamed answer."""
        if not self._begun:
            self._begun = True
            self._stream.begin(wire.OK_HEAD)

    async def write(self, message: Any) -> None:
        """One message of a streamed answer; returns when the caller has room for the next."""
        if self._stream.open:
            self.begin()
            if not self._stream.send(wire.framed(self._serialize(message))):
                raise Aborted(*UNREAD, ())
            await self._stream.drained()

    async def _respond(self, handler: Any, request: Any) -> None:
        """Let a servicer's method answer, within the time that the caller waits."""
        self._serialize = handler.response_serializer
        remaining = self.remaining()
        try:
            async with asyncio.timeout(None if remaining == math.inf else max(0.0, remaining)):
                await self._let(handler, request)
        except Aborted as aborted:
            self.fail(aborted.code, aborted.text, aborted.metadata)
        except WireError as error:
            self.fail(error.code, str(error))
        except TimeoutError:
            self.fail(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        except Exception as error:
            log.error("a method failed", path=self.call.path, exc_info=error)
            self.fail(grpc.StatusCode.UNKNOWN, "the method failed")

    async def _let(self, handler: Any, request: Any) -> None:
        context = Context(self)
        if not handler.response_streaming:
            self.reply(self._serialize(await handler.unary_unary(request, context)))
            return
        method = handler.stream_stream if handler.request_streaming else handler.unary_stream
        answers = method(request, context)
        if hasattr(answers, "__aiter__"):
            async for answer in answers:
                await self.write(answer)
        else:
            await answers
        if self._begun:
            self._stream.finish(wire.OK_TRAILERS)
        elif self._stream.open:
            self.fail(grpc.StatusCode.OK, "")


class UnaryCall(Responder):
    """A call with one message in."""

    __slots__ = ("_leave", "_method", "_parts", "_size", "_task", "_unpacker", "_whole", "shapes")

    def __init__(
        self,
        stream: Stream,
        call: Call,
        rights: Rights,
        method: Method,
        shapes: Shapes,
        unpacker: Unpacker,
    ) -> None:
        """`shapes` are those of the connection."""
        super().__init__(stream, call, rights)
        self._method = method
        self._unpacker = unpacker
        self.shapes = shapes
        # What has come in, put together only once: it may be many megabytes.
        self._parts: list[bytes | bytearray] = []
        self._size = self._whole = 0
        self._leave: Callable[[], None] | None = None
        self._task: asyncio.Task[None] | None = None

    def data(self, payload: bytes, *, ended: bool) -> None:
        if ended and not self._parts:
            self._begin(payload)
            return
        parts = self._parts
        last = parts[-1] if parts else b""
        if len(payload) >= SMALL:
            parts.append(payload)
        elif isinstance(last, bytearray) and len(last) < SMALL:
            last += payload
        else:
            parts.append(bytearray(payload))
        self._size += len(payload)
        if not self._whole and (self._size >= wire.PREFIX or ended):
            parts[:] = [b"".join(parts)]
            self._whole = wire.PREFIX + wire.size_of(parts[0])
        if self._size > self._whole > 0:
            self.fail(grpc.StatusCode.INTERNAL, "more than one message in a unary call")
        elif self._whole > self._method.most + wire.PREFIX:
            self._end(TooLarge(self._method.most))
        elif ended:
            self._begin(bytes(parts[0]), parts[1:])
        else:
            self._stream.more(len(payload))

    def _begin(self, first: bytes, rest: Sequence[bytes | bytearray] = ()) -> None:
        try:
            message = only_message(self.call, first, rest, self._method.most)
        except WireError as error:
            self._end(error)
            return
        self._parts = []
        if isinstance(message, Packed):
            self._task = asyncio.get_running_loop().create_task(self._unpack(message))
        else:
            self._answer(message)

    async def _unpack(self, packed: Packed) -> None:
        try:
            message = await self._unpacker.whole(packed)
        except WireError as error:
            self._end(error)
            return
        self._task = None
        if self._stream.open:
            self._answer(message)

    def _answer(self, message: bytes) -> None:
        self._stream.taken(self._stream.held)
        direct = self._method.direct
        if direct is not None:
            self._leave = direct(self, message)
        else:
            self._task = asyncio.get_running_loop().create_task(self._run(message))

    def _end(self, error: WireError) -> None:
        connection = self._stream.connection
        self.fail(error.code, str(error))
        if isinstance(error, TooLarge):
            self._usage.reach("max_message_bytes")
            if error.unpacked:
                connection.bomb()

    async def _run(self, message: bytes) -> None:
        handler = self._method.handler
        try:
            request = handler.request_deserializer(message)
        except Exception as error:  # noqa: BLE001 - protobuf's errors share no base
            told = unreadable(error)
            self.fail(told.code, str(told))
            return
        await self._respond(handler, request)

    def incomplete_since(self) -> float:
        return math.inf if self._stream.ended else self.arrival

    def _over(self) -> None:
        # Who is asked to leave knows the request, which knows this call.
        self._leave = None

    def cancelled(self) -> None:
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()
        if self._task is not None:
            self._task.cancel()


class StreamCall(Responder):
    """A call with any number of messages in."""

    __slots__ = (
        "_arrived",
        "_buffer",
        "_ended",
        "_fault",
        "_most",
        "_owed",
        "_since",
        "_task",
        "_unpacker",
        "_waiting",
    )

    def __init__(
        self, stream: Stream, call: Call, rights: Rights, method: Method, unpacker: Unpacker
    ) -> None:
        super().__init__(stream, call, rights)
        self._unpacker = unpacker
        self._buffer = bytearray()
        self._arrived: deque[bytes] = deque()
        self._ended = False
        self._fault: WireError | None = None
        self._owed = 0
        self._most = method.most
        self._since = math.inf
        self._waiting: asyncio.Future[None] | None = None
        handler = method.handler
        requests = self._requests(handler.request_deserializer)
        self._task = asyncio.get_running_loop().create_task(self._respond(handler, requests))

    def incomplete_since(self) -> float:
        return self._since if self._buffer else math.inf

    def end(self, code: grpc.StatusCode, text: str) -> None:
        self.fail(code, text)
        self._task.cancel()

    def refused(self, limit: str, why: str) -> None:
        super().refused(limit, why)
        self._task.cancel()

    def data(self, payload: bytes, *, ended: bool) -> None:
        buffer = self._buffer
        buffer += payload
        self._owed += len(payload)
        self._ended = ended
        try:
            whole = split_messages(buffer, self._most)
            if whole or len(buffer) == len(payload):
                self._since = time.monotonic()  # another one begins
            self._arrived += whole
        except WireError as error:
            self._usage.reach("max_message_bytes")
            self._fault = error
        if ended and buffer and self._fault is None:
            self._fault = WireError(grpc.StatusCode.INTERNAL, "the last message is cut short")
        if not self._arrived:
            self._pay()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def _requests(self, deserialize: Callable[[bytes], Any]) -> AsyncIterator[Any]:
        while True:
            while self._arrived:
                whole = self._arrived.popleft()
                message = only_message(self.call, whole, (), self._most)
                if isinstance(message, Packed):
                    message = await self._unpacker.whole(message)
                self._stream.taken(min(len(whole), self._stream.held))
                yield self._read(deserialize, message)
            # Only who keeps up may send more.
            self._pay()
            if self._fault is not None:
                raise self._fault
            if self._ended:
                return
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting

    @staticmethod
    def _read(deserialize: Callable[[bytes], Any], message: bytes) -> Any:
        try:
            return deserialize(message)
        except Exception as error:  # noqa: BLE001 - as above
            raise unreadable(error) from None

    def _pay(self) -> None:
        owed, self._owed = self._owed, 0
        self._stream.more(owed)

    def cancelled(self) -> None:
        self._task.cancel()


def split_messages(buffer: bytearray, limit: int) -> list[bytes]:
    """Take the whole messages off `buffer`, each with its prefix."""
    found, at = [], 0
    while len(buffer) - at >= wire.PREFIX:
        size = wire.size_of(buffer, at)
        if size > limit:
            raise TooLarge(limit)
        end = at + wire.PREFIX + size
        if end > len(buffer):
            break
        found.append(bytes(buffer[at:end]))
        at = end
    if at:
        del buffer[:at]
    return found


def unreadable(error: Exception) -> WireError:
    """What a caller hears whose message is not what the method takes."""
    return WireError(grpc.StatusCode.INTERNAL, f"the request cannot be read: {error}")


def only_message(
    call: Call, first: bytes, rest: Sequence[bytes | bytearray], most: int
) -> bytes | Packed:
    """The message behind its prefix, which is in `first`; of `most` bytes."""
    size = len(first) - wire.PREFIX + sum(map(len, rest))
    if size < 0 or wire.size_of(first) != size:
        raise WireError(
            grpc.StatusCode.INTERNAL,
            "a message is not as long as it says" if first else "the call has no message",
        )
    message = first[wire.PREFIX :]
    if rest:
        message = b"".join((message, *rest))
    if first[0] == 0:
        if size > most:
            raise TooLarge(most)
        return message
    return unpacked(message, call.encoding, most)
