"""The span of a batch: nobody's child, for it is shared by the traces of all its members.

It begins a trace of its own, always sampled, with links to the `run` spans of its traced members,
which link back (OpenTelemetry specification, links between spans).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.trace import SpanContext, Status, StatusCode

from gearshift.core.decisions import Dispatch
from gearshift.ports import Worker
from gearshift.tracing.attributes import LONGEST, micros
from gearshift.tracing.guard import harmless
from gearshift.tracing.spans import Spans, Times, ids_of

MOST_LINKS = 128
"""Links of one span (the SDK's limit)."""


class BatchTrace:
    """One batch under way. `begun` and what follows are None until it has run."""

    def __init__(
        self, spans: Spans, dispatch: Dispatch, worker: Worker, times: Times, at: float
    ) -> None:
        self.context = spans.context(spans.new_trace())
        self.ids = ids_of(self.context)
        self.begun: float | None = None
        self.assembled = self.finished = at
        self.members: Sequence[SpanContext] = ()
        """Their `run` spans."""
        self._spans = spans
        self._times = times
        runs = dispatch.profile.runs
        self.attributes: dict[str, Any] = {
            "gearshift.model": dispatch.model.name,
            "gearshift.variant": runs.variant.name,
            "gearshift.worker": worker.id,
            "gearshift.device": worker.device,
            "gearshift.batch.requests": len(dispatch.tickets),
            "gearshift.batch.rows": dispatch.rows,
            "gearshift.predicted_us": micros(runs.p50s[dispatch.rows]),
        }
        if dispatch.profile.cascade is not None:
            self.attributes["gearshift.cascade"] = dispatch.profile.cascade.name

    @harmless
    def ended(
        self, begun: float, assembled: float, finished: float, error: Exception | None
    ) -> None:
        """It has run, or `error` broke it."""
        self.begun, self.assembled, self.finished = begun, assembled, finished
        times = self._times
        status = Status(StatusCode.UNSET)
        if error is not None:
            status = Status(StatusCode.ERROR, str(error)[:LONGEST])
        self._spans.write(
            f"batch {self.attributes['gearshift.model']}",
            self.context,
            None,
            (times(begun), times(finished)),
            {**self.attributes, "gearshift.batch.traced_requests": len(self.members)},
            events=[("assembled", times(assembled), {})],
            links=self.members[:MOST_LINKS],
            status=status,
        )
