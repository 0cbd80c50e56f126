"""From a ModelInferRequest's bytes to the engine and back, for unary calls and for streams."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Protocol

from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb

from gearshift.core.request import LONGEST_BUDGET
from gearshift.engine import Answer, Engine
from gearshift.errors import InvalidInput, RequestError
from gearshift.rpc import codec
from gearshift.rpc.answers import AnswerWriter
from gearshift.rpc.calls import UnaryCall
from gearshift.rpc.shared_memory import SharedMemory
from gearshift.rpc.status import ending


class Asker(Protocol):
    """Who gets the answer to one request. Neither may raise."""

    def answered(self, message: bytes) -> None:
        """The serialized ModelInferResponse."""
        ...

    def failed(self, error: Exception, request_id: str) -> None: ...


class Inferences:
    """Takes requests for all models of one engine."""

    def __init__(self, engine: Engine, memory: SharedMemory) -> None:
        self._engine = engine
        self._memory = memory
        self._writers = {name: AnswerWriter(model) for name, model in engine.catalog.models.items()}

    def begin(
        self, message: bytes, arrival: float, remaining: float, asker: Asker
    ) -> Callable[[], None] | None:
        """Take one request in, whose caller waits for `remaining` seconds from `arrival` on.

        Returns what to do if the caller leaves; None if the request has failed already.
        """
        engine = self._engine
        try:
            request = pb.ModelInferRequest.FromString(message)
        except DecodeError:
            error = InvalidInput("the message is not a ModelInferRequest")
            engine.refused(error, arrival)
            asker.failed(error, "")
            return None
        try:
            try:
                model = engine.catalog.model(request.model_name)
                writer = self._writers[model.name]
                decoded, inputs, places = codec.decode(
                    request,
                    model,
                    remaining if remaining <= LONGEST_BUDGET else math.inf,
                    self._memory,
                )
            except RequestError as error:
                engine.refused(error, arrival, request.model_name)
                raise

            def reply(answer: Answer | RequestError) -> None:
                if isinstance(answer, RequestError):
                    asker.failed(answer, request.id)
                    return
                try:
                    written = writer.write(request, answer, places)
                except Exception as error:  # noqa: BLE001 - as below
                    asker.failed(error, request.id)
                else:
                    asker.answered(written)

            flight = engine.submit(decoded, inputs, arrival, reply)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a status
            asker.failed(error, request.id)
            return None
        return partial(engine.abandon, flight)

    def unary(self, call: UnaryCall, message: bytes) -> Callable[[], None] | None:
        """ModelInfer, without a task for each call."""
        return self.begin(message, call.arrival, call.call.timeout, _UnaryAsker(call))


class _UnaryAsker:
    __slots__ = ("_call", "answered")

    def __init__(self, call: UnaryCall) -> None:
        self._call = call
        self.answered = call.reply

    def failed(self, error: Exception, request_id: str) -> None:
        self._call.fail(*ending(error))
