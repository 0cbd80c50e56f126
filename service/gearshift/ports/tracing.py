"""Requests that are traced: which, and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from gearshift.core.decisions import Dispatch
from gearshift.core.request import Ticket
from gearshift.core.rights import ANONYMOUS
from gearshift.errors import Ending
from gearshift.ports.executing import Worker


class TraceIds(NamedTuple):
    """What a span is found by, in hex digits (W3C Trace Context): 32 and 16 of them."""

    trace_id: str
    span_id: str


class TracedBatch(Protocol):
    """A batch with traced requests in it. Seconds on the engine's clock. Must not raise."""

    @property
    def ids(self) -> TraceIds:
        """Of the batch's own span, which links to its traced requests."""

    def ended(
        self, begun: float, assembled: float, finished: float, error: Exception | None
    ) -> None:
        """It has run, or `error` broke it. Told before its members are settled."""


class Trace(Protocol):
    """One request that is traced, told what becomes of it. Seconds on the engine's clock. Must
    neither raise nor block. `answered` or `failed` ends it."""

    @property
    def ids(self) -> TraceIds:
        """Of the span of the whole request."""

    def decoded(self, request_id: bytes, at: float) -> None:
        """It has been read; `request_id` is that of its answer."""

    def admitted(self, ticket: Ticket, at: float) -> None:
        """It waits now."""

    def went_on(self, ticket: Ticket, at: float) -> None:
        """The first variant of a cascade was not sure of `ticket.rows` of its rows, which wait
        for the second."""

    def again(self, ticket: Ticket, at: float) -> None:
        """Its run failed, or should be over; it waits for another variant."""

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
        """Its caller has the answer. `rows` of the whole batch; `queue` and `compute` as the
        caller is told them; settled, then written, at these times."""

    def failed(
        self, error: Exception, ending: Ending, at: float, ticket: Ticket | None = None
    ) -> None:
        """It ended without an answer; `ticket` is what it asked for, if it was never admitted
        and that is known."""


class Tracing(Protocol):
    """Decides which requests are traced. Must neither raise nor block."""

    by_model: bool
    """Whether `begin` must be told which model a request is for: to read that takes time."""

    def begin(
        self,
        method: str,
        metadata: Sequence[tuple[str, str | bytes]],
        arrival: float,
        received: float,
        client: str = ANONYMOUS,
        model: str = "",
    ) -> Trace | None:
        """One more request came, by a call of `method` (`package.Service/Method`) of `client` with
        this metadata, and is complete since `received`. None: it is not traced."""

    def dispatched(
        self,
        dispatch: Dispatch,
        worker: Worker,
        members: Sequence[tuple[Trace, Ticket]],
        at: float,
    ) -> TracedBatch | None:
        """A batch with these traced requests in it, one or more, leaves the queue. None if nothing
        is to be told of it."""
