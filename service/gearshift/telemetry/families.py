"""The gearshift metrics, as families made from the ledger whenever a page is asked for.

A collector of our own and not prometheus_client's counters, for exact names and types:
`gearshift_served_accuracy_sum` is the `_sum` of a summary without quantiles (a counter of
that name would be renamed, and linters refuse it), and the latencies by quantile are a
summary, the one type to which the label `quantile` belongs.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from gearshift import __version__
from gearshift.core.catalog import Standing
from gearshift.telemetry.distribution import Distribution
from gearshift.telemetry.ledger import ENDED, ClassBook, Ledger, VariantBook

Labels = Mapping[str, str]

BY_CLASS = ("model", "service_class")
BY_VARIANT = ("model", "variant")


class GearshiftCollector(Collector):
    """Reads the ledger; safe while another thread writes it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def collect(self) -> Iterator[Metric]:
        ledger = self._ledger
        classes = [book for book in list(ledger.classes.values()) if book.shown]
        variants = list(ledger.variants.values())
        yield self._requests()
        yield from _by_class(classes)
        yield from _by_variant(variants, ledger.live)
        yield self._standings()
        yield from self._cascades()
        yield self._latencies()
        yield self._busy()
        yield from self._wanted()
        generation = GaugeMetricFamily(
            "gearshift_catalog_generation", "Number of the catalog that is being served."
        )
        generation.add_metric((), ledger.catalog.generation)
        yield generation
        build = GaugeMetricFamily(
            "gearshift_build_info",
            "Always 1; the labels say what is running.",
            labels=("version", "python"),
        )
        build.add_metric((__version__, platform.python_version()), 1)
        yield build

    def _requests(self) -> Metric:
        family = CounterMetricFamily(
            "gearshift_requests",
            "Requests by how they ended; every request is counted exactly once.",
            labels=("model", "variant", "service_class", "outcome"),
        )
        for key, count in list(self._ledger.requests.items()):
            family.add_metric(key, count)
        return family

    def _standings(self) -> Metric:
        family = GaugeMetricFamily(
            "gearshift_variant_standing",
            "1 for the standing that a variant has: serving, canary or withdrawn.",
            labels=(*BY_VARIANT, "standing"),
        )
        for names, standing in list(self._ledger.standings.items()):
            for each in Standing:
                family.add_metric((*names, each), float(each is standing))
        return family

    def _cascades(self) -> Iterator[Metric]:
        answers = CounterMetricFamily(
            "gearshift_cascade_answers",
            "Answers of a cascade: by its first variant, by its second (then), or by the first for"
            " want of time (fallback).",
            labels=("model", "cascade", "stage"),
        )
        accuracy = GaugeMetricFamily(
            "gearshift_cascade_accuracy",
            "Accuracy of a cascade as a whole, as measured on held-out data.",
            labels=("model", "cascade"),
        )
        share = GaugeMetricFamily(
            "gearshift_cascade_expected_share",
            "Share of a cascade's rows that go on to its second variant, on held-out data.",
            labels=("model", "cascade"),
        )
        for key, count in list(self._ledger.cascades.items()):
            answers.add_metric(key, count)
        for model in self._ledger.catalog.models.values():
            for cascade in model.cascades:
                accuracy.add_metric((model.name, cascade.name), cascade.accuracy)
                share.add_metric((model.name, cascade.name), cascade.escalated)
        yield from (answers, accuracy, share)

    def _latencies(self) -> Metric:
        family = SummaryMetricFamily(
            "gearshift_variant_latency_seconds",
            "Time of one batch, by batch size, on the variant's fastest device, as learned by now.",
        )
        fastest: dict[tuple[str, str, int], tuple[float, float]] = {}
        for book, profile in self._ledger.profiles:
            # The tables are replaced as a whole when something is learned.
            p50s, p99s = profile.p50s, profile.p99s
            for point in profile.points:
                if point.batch < len(p50s):
                    key = (book.model, book.variant.name, point.batch)
                    found = (p50s[point.batch], p99s[point.batch])
                    fastest[key] = min(found, fastest.get(key, found))
        for (model, variant, batch), seconds in fastest.items():
            labels = {"model": model, "variant": variant, "batch": str(batch)}
            for quantile, value in zip(("0.5", "0.99"), seconds, strict=True):
                family.add_sample(family.name, {**labels, "quantile": quantile}, value)
        return family

    def _busy(self) -> Metric:
        family = CounterMetricFamily(
            "gearshift_worker_busy_seconds",
            "Time that a worker spent on batches.",
            labels=("worker", "device"),
        )
        for (worker, device), seconds in list(self._ledger.busy.items()):
            family.add_metric((str(worker), device), seconds)
        return family

    def _wanted(self) -> Iterator[Metric]:
        seconds = CounterMetricFamily(
            "gearshift_wanted_worker_seconds",
            "Worker time that the requests would have cost had each got the best variant that its"
            " budget and floor allow on an idle server.",
            labels=("model",),
        )
        for model, wanted in list(self._ledger.wanted.items()):
            seconds.add_metric((model,), wanted)
        yield seconds
        workers = GaugeMetricFamily("gearshift_workers", "Workers there are.", labels=("device",))
        for device, count in self._ledger.workers.items():
            workers.add_metric((device,), count)
        yield workers


