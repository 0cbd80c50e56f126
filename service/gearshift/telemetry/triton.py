"""Triton's metric names with Triton's meaning, so that dashboards made for it show the truth.

They have a page of their own, `/metrics/triton`. `promtool check metrics` refuses every name
that ends in `_us`, whatever its type, and a page that it refuses cannot show that our own
metrics are right. The split also keeps the main page small for those who have no Triton.

Triton's counters have no `_total`, which Prometheus clients would append to any counter. So
they are exported as untyped: the samples and `rate()` over them are the same.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import (
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    UnknownMetricFamily,
)
from prometheus_client.registry import Collector

from gearshift.errors import Outcome
from gearshift.telemetry.families import add_distribution
from gearshift.telemetry.ledger import Ledger, VariantBook

LABELS = ("model", "version")

_REASONS = {
    Outcome.SHED: "REJECTED",
    Outcome.INFEASIBLE: "REJECTED",
    Outcome.EXPIRED: "REJECTED",
    Outcome.CANCELLED: "CANCELED",
    Outcome.FAILED: "BACKEND",
}


def reason_for(outcome: Outcome) -> str:
    """Triton's word for why a request failed."""
    return _REASONS.get(outcome, "OTHER")


class TritonCollector(Collector):
    """Reads the ledger; safe while another thread writes it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def collect(self) -> Iterator[Metric]:
        books = list(self._ledger.variants.values())
        yield from _counters(books)
        yield self._failures()
        yield self._pending()
        yield from _histograms(books)

    def _failures(self) -> Metric:
        family = UnknownMetricFamily(
            "nv_inference_request_failure",
            "Failed requests; version is empty when no variant had been chosen.",
            labels=(*LABELS, "reason"),
        )
        for key, count in list(self._ledger.failures.items()):
            family.add_metric(key, count)
        return family

    def _pending(self) -> Metric:
        """By model only: which variant will answer is decided at the end of the wait."""
        family = GaugeMetricFamily(
            "nv_inference_pending_request_count",
            "Requests that wait; version is empty because it is not chosen yet.",
            labels=LABELS,
        )
        waiting = dict.fromkeys(self._ledger.catalog.models, 0)
        for book in list(self._ledger.classes.values()):
            if book.model:
                waiting[book.model] = waiting.get(book.model, 0) + book.waiting
        for model, count in waiting.items():
            family.add_metric((model, ""), count)
        return family


def _counters(books: list[VariantBook]) -> Iterator[Metric]:
    def family(name: str, documentation: str) -> UnknownMetricFamily:
        return UnknownMetricFamily(f"nv_inference_{name}", documentation, labels=LABELS)

    success = family("request_success", "Answered requests.")
    count = family("count", "Inferences: rows of all executed batches.")
    executions = family("exec_count", "Executed batches.")
    request = family("request_duration_us", "Time of answered requests, together.")
    queue = family("queue_duration_us", "Time that requests waited, together.")
    stages = {
        stage: family(
            f"compute_{stage}_duration_us",
            f"Time of the stage {stage!r}; every request counts its whole batch's.",
        )
        for stage in ("input", "infer", "output")
    }
    for book in books:
        labels = (book.model, str(book.variant.version))
        statistics = book.statistics
        success.add_metric(labels, statistics.success.count)
        count.add_metric(labels, statistics.inferences)
        executions.add_metric(labels, statistics.executions)
        request.add_metric(labels, statistics.success.ns // 1000)
        queue.add_metric(labels, statistics.queue.ns // 1000)
        stages["input"].add_metric(labels, statistics.compute_input.ns // 1000)
        stages["infer"].add_metric(labels, statistics.compute_infer.ns // 1000)
        stages["output"].add_metric(labels, statistics.compute_output.ns // 1000)
    yield from (success, count, executions, request, queue, *stages.values())


def _histograms(books: list[VariantBook]) -> Iterator[Metric]:
    def family(stage: str) -> HistogramMetricFamily:
        return HistogramMetricFamily(
            f"nv_inference_{stage}_duration_histogram_us", f"Time per request: {stage}."
        )

    stages = ("request", "queue", "compute_input", "compute_infer", "compute_output")
    families = {stage: family(stage) for stage in stages}
    for book in books:
        labels = {"model": book.model, "version": str(book.variant.version)}
        add_distribution(families["request"], labels, book.request_us)
        add_distribution(families["queue"], labels, book.queue_us)
        add_distribution(families["compute_input"], labels, book.input_us)
        add_distribution(families["compute_infer"], labels, book.infer_us)
        add_distribution(families["compute_output"], labels, book.output_us)
    yield from families.values()
