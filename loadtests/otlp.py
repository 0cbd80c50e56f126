"""A collector of OpenTelemetry traces: takes spans by OTLP over gRPC and keeps them."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as pb_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

WITHIN = 20.0


def value_of(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return getattr(value, kind) if kind else None


def plain(attributes: Any) -> dict[str, Any]:
    return {each.key: value_of(each.value) for each in attributes}


@dataclass(frozen=True)
class Span:
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    begin: int
    end: int
    attributes: dict[str, Any]
    events: dict[str, int]
    links: list[tuple[str, str]]
    kind: int
    failed: bool
    message: str
    state: str
    resource: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.attributes[f"gearshift.{name}"]


class Collector:
    """Listens on a free port until it is closed."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self._spans: list[Span] = []
        self._came = threading.Condition()
        self._server = grpc.server(ThreadPoolExecutor(2))
        pb_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the service's name
        spans = [
            span
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in (_read(each, plain(resource.resource.attributes)) for each in scope.spans)
        ]
        with self._came:
            self._spans += spans
            self.batches.append(len(spans))
            self._came.notify_all()
        return pb.ExportTraceServiceResponse()

    def spans(self, **wanted: Any) -> list[Span]:
        """Those that have come, with these attributes of gearshift's."""
        with self._came:
            return [
                span
                for span in self._spans
                if all(span.attributes.get(f"gearshift.{k}") == v for k, v in wanted.items())
            ]

    def roots(self, count: int, **wanted: Any) -> list[Span]:
        """So many spans of whole requests, as soon as they have come, in order of arrival."""
        deadline = time.monotonic() + WITHIN
        while True:
            found = [
                span
                for span in self.spans(**wanted)
                if span.kind == trace_pb2.Span.SpanKind.SPAN_KIND_SERVER
            ]
            if len(found) >= count:
                assert len(found) == count, [span.attributes for span in found]
                return sorted(found, key=lambda span: span.begin)
            with self._came:
                left = deadline - time.monotonic()
                assert left > 0, f"{len(found)} of {count} requests, {self._spans}"
                self._came.wait(min(left, 0.2))

    def children(self, span: Span) -> list[Span]:
        """In order of time."""
        found = [each for each in self.spans() if each.parent_id == span.span_id]
        return sorted(found, key=lambda each: (each.begin, each.end))

    def by_id(self, span_id: str) -> Span:
        return next(span for span in self.spans() if span.span_id == span_id)

    def close(self) -> None:
        self._server.stop(0).wait(WITHIN)


def _read(span: Any, resource: dict[str, Any]) -> Span:
    return Span(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        begin=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        attributes=plain(span.attributes),
        events={event.name: event.time_unix_nano for event in span.events},
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        kind=span.kind,
        failed=span.status.code == trace_pb2.Status.StatusCode.STATUS_CODE_ERROR,
        message=span.status.message,
        state=span.trace_state,
        resource=resource,
    )
