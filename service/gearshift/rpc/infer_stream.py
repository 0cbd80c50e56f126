"""ModelStreamInfer: many requests under way on one stream, answered as they are done.

A request that fails is answered with `error_message` and the stream goes on; with the metadata
`triton_grpc_error: true` the stream ends with the request's status instead, as Triton does.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import grpc
from tritonclient.grpc import service_pb2 as pb

from gearshift.http2 import Stream
from gearshift.rpc import wire
from gearshift.rpc.answers import varint
from gearshift.rpc.calls import MAX_MESSAGE, Responder, only_message, split_messages
from gearshift.rpc.infer import Inferences
from gearshift.rpc.status import code_and_message, ending
from gearshift.rpc.wire import Call, WireError

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

    __slots__ = ("_buffer", "_ended", "_inferences", "_numbers", "_owed", "_strict", "_under_way")

    def __init__(self, stream: Stream, call: Call, inferences: Inferences) -> None:
        super().__init__(stream, call)
        self._inferences = inferences
        self._buffer = bytearray()
        self._ended = False
        self._owed = 0
        self._numbers = 0
        self._under_way: dict[int, Callable[[], None]] = {}
        self._strict = ("triton_grpc_error", "true") in call.metadata

    def data(self, payload: bytes, *, ended: bool) -> None:
        self._buffer += payload
        self._owed += len(payload)
        self._ended = ended
        try:
            for whole in split_messages(self._buffer, MAX_MESSAGE):
                self._stream.taken(min(len(whole), self._stream.held))
                self._ask(only_message(self.call, whole))
            if ended and self._buffer:
                raise WireError(grpc.StatusCode.INTERNAL, "the last message is cut short")
        except WireError as error:
            self._end(error.code, str(error))
            return
        self._go_on()

    def _ask(self, message: bytes) -> None:
        if not self._stream.open:
            return
        self._numbers += 1
        number = self._numbers
        asker = _StreamAsker(self, number)
        arrival = time.monotonic()
        left = self.call.timeout - (arrival - self.arrival)
        leave = self._inferences.begin(message, arrival, max(0.0, left), asker)
        if leave is not None and not asker.done:
            self._under_way[number] = leave

    def settled(self, number: int, body: bytes) -> None:
        """The request `number` of this stream has its answer."""
        self._under_way.pop(number, None)
        if self._stream.open:
            self.begin()
            self._stream.send(wire.framed(body))
            self._go_on()

    def failed(self, number: int, error: Exception, request_id: str) -> None:
        if self._strict:
            self._under_way.pop(number, None)
            self._end(*ending(error))
            return
        _, text = code_and_message(error)
        response = pb.ModelStreamInferResponse(error_message=text)
        response.infer_response.id = request_id
        response.infer_response.parameters["triton_final_response"].bool_param = True
        self.settled(number, response.SerializeToString())

    def _go_on(self) -> None:
        """Let the caller send more, or end when all is said."""
        if len(self._under_way) < MOST_UNDER_WAY and not self._stream.waiting:
            owed, self._owed = self._owed, 0
            self._stream.more(owed)
        if self._ended and not self._under_way and self._stream.open:
            self.begin()
            self._stream.finish(wire.OK_TRAILERS)

    def _end(self, code: grpc.StatusCode, text: str, metadata: wire.Metadata = ()) -> None:
        self.fail(code, text, metadata)
        self.cancelled()

    def cancelled(self) -> None:
        under_way, self._under_way = self._under_way, {}
        for leave in under_way.values():
            leave()


class _StreamAsker:
    __slots__ = ("_number", "_stream", "done")

    def __init__(self, stream: InferStream, number: int) -> None:
        self._stream = stream
        self._number = number
        self.done = False

    def answered(self, message: bytes) -> None:
        self.done = True
        size = varint(len(message) + len(_FINAL))
        self._stream.settled(self._number, b"".join((_RESPONSE, size, message, _FINAL)))

    def failed(self, error: Exception, request_id: str) -> None:
        self.done = True
        self._stream.failed(self._number, error, request_id)
