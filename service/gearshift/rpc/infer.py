"""From a ModelInferRequest's bytes to the engine and back, for unary calls and for streams."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any, NamedTuple, Protocol

from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb

from gearshift.core.catalog import Catalog, Model
from gearshift.core.request import LONGEST_BUDGET, Request, Ticket
from gearshift.core.rights import ANONYMOUS, Rights
from gearshift.engine import SOMEBODY, Answer, Caller, Engine, Flight, Reply, of_request
from gearshift.errors import (
    Cancelled,
    InvalidInput,
    QuotaExceeded,
    RequestError,
    TooMany,
    ending_of,
)
from gearshift.http2 import Stream
from gearshift.ports import Tensors, Trace
from gearshift.rpc import codec, wire
from gearshift.rpc.answers import AnswerWriter
from gearshift.rpc.calls import UnaryCall
from gearshift.rpc.classes import Wanted
from gearshift.rpc.entries import check_entries
from gearshift.rpc.permitted import model_for
from gearshift.rpc.preparing import Preparation, Preparer, Taken
from gearshift.rpc.shapes import Shapes, model_of
from gearshift.rpc.shared_memory import Place, SharedMemory
from gearshift.rpc.status import ending, expected
from gearshift.rpc.wire import Call


class Asker(Protocol):
    """Who gets the answer to one request. Neither may raise."""

    def answered(self, message: bytes) -> None:
        """The serialized ModelInferResponse."""
        ...

    def failed(self, error: Exception, request_id: str) -> None: ...


Learn = Callable[[Model, Request, Tensors], None]
"""Remembers what a request of some bytes says."""


class Asked(NamedTuple):
    """One request that has been parsed, and who waits for its answer."""

    parsed: Any
    arrival: float
    remaining: float
    rights: Rights
    asker: Asker
    trace: Trace | None
    caller: Caller


LONGEST_REST = 0.05
"""Seconds that a connection whose client sends too much is not read from at a time: other calls
on it, such as health checks, must not wait long."""

NOWHERE: Mapping[str, Place] = {}
"""No output is wanted in shared memory."""

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
UNARY, STREAM = f"{SERVICE}/ModelInfer", f"{SERVICE}/ModelStreamInfer"
"""The two methods, as traces name them."""


class Inferences:
    """Takes requests for all models of one engine."""

    def __init__(self, engine: Engine, memory: SharedMemory, preparer: Preparer) -> None:
        self._engine = engine
        self._preparer = preparer
        self._memory = memory
        self._doorkeeper = engine.doorkeeper
        self.tracing = engine.traced.tracing
        """Says which requests are traced, if any may be."""
        self._writers: dict[str, AnswerWriter] = {}
        self._generations: dict[str, int] = {}
        self.follow(engine.catalog)
        # Unique among processes and restarts, and cheaper than a random one for each answer.
        self._prefix = uuid.uuid4().hex.encode()
        self._numbers = count(1)

    def follow(self, catalog: Catalog) -> None:
        """Write what is admitted from now on as this catalog has it; who waits already is answered
        by the writer of the generation that took him in."""
        before, generations = self._writers, self._generations
        self._writers = {
            name: before[name] if generations.get(name) == model.generation else AnswerWriter(model)
            for name, model in catalog.models.items()
        }
        self._generations = {name: model.generation for name, model in catalog.models.items()}

    def begin(
        self,
        message: bytes,
        arrival: float,
        remaining: float,
        rights: Rights,
        shapes: Shapes,
        asker: Asker,
        trace: Trace | None = None,
        caller: Caller = SOMEBODY,
    ) -> Taken | None:
        """Take one request of `caller` in, who has these `rights` and waits for `remaining`
        seconds from `arrival` on; `shapes` are those of its connection.

        Returns what to abandon if the caller leaves; None if the request has failed already.
        """
        if remaining > LONGEST_BUDGET:
            remaining = math.inf
        if shapes.made_for is not self._writers:
            # A shape that was learned for another generation says nothing of this one.
            shapes.forget(self._writers)
        known = shapes.read(message, remaining)
        if known is None:
            return self._parse(message, arrival, remaining, rights, shapes, asker, trace, caller)
        model, request, wanted, request_id, inputs = known
        # Another client may have learned the shape on the same connection.
        if not rights.every_model and not rights.sees(model.name):
            return self._parse(message, arrival, remaining, rights, shapes, asker, trace, caller)
        writer = self._writers[model.name]
        named = request_id or self._new_id()
        reply = _reply(asker, writer, request_id, named, wanted, NOWHERE, trace)
        return self._submit(request, inputs, arrival, reply, named, trace, caller)

    def refuse(self, message: bytes, arrival: float, error: RequestError, asker: Asker) -> None:
        """Answer one request with what it is refused for, unread but for its id and model."""
        name = request_id = ""
        with suppress(DecodeError, InvalidInput):
            check_entries(message)
            parsed = pb.ModelInferRequest.FromString(message)
            name, request_id = parsed.model_name, parsed.id
        self._engine.refused(error, arrival, name)
        asker.failed(error, request_id)

    def _parse(
        self,
        message: bytes,
        arrival: float,
        remaining: float,
        rights: Rights,
        shapes: Shapes,
        asker: Asker,
        trace: Trace | None,
        caller: Caller,
    ) -> Taken | None:
        """The same for a request of which nothing is known."""
        engine = self._engine
        try:
            check_entries(message)
            parsed = pb.ModelInferRequest.FromString(message)
        except (DecodeError, InvalidInput) as problem:
            error = InvalidInput("the message is not a ModelInferRequest")
            if isinstance(problem, InvalidInput):
                error = problem
            engine.refused(error, arrival, trace=trace)
            asker.failed(error, "")
            return None
        asked = Asked(parsed, arrival, remaining, rights, asker, trace, caller)
        learn = partial(shapes.learn, message, parsed)
        return self._take(asked, learn)

    def _take(self, asked: Asked, learn: Learn | None = None) -> Taken | None:
        """The same for one that has been parsed. `learn` is told what it says, unless its inputs
        are still to be made."""
        parsed = asked.parsed
        try:
            model = model_for(asked.rights, self._engine.catalog, parsed.model_name)
            memory = self._memory.of(asked.rights.client)
            request, inputs, places = codec.decode(parsed, model, asked.remaining, memory)
            wanted = codec.wanted_of(parsed, model, request.rows)
            if model.prepares(inputs):
                ticket = self._engine.foresee(request, asked.arrival, asked.caller)
                done = partial(self._prepared, asked, model, request, wanted, places)
                failed = partial(self._not_prepared, asked, ticket)
                try:
                    return self._preparer.begin(model, inputs, ticket, done, failed)
                except Exception:
                    self._engine.comes()
                    raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a status
            self._failed(asked, None, error)
            return None
        if learn is not None:
            learn(model, request, inputs)
        return self._admit(asked, model, request, inputs, wanted, places)

    def _prepared(
        self,
        asked: Asked,
        model: Model,
        request: Request,
        wanted: Sequence[Wanted],
        places: Mapping[str, Place],
        inputs: Tensors,
        seconds: float,
    ) -> Taken | None:
        """The model's steps have made the inputs of a request, in so many `seconds`."""
        self._engine.comes()
        self._engine.telemetry.prepared(model.name, seconds)
        now = self._engine.catalog.models.get(model.name)
        if now is None or now.generation != model.generation:
            # The steps that made them, and the network they are for, are served no more.
            return self._take(asked)
        return self._admit(asked, model, request, inputs, wanted, places, seconds)

    def _admit(
        self,
        asked: Asked,
        model: Model,
        request: Request,
        inputs: Tensors,
        wanted: Sequence[Wanted],
        places: Mapping[str, Place],
        prepared: float | None = None,
    ) -> Flight | None:
        request_id, trace = asked.parsed.id.encode(), asked.trace
        named = request_id or self._new_id()
        writer = self._writers[model.name]
        reply = _reply(asked.asker, writer, request_id, named, wanted, places, trace, prepared)
        foreseen = prepared is not None
        return self._submit(
            request, inputs, asked.arrival, reply, named, trace, asked.caller, foreseen=foreseen
        )

    def _not_prepared(self, asked: Asked, ticket: Ticket, error: Exception) -> None:
        """The model's steps have not made them, and never will."""
        self._engine.comes()
        self._failed(asked, ticket, error)

    def _failed(self, asked: Asked, ticket: Ticket | None, error: Exception) -> None:
        """A request ends before it is admitted; `ticket` is what it asked for, if that is known."""
        parsed, trace, named = asked.parsed, asked.trace, asked.parsed.id.encode()
        if trace is not None:
            trace.decoded(named, self._engine.clock.now())
        if isinstance(error, RequestError):
            self._engine.refused(error, asked.arrival, parsed.model_name, ticket, trace=trace)
        if not isinstance(error, Cancelled):
            asked.asker.failed(self._told(error, named, trace), parsed.id)

    def _submit(
        self,
        request: Request,
        inputs: Tensors,
        arrival: float,
        reply: Reply,
        named: bytes,
        trace: Trace | None,
        caller: Caller,
        *,
        foreseen: bool = False,
    ) -> Flight | None:
        if trace is not None:
            trace.decoded(named, self._engine.clock.now())
        try:
            return self._engine.submit(
                request, inputs, arrival, reply, named, trace, caller, foreseen=foreseen
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a status
            reply(self._told(error, named, trace))
            return None

    def _told(self, error: Exception, named: bytes, trace: Trace | None) -> RequestError:
        """What the caller hears of it. What is no RequestError the engine has not counted, and
        the trace has not heard of."""
        known = expected(error, **of_request(named, None if trace is None else trace.ids))
        if trace is not None and known is not error:
            trace.failed(known, ending_of(known), self._engine.clock.now())
        return known

    def turns_away(self, stream: Stream, call: Call, rights: Rights) -> bool:
        """Whether a call is refused unread."""
        doorkeeper = self._doorkeeper
        caller = self.caller_of(call, rights)
        if doorkeeper.quotas is not None:
            stream.used_by(caller.client)
        refused = doorkeeper.turn_away(caller)
        if refused is None:
            return False
        self._engine.refused(refused, stream.received)
        stream.finish(wire.trailers_only(*ending(refused)))
        self.let_rest(stream, refused)
        return True

    def let_rest(self, stream: Stream, refused: RequestError) -> None:
        """Who goes on sending over its quota, or with too many requests under way, is not read from
        for a moment: refusing, too, takes time from those who are served."""
        if isinstance(refused, QuotaExceeded | TooMany):
            stream.rest(min(refused.retry_after, LONGEST_REST))

    def turned_away(self, caller: Caller) -> RequestError | None:
        """The same for one request of a stream: what it hears, and is counted as by `refuse`."""
        return self._doorkeeper.turn_away(caller)

    def caller_of(self, call: Call, rights: Rights) -> Caller:
        """Who asks: who has proved it, or who the metadata that the quotas go by says it is."""
        client, attempts = rights.client, call.attempts
        key = self._doorkeeper.identity
        if key and client == ANONYMOUS:
            for name, value in call.metadata:
                if name == key and isinstance(value, str):
                    client = value
        if client == ANONYMOUS and not attempts:
            return SOMEBODY
        return Caller(client, attempts)

    def _new_id(self) -> bytes:
        return b"%s-%x" % (self._prefix, next(self._numbers))

    def abandon(self, taken: Taken) -> None:
        """Its caller has left."""
        now: Taken | None = taken
        while isinstance(now, Preparation):
            if self._preparer.leave(now):
                now.failed(Cancelled("the caller left"))
                return
            now = now.became
        if now is not None:
            self._engine.abandon(now)

    def unary(self, call: UnaryCall, message: bytes) -> Callable[[], None] | None:
        """ModelInfer, without a task for each call."""
        asker = _UnaryAsker(call)
        arrival, trace = call.arrival, None
        if self.tracing is not None:
            now = self._engine.clock.now()
            model = model_of(message) if self.tracing.by_model else ""
            metadata = call.call.metadata
            trace = self.tracing.begin(UNARY, metadata, arrival, now, call.client, model)
        taken = self.begin(
            message,
            arrival,
            call.call.timeout,
            call.rights,
            call.shapes,
            asker,
            trace,
            self.caller_of(call.call, call.rights),
        )
        return None if taken is None else partial(self.abandon, taken)


def _reply(
    asker: Asker,
    writer: AnswerWriter,
    request_id: bytes,
    named: bytes,
    wanted: Sequence[Wanted],
    places: Mapping[str, Place],
    trace: Trace | None,
    prepared: float | None = None,
) -> Reply:
    """`request_id` is the caller's, `named` that of the answer; `prepared` as for the writer."""

    def reply(ending: Answer | Exception) -> Exception | None:
        problem: Exception
        if isinstance(ending, Answer):
            try:
                written = writer.write(named, wanted, ending, places, prepared)
            except Exception as error:  # noqa: BLE001 - as above
                ids = None if trace is None else trace.ids
                problem = expected(error, **of_request(named, ids))
            else:
                asker.answered(written)
                return None
        else:
            problem = ending
        asker.failed(problem, request_id.decode())
        return problem

    return reply


class _UnaryAsker:
    __slots__ = ("_call", "answered")

    def __init__(self, call: UnaryCall) -> None:
        self._call = call
        self.answered = call.reply

    def failed(self, error: Exception, request_id: str) -> None:
        self._call.fail(*ending(error))
