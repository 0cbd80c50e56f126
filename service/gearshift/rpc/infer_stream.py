"""ModelStreamInfer: many requests under way on one stream, answered as they are done.

A request that fails is answered with `error_message` and the stream goes on; with the metadata
`triton_grpc_error: true` the stream ends with the request's status instead, as Triton does.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque

import grpc
from tritonclient.grpc import service_pb2 as pb

from gearshift.core.rights import Rights
from gearshift.errors import TooMany
from gearshift.http2 import Stream
from gearshift.rpc import wire
from gearshift.rpc.answers import varint
from gearshift.rpc.calls import UNREAD, Responder
from gearshift.rpc.infer import STREAM, Inferences
from gearshift.rpc.preparing import Taken
from gearshift.rpc.shapes import Shapes, model_of
from gearshift.rpc.status import code_and_message, ending
from gearshift.rpc.unpacking import Packed, Unpacker, unpacked
from gearshift.rpc.wire import Call, TooLarge, WireError

MOST_UNDER_WAY = 1_024
"""Requests of one stream that are not answered yet; above it the caller may send no more."""

_RESPONSE = b"\x12"
"""Tag of ModelStreamInferResponse.infer_response, a message."""


def _final(told: bool) -> bytes:
    response = pb.ModelInferResponse()
    response.parameters["triton_final_response"].bool_param = told
    return bytes(response.SerializeToString())


_FINAL = _final(True)
"""Every request has one answer, so that each is the last one of its request."""


class InferStream(Responder):
    """The receiver of one ModelStreamInfer call."""

    __slots__ = (
        "_arrived",
        "_caller",
        "_ended",
        "_inferences",
        "_last",
        "_later",
        "_owed",
        "_rest",
        "_shapes",
        "_since",
        "_strict",
        "_under_way",
        "_unpacker",
        "_unpacking",
        "_waits",
        "_wanted",
    )

    def __init__(
        self,
        stream: Stream,
        call: Call,
        rights: Rights,
        shapes: Shapes,
        unpacker: Unpacker,
        inferences: Inferences,
    ) -> None:
        super().__init__(stream, call, rights)
        self._shapes = shapes
        self._unpacker = unpacker
        self._unpacking: asyncio.Task[None] | None = None
        """Of a message that takes long; what comes after it waits in `_later`."""
        self._waits = False
        """For its next turn to read: a frame may have a thousand messages, and there are others."""
        self._later: deque[tuple[bytes, float]] = deque()
        """What is not read yet, and when it came."""
        self._arrived = 0.0
        """When the bytes came that are being read."""
        self._inferences = inferences
        self._caller = inferences.caller_of(call, rights)
        self._rest = bytearray()
        self._since = math.inf
        """Since when the message has been under way that is in `_rest`."""
        self._wanted = 0
        """Bytes of the message that has begun in `_rest`, as far as is known."""
        self._last = False
        """The caller has sent all."""
        self._ended = False
        """All of it has been read."""
        self._owed = 0
        self._under_way: dict[_StreamAsker, Taken] = {}
        self._strict = ("triton_grpc_error", "true") in call.metadata

    def data(self, payload: bytes, *, ended: bool) -> None:
        self._owed += len(payload)
        self._last = ended
        self._later.append((payload, self._stream.received))
        if not self._held_up:
            self._take()

    @property
    def _held_up(self) -> bool:
        return self._waits or self._unpacking is not None

    def go_on(self) -> bool:
        """It is its turn to read."""
        self._waits = False
        self._take()
        return False

    def _take(self) -> None:
        """Read what has come, as far as there is time."""
        later = self._later
        try:
            while later and not self._held_up:
                data, self._arrived = later.popleft()
                if self._rest:
                    self._rest += data
                    if len(self._rest) < self._wanted:
                        continue
                    data = bytes(self._rest)
                    self._rest.clear()
                at = self._read(data)
                if at == len(data):
                    continue
                if self._held_up:
                    later.appendleft((data[at:], self._arrived))
                else:
                    self._rest += data[at:]
                    self._since = time.monotonic()
            if self._held_up:
                return
            if self._last and self._rest:
                raise WireError(grpc.StatusCode.INTERNAL, "the last message is cut short")
        except WireError as error:
            self._break_off(error)
            return
        # Only now: a request that fails at once must not end the stream before the next is read.
        self._ended = self._last
        self._go_on()

    def _break_off(self, error: WireError) -> None:
        connection = self._stream.connection
        self._end(error.code, str(error))
        if isinstance(error, TooLarge):
            self._usage.reach("max_message_bytes")
            if error.unpacked:
                connection.bomb()

    def _read(self, data: bytes) -> int:
        """Ask for the whole messages in `data`, as long as there is time, and up to one that takes
        long to unpack; how many bytes they were."""
        at, size = 0, len(data)
        most = self._usage.limits.max_message_bytes
        arrival, turns = self._arrived, self._stream.connection.turns
        while size - at >= wire.PREFIX:
            compressed, length = wire.PREFIXED.unpack_from(data, at)
            if length > most:
                raise TooLarge(most)
            begin = at + wire.PREFIX
            end: int = begin + length
            if end > size:
                self._wanted = end - at
                return at
            message = data[begin:end]
            whole = unpacked(message, self.call.encoding, most) if compressed else message
            if isinstance(whole, Packed):
                unpacking = self._unpack(whole, end - at, arrival)
                self._unpacking = asyncio.get_running_loop().create_task(unpacking)
                return end
            self._ask(whole, end - at, arrival)
            at = end
            if turns is not None and at < size and self._stream.open and turns.over:
                self._waits = True
                turns.wait(self)
                return at
        self._wanted = wire.PREFIX
        return at

    async def _unpack(self, packed: Packed, size: int, arrival: float) -> None:
        try:
            message = await self._unpacker.whole(packed)
        except WireError as error:
            self._unpacking = None
            self._break_off(error)
            return
        self._unpacking = None
        self._ask(message, size, arrival)
        self._take()

    def _ask(self, message: bytes, size: int, arrival: float) -> None:
        """Ask for one message, which was `size` bytes as it came."""
        stream = self._stream
        stream.taken(min(size, stream.held))
        if not stream.open:
            return
        asker = _StreamAsker(self)
        inferences, trace = self._inferences, None
        refused = self._full() or inferences.turned_away(self._caller)
        if refused is not None:
            inferences.refuse(message, arrival, refused, asker)
            inferences.let_rest(stream, refused)
            return
        if inferences.tracing is not None:
            received, metadata = time.monotonic(), self.call.metadata
            model = model_of(message) if inferences.tracing.by_model else ""
            trace = inferences.tracing.begin(
                STREAM, metadata, arrival, received, self.client, model
            )
        taken = inferences.begin(
            message,
            arrival,
            max(0.0, self.call.timeout - (arrival - self.arrival)),
            self.rights,
            self._shapes,
            asker,
            trace,
            self._caller,
        )
        if taken is not None:
            self._under_way[asker] = taken
            stream.connection.requests += 1
            self._usage.requests += 1

    def _full(self) -> TooMany | None:
        """What the next request hears if as many are under way as may be."""
        usage, connection = self._usage, self._stream.connection
        limits = usage.limits
        under_way = len(connection.streams) + connection.requests
        if under_way >= limits.max_requests_per_connection:
            return usage.too_many("max_requests_per_connection", "requests of a connection")
        most = limits.max_requests
        if usage.requests >= most and under_way > usage.share(most):
            return usage.too_many("max_requests", "requests under way")
        return None

    def _forget(self, count: int) -> None:
        """So many requests are under way no longer."""
        self._stream.connection.requests -= count
        self._usage.requests -= count

    def settled(self, asker: _StreamAsker, framed: bytes) -> None:
        """A request of this stream has its answer."""
        if self._under_way.pop(asker, None) is not None:
            self._forget(1)
        stream = self._stream
        if not stream.open:
            return
        if not self._begun:
            self.begin()
        if not stream.send(framed):
            self._end(*UNREAD)
            return
        if self._owed or self._ended:
            self._go_on()

    def failed(self, asker: _StreamAsker, error: Exception, request_id: str) -> None:
        if self._strict:
            if self._under_way.pop(asker, None) is not None:
                self._forget(1)
            self._end(*ending(error))
            return
        _, text = code_and_message(error)
        response = pb.ModelStreamInferResponse(error_message=text)
        response.infer_response.id = request_id
        response.infer_response.parameters["triton_final_response"].bool_param = True
        self.settled(asker, wire.framed(response.SerializeToString()))

    def _go_on(self) -> None:
        """Let the caller send more, or end when all is said."""
        if self._held_up:
            return
        if len(self._under_way) < MOST_UNDER_WAY and not self._stream.waiting:
            owed, self._owed = self._owed, 0
            self._stream.more(owed)
        if self._ended and not self._under_way and self._stream.open:
            self.begin()
            self._stream.finish(wire.OK_TRAILERS)

    def _end(self, code: grpc.StatusCode, text: str, metadata: wire.Metadata = ()) -> None:
        self.fail(code, text, metadata)
        self.cancelled()

    def incomplete_since(self) -> float:
        return self._since if self._rest and not self._held_up else math.inf

    def end(self, code: grpc.StatusCode, text: str) -> None:
        self._end(code, text)

    def refused(self, limit: str, why: str) -> None:
        self._end(*ending(self._usage.too_many(limit, why)))

    def cancelled(self) -> None:
        if self._unpacking is not None:
            self._unpacking.cancel()
        if (turns := self._stream.connection.turns) is not None and self._waits:
            turns.forget(self)
        self._later.clear()
        under_way, self._under_way = self._under_way, {}
        self._forget(len(under_way))
        for taken in under_way.values():
            self._inferences.abandon(taken)


class _StreamAsker:
    __slots__ = ("_stream",)

    def __init__(self, stream: InferStream) -> None:
        self._stream = stream

    def answered(self, message: bytes) -> None:
        size = len(message) + len(_FINAL)
        told = varint(size)
        prefix = wire.PREFIXED.pack(0, len(_RESPONSE) + len(told) + size)
        self._stream.settled(self, b"".join((prefix, _RESPONSE, told, message, _FINAL)))

    def failed(self, error: Exception, request_id: str) -> None:
        self._stream.failed(self, error, request_id)
