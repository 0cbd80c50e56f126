"""The few protocols that adapters fill: a clock, what runs artifacts, what listens.

The engine knows the outside only through these. Tensors appear here and in the adapters,
never in the core.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from gearshift.core.catalog import Model, Signature, Variant
from gearshift.core.decisions import Dispatch
from gearshift.core.reports import Report, Result
from gearshift.core.request import Ticket
from gearshift.errors import Ending, Outcome

Array = npt.NDArray[Any]
Tensors = Mapping[str, Array]
"""Arrays by tensor name, each (rows, *shape) in the datatype of its TensorSpec."""

BYTES = np.dtype(object)
"""The datatype BYTES travels as an object array of `bytes`."""


class Timer(Protocol):
    """A call that was planned and can be called off."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Monotonic time in seconds; an event loop on the server, virtual in tests."""

    def now(self) -> float: ...

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer: ...


EXPRESS = "express"
"""The device of a worker beside those that have a core each, for runs of less than about a
millisecond. They fit in between, on whichever core the caller is (`Executor.run_here`), and nobody
with a budget of ten has to wait for a longer run to end."""

SHORT = 0.001
"""Seconds: the longest median of a batch that runs on the express worker."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One thing that runs one batch at a time: its number and the device it stands for."""

    id: int
    device: str


class Executor(Protocol):
    """Runs variants' artifacts. One call to `run` per worker at a time.

    `inspect`, `load`, `unload` and `close` may block; `run` may not.
    """

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that this executor runs on here, such as `cpu`."""

    @property
    def identity(self) -> str:
        """Library, version and providers: a change of it makes old profiles worthless."""

    def inspect(self, artifact: str) -> Signature:
        """The signature of an artifact; ValueError with a sentence if it cannot be served."""

    def load(self, model: Model, variant: Variant) -> None:
        """Make the variant ready to run, beside that of another generation of the model; ValueError
        with a sentence if that fails."""

    def unload(self, model: Model, variant: Variant) -> None:
        """Give back what this variant of this generation holds; it is not run again."""

    async def run(self, worker: Worker, model: Model, variant: Variant, inputs: Tensors) -> Tensors:
        """Run one batch. Raises ExecutorUnavailable if the backend is down, WorkerLost if the
        worker is gone, or whatever broke. A run that hangs is cancelled: that must end this call
        at once, whatever becomes of the run."""

    def run_here(self, model: Model, variant: Variant, inputs: Tensors) -> Tensors:
        """The same at once, on the caller's thread, for the express worker."""

    async def replace(self, worker: Worker) -> None:
        """The worker is lost: it hangs, and its run was cancelled, or it is gone. Returns when
        `run` may be called for it again; what it still does, if anything, is nobody's. Raises
        what keeps it from that; it is then tried again later."""

    @property
    def stuck(self) -> int:
        """Runs given up that still hold a thread and what they need, because nothing can end
        them."""

    def close(self) -> None:
        """Give everything back; `run` is not called again."""


class TraceIds(NamedTuple):
    """What a span is found by, in hex digits (W3C Trace Context): 32 and 16 of them."""

    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """One request is over without an answer. Times in seconds.

    `model` and `service_class` are names from the catalog or "" (a caller's unknown name
    never becomes a label). `variant` is who ran it or was pinned, "" if none; `version`
    its number, 0 if none. `slack` is deadline minus settling time, None without a deadline.
    `message` is what the caller reads, and may quote what the caller sent. `wanted`: worker
    seconds that it would have cost on an idle server, of one that was refused or dropped for load.
    """

    model: str
    service_class: str
    variant: str
    version: int
    outcome: Outcome
    status: str
    duration: float
    slack: float | None = None
    message: str = ""
    wanted: float = 0.0
    trace: TraceIds | None = None
    """Of the request, where it is traced."""


class Served(NamedTuple):
    """One request that got its answer. Seconds; `slack` is infinite without a deadline.
    `load_deficit` is the part of its accuracy deficit that is for want of workers."""

    service_class: str
    late: bool
    duration: float
    queue: float
    slack: float
    load_deficit: float = 0.0


class Stage(StrEnum):
    """Who answers in a cascade: its first variant, its second, or the first for want of time."""

    FIRST = "first"
    THEN = "then"
    FALLBACK = "fallback"


@dataclass(frozen=True, slots=True)
class Answered:
    """The requests of one batch that got their answers. Names are the catalog's; `deficit` is
    the model's best accuracy minus that of this variant."""

    model: str
    variant: str
    version: int
    accuracy: float
    deficit: float
    requests: Sequence[Served]
    cascade: str = ""
    """The one that they were answered through."""
    stage: Stage = Stage.FIRST
    traced: Sequence[tuple[Served, TraceIds]] = ()
    """Those of `requests` that are traced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One batch left its worker.

    Seconds: `queue` summed over its requests; `input`, `compute` and `output` once for the
    batch: assembling it, the worker's time, taking it apart. `failed` when it raised. `wanted`:
    worker seconds that its requests would have cost in what an idle server gives them.
    """

    model: str
    variant: str
    version: int
    worker: int
    device: str
    requests: int
    rows: int
    queue: float
    input: float
    compute: float
    output: float
    p50: float = math.inf
    p99: float = math.inf
    """What was predicted of `input` and `compute` together when the batch was dispatched;
    infinite where nothing was."""
    failed: bool = False
    wanted: float = 0.0
    trace: TraceIds | None = None
    """Of the batch, where a request in it is traced."""


