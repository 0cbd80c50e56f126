"""Who listens to the engine and counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from gearshift.ports.events import Answered, Ran, Settled


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

    def prepared(self, model: str, seconds: float) -> None:
        """The model's steps have made the inputs of a request, which took so long."""

    def statistics(self, model: str, version: int) -> VariantStatistics:
        """What has been counted for one variant since the start; zeros if nothing yet."""
