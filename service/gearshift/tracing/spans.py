"""Finished spans, handed over to be sent.

They are made as the SDK's `ReadableSpan` at once and not by its tracer: when a request is over,
all times are known, and a started span with its locks and limits costs ten times as much on the
thread that serves. What is sampled, which ids there are and who sends is the SDK's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from gearshift import __version__
from gearshift.ports import TraceIds

Attributes = Mapping[str, Any]

SAMPLED = TraceFlags(TraceFlags.SAMPLED)
UNSET = Status(StatusCode.UNSET)

Times = Callable[[float], int]
"""From seconds on the engine's clock to nanoseconds since the epoch."""


class Spans:
    """Makes the spans of one process."""

    def __init__(self, resource: Resource, processor: SpanProcessor) -> None:
        self.processor = processor
        self._resource = resource
        self._scope = InstrumentationScope("gearshift", __version__)
        self._ids = RandomIdGenerator()

    def new_trace(self) -> int:
        """The id of a trace that begins here."""
        return int(self._ids.generate_trace_id())

    def context(self, trace: int, state: Any = None) -> SpanContext:
        """Of a new span of this trace."""
        return SpanContext(trace, self._ids.generate_span_id(), False, SAMPLED, state)

    def child(self, parent: SpanContext) -> SpanContext:
        """Of a new span of the same trace."""
        return self.context(parent.trace_id, parent.trace_state)

    def write(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        times: tuple[int, int],
        attributes: Attributes,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        events: Sequence[tuple[str, int, Attributes]] = (),
        links: Sequence[SpanContext] = (),
        status: Status = UNSET,
    ) -> None:
        """A span that is over; times in nanoseconds since the epoch."""
        begin, end = times
        self.processor.on_end(
            ReadableSpan(
                name=name,
                context=context,
                parent=parent,
                resource=self._resource,
                attributes=attributes,
                events=[Event(what, told, timestamp=at) for what, at, told in events],
                links=[Link(other) for other in links],
                kind=kind,
                status=status,
                start_time=begin,
                end_time=max(begin, end),
                instrumentation_scope=self._scope,
            )
        )


def ids_of(context: SpanContext) -> TraceIds:
    """As they are written."""
    return TraceIds(f"{context.trace_id:032x}", f"{context.span_id:016x}")