class Row(NamedTuple):
    """One request of a batch: the id in its response, its class, its first row and how many.
    `fallback`: it was to go on to the second variant of a cascade, which was not in time."""

    request_id: bytes
    service_class: str
    first: int
    rows: int
    fallback: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """What was answered together. `inputs` and `outputs` hold the whole batch, each array
    (rows, *shape); `requests` says whose rows are whose, and may leave some out; `inputs` is empty
    where they are no longer at hand. `cascade` is
    the name of the one that they were answered through, "" for none."""

    model: Model
    variant: Variant
    cascade: str
    inputs: Tensors
    outputs: Tensors
    requests: Sequence[Row]


class Journal(Protocol):
    """Keeps what is needed to learn later how good the answers were. On the way of every
    request: must neither raise nor block, and do its work elsewhere."""

    def answered(self, batch: Batch) -> None:
        """These requests got these answers."""

    def shadowed(self, batch: Batch) -> None:
        """Requests answered before by a lesser variant, run again on the most accurate one."""


class Feedback(Protocol):
    """Takes what was true about earlier answers."""

    async def report(self, reports: Sequence[Report]) -> Sequence[Result]:
        """What became of each report, in order; what is counted is durable. FeedbackUnavailable
        if that cannot be said now; reporting the same again counts nothing twice."""


class Repository(Protocol):
    """Loads and unloads models while others are served. `who` asks stands in the audit log."""

    async def load(self, model: str, who: str) -> None:
        """Serve this model as it is on disk now. ModelNotFound if it has no folder, LoadFailed with
        every reason if it does not load; then nothing has changed. Overloaded if too many such
        orders wait, NotReady while starting or shutting down."""

    async def unload(self, model: str, who: str) -> None:
        """Serve this model no more; one that is not served stays so. Errors as above."""

    async def unserved(self) -> Mapping[str, str]:
        """The folders that are there and not served, and why not."""


@dataclass(slots=True)
class Tally:
    """How many, and how long together, in nanoseconds: Triton's StatisticDuration."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float, count: int = 1) -> None:
        """Count `count` occurrences that took `seconds` together."""
        self.count += count
        self.ns += round(seconds * 1e9)


@dataclass(slots=True)
class BatchStatistics:
    """Per execution at one batch size."""

    compute_input: Tally = field(default_factory=Tally)
    compute_infer: Tally = field(default_factory=Tally)
    compute_output: Tally = field(default_factory=Tally)


@dataclass(slots=True)
class VariantStatistics:
    """Cumulative figures of one variant with Triton's meaning (ModelStatistics).

    The tallies are per request, each request counting the whole duration of its batch;
    the three compute tallies always have one count. `inferences` sums rows, `executions`
    counts batches, `last_inference_ms` is wall-clock milliseconds since the epoch.
    """

    success: Tally = field(default_factory=Tally)
    fail: Tally = field(default_factory=Tally)
    queue: Tally = field(default_factory=Tally)
    compute_input: Tally = field(default_factory=Tally)
    compute_infer: Tally = field(default_factory=Tally)
    compute_output: Tally = field(default_factory=Tally)
    inferences: int = 0
    executions: int = 0
    last_inference_ms: int = 0
    batches: dict[int, BatchStatistics] = field(default_factory=dict)


class Telemetry(Protocol):
    """Listens to the engine; the one place where things are counted. Must not raise."""

    def admitted(self, model: str, service_class: str) -> None:
        """A request joined the queue."""

    def dequeued(self, model: str, service_class: str, count: int) -> None:
        """`count` requests left the queue: dispatched, dropped or cancelled."""

    def ran(self, event: Ran) -> None: ...

    def answered(self, event: Answered) -> None: ...

    def settled(self, event: Settled) -> None: ...

    def second_chance(self, model: str, variant: str, *, answered: bool) -> None:
        """A request that `variant` had failed ("" if it was no variant's fault) has got an answer
        after all, or not. Told beside how it ended."""

    def breaker(self, model: str, variant: str, state: int) -> None:
        """Its circuit breaker is now closed (0), half open (1) or open (2)."""

    def breaker_opened(self, model: str, variant: str) -> None:
        """It is taken out, because it keeps failing."""

    def worker_lost(self, device: str, reason: str) -> None:
        """A worker is lost: `hung` or `crashed`."""

    def statistics(self, model: str, version: int) -> VariantStatistics:
        """What has been counted for one variant since the start; zeros if nothing yet."""


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

    def begin(
        self,
        method: str,
        metadata: Sequence[tuple[str, str | bytes]],
        arrival: float,
        received: float,
    ) -> Trace | None:
        """One more request came, by a call of `method` (`package.Service/Method`) with this
        metadata, and is complete since `received`. None: it is not traced."""

    def dispatched(
        self,
        dispatch: Dispatch,
        worker: Worker,
        members: Sequence[tuple[Trace, Ticket]],
        at: float,
    ) -> TracedBatch | None:
        """A batch with these traced requests in it, one or more, leaves the queue. None if nothing
        is to be told of it."""
