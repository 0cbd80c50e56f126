"""Telemetry for Prometheus: listens to the engine's events and enters them into the ledger.

Events only change plain numbers in books that were opened when the catalog was loaded; no
lock is taken and no text is made until somebody asks for a page. All events come from one
thread, the pages are read from another.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from gearshift.core.catalog import Catalog, Model, Standing
from gearshift.core.profile import Profile
from gearshift.errors import Outcome
from gearshift.ports import Answered, BatchStatistics, Ran, Settled, VariantStatistics
from gearshift.telemetry.details import details
from gearshift.telemetry.distribution import twins
from gearshift.telemetry.exemplars import Exemplars, Kept, with_exemplars
from gearshift.telemetry.families import GearshiftCollector
from gearshift.telemetry.faults import FaultBook
from gearshift.telemetry.ledger import Ledger, VariantBook
from gearshift.telemetry.page import exposed, is_openmetrics
from gearshift.telemetry.preparing import PreparedBook
from gearshift.telemetry.refusals import Refusals
from gearshift.telemetry.triton import TritonCollector, reason_for

_REFUSED = frozenset({Outcome.SHED, Outcome.INFEASIBLE, Outcome.INVALID})


class PrometheusTelemetry:
    """Counts everything about the catalog that is served; fills `gearshift.ports.Telemetry`.

    The gearshift metrics are collected from `registry`, Triton's names from
    `triton_registry`; see `gearshift.telemetry.triton` for why they are two. `wall_clock`
    gives seconds since the epoch.
    """

    def __init__(
        self,
        catalog: Catalog,
        registry: CollectorRegistry | None = None,
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.registry = registry or CollectorRegistry()
        self.triton_registry = CollectorRegistry()
        self.catalog = catalog
        self._wall_clock = wall_clock
        self._ledger = Ledger(catalog)
        self._refusals = Refusals()
        self._exemplars = Exemplars()
        self._details = details(catalog)
        self.faults = FaultBook()
        self.faults.opens(catalog)
        self._prepared = PreparedBook()
        self._prepared.opens(catalog)
        self.registry.register(GearshiftCollector(self._ledger))
        self.registry.register(self.faults)
        self.registry.register(self._prepared)
        self.triton_registry.register(TritonCollector(self._ledger))

    # --- pages -------------------------------------------------------------------------

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The page of gearshift's own metrics, and its content type; `accept` is what the HTTP
        request says that it takes."""
        families = self.families()
        if is_openmetrics(accept):
            families = with_exemplars(families, self.exemplars())
        return exposed(families, accept)

    def exemplars(self) -> Kept:
        """The traced requests behind the buckets of the latency histograms."""
        return self._exemplars.kept()

    def triton_exposition(self) -> tuple[bytes, str]:
        """The page of Triton's metric names, and its content type."""
        return exposed(self.triton_registry.collect())

    def families(self) -> Iterable[Metric]:
        """The families of which `exposition` makes its page."""
        self._ledger.tidy(self._wall_clock())
        return self.registry.collect()

    def beside(self) -> dict[str, Any]:
        """What stands beside the figures: the catalog's details, the latest refusals."""
        return {"models": self._details, "refusals": self._refusals.latest()}

    def statistics(self, model: str, version: int) -> VariantStatistics:
        """The live figures of one variant; zeros for one that the catalog does not have."""
        book = self._ledger.versions.get((model, version))
        return VariantStatistics() if book is None else book.statistics

    def follow(self, catalog: Catalog) -> None:
        """Count for this catalog from now on. What stays goes on; what is gone is counted until
        `forget`, and shown for a while longer."""
        self.catalog = catalog
        self._details = details(catalog)
        self._ledger.follow(catalog)
        self.faults.opens(catalog)
        self._prepared.opens(catalog)

    def forget(self, model: Model) -> None:
        """Nothing of this generation is left: no event of it comes any more."""
        self._ledger.forget(model, self._wall_clock())
        if model.name not in self.catalog.models:
            self._exemplars.forget(model.name)
            self.faults.forget(model.name)
            self._prepared.forget(model.name)

    def profiled(self, profiles: Iterable[Profile]) -> None:
        """Show the latencies of these, in place of those shown of their models before: as measured
        offline, and as they are learned from then on, at the measured batch sizes."""
        owner = {id(book.variant): book for book in self._ledger.variants.values()}
        found = [
            (owner[id(profile.variant)], profile)
            for profile in profiles
            if id(profile.variant) in owner
        ]
        models = {book.model for book, _ in found}
        self._ledger.profiles = [
            *(each for each in self._ledger.profiles if each[0].model not in models),
            *found,
        ]
        for book, profile in found:
            # A rate is only right from the first run on if the series was there before it.
            book.busy.setdefault(profile.device, 0.0)

    def employs(self, devices: Iterable[str]) -> None:
        """Show that there are these workers, one device for each."""
        self._ledger.workers = Counter(devices)
        for device in self._ledger.workers:
            self.faults.employs(device)

    def learned(self, live: Mapping[tuple[str, str], float]) -> None:
        """Show these accuracies from feedback, by model and variant, in place of those shown
        before. Called on any thread."""
        self._ledger.live = dict(live)

    def stands(self, model: str, variant: str, standing: Standing) -> None:
        """Show that this is the variant's standing from now on."""
        self._ledger.standings[model, variant] = standing

    # --- events ------------------------------------------------------------------------

    def admitted(self, model: str, service_class: str) -> None:
        """A request joined the queue."""
        self._ledger.class_book(model, service_class).waiting += 1

    def dequeued(self, model: str, service_class: str, count: int) -> None:
        """`count` requests left the queue: dispatched, dropped or cancelled."""
        self._ledger.class_book(model, service_class).waiting -= count

    def ran(self, event: Ran) -> None:
        """One batch left its worker."""
        busy, device = self._ledger.busy, event.device
        worker = (event.worker, device)
        # Taking a batch apart happens when its worker already runs the next one.
        took = event.input + event.compute
        busy[worker] = busy.get(worker, 0.0) + took
        self._want(event.model, event.wanted)
        book = self._ledger.variants.get((event.model, event.variant))
        if book is None:
            return
        book.busy[device] = book.busy.get(device, 0.0) + took
        within = 0 if took <= event.p50 else 1 if took <= event.p99 else 2
        book.ended[3 if event.failed else within] += 1
        if event.failed:
            return
        book.compute.add(event.compute)
        book.rows.add(event.rows)
        if event.trace is not None:
            self._exemplars.ran(event, self._wall_clock())
        self._count_execution(event, book)

    def _count_execution(self, event: Ran, book: VariantBook) -> None:
        """In Triton's terms: every request counts the whole duration of its batch."""
        requests = event.requests
        statistics = book.statistics
        statistics.inferences += event.rows
        statistics.executions += 1
        statistics.last_inference_ms = int(self._wall_clock() * 1e3)
        statistics.queue.add(event.queue, requests)
        statistics.compute_input.add(event.input * requests, requests)
        statistics.compute_infer.add(event.compute * requests, requests)
        statistics.compute_output.add(event.output * requests, requests)
        book.input_us.add(event.input * 1e6, requests)
        book.infer_us.add(event.compute * 1e6, requests)
        book.output_us.add(event.output * 1e6, requests)
        batch = statistics.batches.get(event.rows)
        if batch is None:
            batch = statistics.batches[event.rows] = BatchStatistics()
        batch.compute_input.add(event.input)
        batch.compute_infer.add(event.compute)
        batch.compute_output.add(event.output)

    def answered(self, event: Answered) -> None:
        """Requests of one batch got their answers; their books are looked up once for all."""
        triton = self._ledger.versions[event.model, event.version]
        if event.cascade:
            key = (event.model, event.cascade, event.stage)
            self._ledger.cascades[key] += len(event.requests)
        for service_class in {served.service_class for served in event.requests}:
            self._answered(event, service_class, triton)

    def _answered(self, event: Answered, service_class: str, triton: VariantBook) -> None:
        book = self._ledger.class_book(event.model, service_class)
        requests = [each for each in event.requests if each.service_class == service_class]
        counts, count = self._ledger.requests, len(requests)
        late = sum([each.late for each in requests])
        for outcome, times in ((Outcome.SERVED, count - late), (Outcome.LATE, late)):
            if times:
                key = (event.model, event.variant, book.service_class, outcome)
                counts[key] = counts.get(key, 0) + times
        book.answered += count
        book.accuracy += event.accuracy * count
        book.deficit += event.deficit * count
        book.load_deficit += sum([each.load_deficit for each in requests])
        durations = [each.duration for each in requests]
        triton.statistics.success.add(sum(durations), count)
        twins(book.duration, triton.request_us, durations)
        twins(book.queue, triton.queue_us, [each.queue for each in requests])
        book.slack.add_all([each.slack for each in requests if each.slack < math.inf])
        if event.traced:
            self._exemplars.answered(event, book, self._wall_clock())

    def settled(self, event: Settled) -> None:
        """One request is over without an answer."""
        ledger = self._ledger
        outcome = event.outcome
        key = ledger.request_key(event.model, event.variant, event.service_class, outcome)
        ledger.requests[key] = ledger.requests.get(key, 0) + 1

        book = ledger.class_book(event.model, event.service_class)
        if outcome not in _REFUSED:
            book.duration.add(event.duration)
        if event.slack is not None:
            book.slack.add(event.slack)
        waited = outcome is Outcome.EXPIRED
        if waited:
            book.queue.add(event.duration)  # it did nothing but wait
        self._want(event.model, event.wanted)
        if event.trace is not None and outcome not in _REFUSED:
            self._exemplars.settled(event, book, self._wall_clock(), waited=waited)
        self._count_for_triton(event)
        self._refusals.add(event, self._wall_clock())

    def second_chance(self, model: str, variant: str, *, answered: bool) -> None:
        """A request that a variant had failed has got an answer after all, or not."""
        self.faults.second_chance(model, variant, answered=answered)

    def breaker(self, model: str, variant: str, state: int) -> None:
        """The state of a circuit breaker."""
        self.faults.breaker(model, variant, state)

    def breaker_opened(self, model: str, variant: str) -> None:
        """A variant is taken out."""
        self.faults.breaker_opened(model, variant)

    def worker_lost(self, device: str, reason: str) -> None:
        """A worker is lost."""
        self.faults.worker_lost(device, reason)

    def prepared(self, model: str, seconds: float) -> None:
        """The model's steps have made the inputs of a request."""
        self._prepared.prepared(model, seconds)

    def _want(self, model: str, seconds: float) -> None:
        if model in self._ledger.wanted:
            self._ledger.wanted[model] += seconds

    def _count_for_triton(self, event: Settled) -> None:
        ledger = self._ledger
        if event.model not in ledger.catalog.models:
            return
        book = ledger.versions.get((event.model, event.version))
        version = ""
        if book is not None:
            version = str(event.version)
            book.statistics.fail.add(event.duration)
        key = (event.model, version, reason_for(event.outcome))
        ledger.failures[key] = ledger.failures.get(key, 0) + 1
