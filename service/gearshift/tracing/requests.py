"""Which requests are traced, and what is told of them: the adapter behind `ports.Tracing`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from opentelemetry.sdk.trace.sampling import (
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import SpanContext, SpanKind, get_current_span

from gearshift.core.decisions import Dispatch
from gearshift.core.request import Ticket
from gearshift.core.rights import ANONYMOUS
from gearshift.errors import Ending, ExecutorFailed, Outcome
from gearshift.ports import Trace, Worker
from gearshift.tracing.attributes import LONGEST, RPC, asked, micros, slack, status
from gearshift.tracing.batches import BatchTrace
from gearshift.tracing.callers import (
    NOBODY,
    Metadata,
    carried,
    clearly_not_sampled,
    context_of,
    unreadable,
)
from gearshift.tracing.exporting import Exporting
from gearshift.tracing.guard import harmless, tell
from gearshift.tracing.setup import Share
from gearshift.tracing.spans import Spans, Times, ids_of

LAST_EIGHT = TraceIdRatioBased.TRACE_ID_LIMIT


class Sampling(NamedTuple):
    """Who decides which requests are traced. `bound`: what the last eight bytes of a new trace's id
    are below if it is sampled, where callers with a trace decide themselves; None where only the
    sampler knows."""

    sampler: Sampler
    bound: int | None


def by_ratio(ratio: float) -> Sampling:
    """This share of the requests, beside those whose callers say so."""
    root = TraceIdRatioBased(ratio)
    return Sampling(ParentBased(root), root.bound)


class RequestTracing:
    """Fills `gearshift.ports.Tracing`."""

    def __init__(self, spans: Spans, sampling: Sampling, exporter: Exporting) -> None:
        self._spans = spans
        self._begun = sampling
        self._usual: Sampling | None = sampling
        """None: no request at all."""
        self._models: Mapping[str, Sampling | None] = {}
        self._exporter = exporter
        self.by_model = False

    def sample(self, share: Share, models: Mapping[str, Share]) -> None:
        """So from now on, and otherwise for requests for these models. On the loop."""
        self._usual = self._sampling(share)
        self._models = {name: self._sampling(each) for name, each in models.items()}
        self.by_model = bool(models)

    def _sampling(self, share: Share) -> Sampling | None:
        if not share.on:
            return None
        return self._begun if share.ratio is None else by_ratio(share.ratio)

    def begin(
        self,
        method: str,
        metadata: Metadata,
        arrival: float,
        received: float,
        client: str = ANONYMOUS,
        model: str = "",
    ) -> RequestTrace | None:
        """One more request; None if it is not sampled."""
        sampling = self._models.get(model, self._usual) if self.by_model else self._usual
        if sampling is None:
            return None
        sampler, bound = sampling
        try:
            carrier = carried(metadata)
            trace, context, parent = self._spans.new_trace(), NOBODY, None
            # Of most it is plain that they are none of the sample: the sampler would say the same,
            # ten times as slowly.
            if carrier:
                if bound is not None and clearly_not_sampled(carrier):
                    return None
                context = context_of(carrier)
                known = get_current_span(context).get_span_context()
                if known.is_valid:
                    parent, trace = known, known.trace_id
            elif bound is not None and trace & LAST_EIGHT >= bound:
                return None
            decision = sampler.should_sample(context, trace, method, SpanKind.SERVER, RPC)
            if not decision.decision.is_sampled():
                return None
            found = RequestTrace(self._spans, trace, parent, decision, method, arrival, received)
            found.tell("gearshift.client", None if client == ANONYMOUS else client)
            found.tell("user_agent.original", dict(metadata).get("user-agent"))
            if parent is None and carrier:
                found.tell("gearshift.unreadable_traceparent", unreadable(carrier) or None)
        except Exception as error:  # noqa: BLE001 - it is served whatever broke
            tell("begin", error)
            return None
        return found

    def dispatched(
        self,
        dispatch: Dispatch,
        worker: Worker,
        members: Sequence[tuple[Trace, Ticket]],
        at: float,
    ) -> BatchTrace | None:
        """These leave the queue together."""
        traces = [trace for trace, _ in members if isinstance(trace, RequestTrace)]
        try:
            batch = BatchTrace(self._spans, dispatch, worker, traces[0].times, at)
            batch.members = [trace.dispatched(batch, at) for trace in traces]
        except Exception as error:  # noqa: BLE001 - they run whatever broke
            tell("dispatched", error)
            return None
        return batch

    def close(self, within: float) -> None:
        """Send what is held, for at most so many seconds."""
        self._exporter.end(self._spans.processor, within)


class _Stage:
    """One wait and the run that ends it; in a cascade, or where a run failed, there may be two."""

    __slots__ = ("batch", "dispatched", "name", "queued", "run", "ticket", "went_on")

    def __init__(self, ticket: Ticket, queued: float, name: str = "first") -> None:
        self.name = name
        self.ticket = ticket
        self.queued = queued
        self.dispatched: float | None = None
        self.batch: BatchTrace | None = None
        self.run: SpanContext | None = None
        self.went_on = 0
        """Rows that the second variant is asked for as well."""


class RequestTrace:
    """One sampled request. Remembers its steps; the spans are written when it is over."""

    def __init__(
        self,
        spans: Spans,
        trace: int,
        parent: SpanContext | None,
        decision: SamplingResult,
        method: str,
        arrival: float,
        received: float,
    ) -> None:
        self.context = spans.context(trace, decision.trace_state)
        self.ids = ids_of(self.context)
        # Within a trace the clocks must not drift apart, over days they may.
        self.times: Times = _since(time.time_ns() - int(received * 1e9))
        self._spans = spans
        self._parent = parent
        self._method = method
        self._arrival = arrival
        self._received = received
        self._decoded = received
        self._stages: list[_Stage] = []
        self._events: list[tuple[str, float, dict[str, Any]]] = []
        self._attributes = {**RPC, "rpc.method": method, **(decision.attributes or {})}

    def tell(self, name: str, value: Any) -> None:
        """One attribute more of the request, if there is a value."""
        if value is not None:
            self._attributes[name] = value

    @harmless
    def decoded(self, request_id: bytes, at: float) -> None:
        """It has been read."""
        self._decoded = at
        self.tell("gearshift.request_id", request_id.decode(errors="replace") or None)

    @harmless
    def admitted(self, ticket: Ticket, at: float) -> None:
        """It waits now."""
        self._attributes |= asked(ticket)
        self._events.append(("admitted", at, {}))
        self._stages.append(_Stage(ticket, at))

    @harmless
    def went_on(self, ticket: Ticket, at: float) -> None:
        """Some of its rows wait for the second variant of a cascade."""
        self._stages[-1].went_on = ticket.rows
        self._stages.append(_Stage(ticket, at, "then"))

    @harmless
    def again(self, ticket: Ticket, at: float) -> None:
        """Its run failed; it waits for another variant."""
        self._events.append(("second_chance", at, {"gearshift.failed": ticket.without or ""}))
        self._stages.append(_Stage(ticket, at, "again"))

    def dispatched(self, batch: BatchTrace, at: float) -> SpanContext:
        """It runs now; returns the span of that."""
        stage = self._stages[-1]
        stage.dispatched, stage.batch = at, batch
        stage.run = self._spans.child(self.context)
        return stage.run

    @harmless
    def answered(
        self,
        *,
        variant: str,
        accuracy: float,
        reason: str,
        cascade: str,
        rows: int,
        queue: float,
        compute: float,
        late: bool,
        settled: float,
        encoded: float,
    ) -> None:
        """Its caller has the answer: write all that is known."""
        self._attributes |= {
            "gearshift.outcome": str(Outcome.LATE if late else Outcome.SERVED),
            "gearshift.variant": variant,
            "gearshift.accuracy": accuracy,
            "gearshift.reason": str(reason),
            "gearshift.batch.rows": rows,
            "gearshift.queue_us": micros(queue),
            "gearshift.compute_us": micros(compute),
        }
        self.tell("gearshift.cascade", cascade or None)
        self._events.append(("settled", settled, {}))
        self._write("OK", "", encoded, settled)
        self._child("encode", settled, encoded, {})

    @harmless
    def failed(
        self, error: Exception, ending: Ending, at: float, ticket: Ticket | None = None
    ) -> None:
        """It ended without an answer: write all that is known."""
        message = str(error)[:LONGEST]
        if ticket is not None:
            self._attributes |= asked(ticket)
        self._attributes |= {
            "gearshift.outcome": str(ending.outcome),
            "gearshift.message": message,
        }
        if isinstance(error, ExecutorFailed):
            self.tell("gearshift.reference", error.reference or None)
        self._events.append(("settled" if self._stages else "refused", at, {}))
        self._write(ending.status, message, at, at)

    def _write(self, code: str, message: str, end: float, settled: float) -> None:
        times = self.times
        self._attributes["rpc.response.status_code"] = code
        told = status(code, message)
        if not told.is_unset:
            self._attributes["error.type"] = code
        self._child("decode", self._received, self._decoded, {})
        ends = [*[stage.queued for stage in self._stages[1:]], settled]
        for stage, until in zip(self._stages, ends, strict=False):
            self._write_stage(stage, until)
        self._spans.write(
            self._method,
            self.context,
            self._parent,
            (times(self._arrival), times(end)),
            self._attributes,
            kind=SpanKind.SERVER,
            events=[
                ("received", times(self._received), {}),
                *((name, times(at), about) for name, at, about in self._events),
            ],
            status=told,
        )

    def _write_stage(self, stage: _Stage, until: float) -> None:
        """`until` is when it was over at the latest: settled, or another one began."""
        about = {"gearshift.stage": stage.name} if self._staged else {}
        if stage.dispatched is None or stage.batch is None or stage.run is None:
            self._child("queue", stage.queued, until, about)
            return
        batch, times = stage.batch, self.times
        over = batch.begun is not None
        begun = stage.dispatched if batch.begun is None else batch.begun
        self._child("queue", stage.queued, begun, about)
        attributes = {**batch.attributes, **slack(stage.ticket, stage.dispatched), **about}
        if stage.went_on:
            attributes["gearshift.unsure_rows"] = stage.went_on
        self._spans.write(
            "run",
            stage.run,
            self.context,
            # Who has left, or was too late, does not wait for the end of the run.
            (times(begun), times(min(batch.finished, until) if over else until)),
            attributes,
            events=[("assembled", times(batch.assembled), {})] if over else [],
            links=[batch.context],
        )

    @property
    def _staged(self) -> bool:
        return len(self._stages) > 1

    def _child(self, name: str, begin: float, end: float, attributes: dict[str, Any]) -> None:
        times, context = self.times, self._spans.child(self.context)
        self._spans.write(name, context, self.context, (times(begin), times(end)), attributes)


def _since(offset: int) -> Times:
    return lambda at: offset + int(at * 1e9)