def _by_class(books: Iterable[ClassBook]) -> Iterator[Metric]:
    duration = HistogramMetricFamily(
        "gearshift_request_duration_seconds",
        "Time from arrival to the end of requests that were taken in; those refused at the"
        " door are not in it.",
    )
    queue = HistogramMetricFamily(
        "gearshift_queue_duration_seconds",
        "Time that answered and expired requests waited before they ran.",
    )
    slack = HistogramMetricFamily(
        "gearshift_slack_seconds",
        "Deadline minus the end of the request; negative is late. Has no sum: it could fall.",
    )
    accuracy = SummaryMetricFamily(
        "gearshift_served_accuracy",
        "Accuracy of the variants that answered, summed over the answers.",
        labels=BY_CLASS,
    )
    deficit = SummaryMetricFamily(
        "gearshift_accuracy_deficit",
        "The model's best accuracy minus that of the variant that answered, summed over the"
        " answers.",
        labels=BY_CLASS,
    )
    load = SummaryMetricFamily(
        "gearshift_load_deficit",
        "Accuracy of the best variant that an idle server would have given minus that of the one"
        " that answered, summed over the answers.",
        labels=BY_CLASS,
    )
    depth = GaugeMetricFamily(
        "gearshift_queue_depth", "Requests that wait for a worker.", labels=BY_CLASS
    )
    for book in books:
        values = (book.model, book.service_class)
        labels = dict(zip(BY_CLASS, values, strict=True))
        add_distribution(duration, labels, book.duration)
        add_distribution(queue, labels, book.queue)
        add_distribution(slack, labels, book.slack, with_sum=False)
        accuracy.add_metric(values, book.answered, book.accuracy)
        deficit.add_metric(values, book.answered, book.deficit)
        load.add_metric(values, book.answered, book.load_deficit)
        depth.add_metric(values, book.waiting)
    yield from (duration, queue, slack, accuracy, deficit, load, depth)


def _by_variant(
    books: Iterable[VariantBook], live: Mapping[tuple[str, str], float]
) -> Iterator[Metric]:
    compute = HistogramMetricFamily(
        "gearshift_compute_duration_seconds", "Time that a worker took for one batch."
    )
    rows = HistogramMetricFamily("gearshift_batch_size", "Rows in one batch.")
    runs = CounterMetricFamily(
        "gearshift_runs",
        "Batches that ran, by how they ended: failed, or by how long they took beside what was"
        " predicted when they were dispatched.",
        labels=(*BY_VARIANT, "ended"),
    )
    accuracy = GaugeMetricFamily(
        "gearshift_variant_accuracy",
        "Accuracy of a variant in its model's metric, and where the figure comes from.",
        labels=(*BY_VARIANT, "source"),
    )
    busy = CounterMetricFamily(
        "gearshift_variant_busy_seconds",
        "Time that workers spent on batches of a variant, failed ones included.",
        labels=(*BY_VARIANT, "device"),
    )
    size = GaugeMetricFamily(
        "gearshift_variant_artifact_bytes", "Size of a variant's artifact.", labels=BY_VARIANT
    )
    for book in books:
        variant = book.variant
        values = (book.model, variant.name)
        labels = dict(zip(BY_VARIANT, values, strict=True))
        add_distribution(compute, labels, book.compute)
        add_distribution(rows, labels, book.rows)
        for ended, count in zip(ENDED, book.ended, strict=True):
            runs.add_metric((*values, ended), count)
        for device, seconds in list(book.busy.items()):
            busy.add_metric((*values, device), seconds)
        accuracy.add_metric((*values, variant.source), variant.accuracy)
        if values in live:
            accuracy.add_metric((*values, "live"), live[values])
        size.add_metric(values, variant.artifact_bytes)
    yield from (compute, rows, runs, busy, accuracy, size)


def add_distribution(
    family: Metric, labels: Labels, distribution: Distribution, *, with_sum: bool = True
) -> None:
    """Add the samples of one histogram to its family.

    `with_sum=False` where values may be negative: a sum that falls looks like a restart.
    (HistogramMetricFamily's own method would then leave out the count as well.)
    """
    cumulative = distribution.cumulative()
    bounds = (*distribution.bounds, math.inf)
    for bound, count in zip(bounds, cumulative, strict=True):
        family.add_sample(
            f"{family.name}_bucket",
            {**labels, "le": "+Inf" if bound == math.inf else repr(float(bound))},
            count,
        )
    family.add_sample(f"{family.name}_count", dict(labels), cumulative[-1])
    if with_sum:
        family.add_sample(f"{family.name}_sum", dict(labels), distribution.total)
