"""Exemplars: for each bucket of the latency histograms the last traced request that fell into it.

Only OpenMetrics has a place for them, and only processes that trace have any. After the
OpenMetrics specification, 1.0: an exemplar's labels are together at most 128 characters.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.samples import Exemplar

from gearshift.ports import Answered, Ran, Settled, TraceIds
from gearshift.telemetry.distribution import SECONDS
from gearshift.telemetry.ledger import ClassBook

REQUEST = "gearshift_request_duration_seconds_bucket"
QUEUE = "gearshift_queue_duration_seconds_bucket"
COMPUTE = "gearshift_compute_duration_seconds_bucket"

Labels = tuple[tuple[str, str], ...]
"""Sorted by name, `le` among them."""

Kept = dict[tuple[str, Labels], Exemplar]

LE = (*(repr(float(bound)) for bound in SECONDS), "+Inf")


class Exemplars:
    """Those of one process: one thread adds, others may read. At most one a bucket."""

    def __init__(self) -> None:
        self._kept: Kept = {}

    def answered(self, event: Answered, book: ClassBook, at: float) -> None:
        """The traced requests of one class that were answered, `at` seconds since the epoch."""
        for served, ids in event.traced:
            if served.service_class == book.service_class:
                self._add(REQUEST, _by_class(book), served.duration, ids, at)
                self._add(QUEUE, _by_class(book), served.queue, ids, at)

    def settled(self, event: Settled, book: ClassBook, at: float, *, waited: bool) -> None:
        """One traced request is over without an answer; `waited`: it did nothing but wait."""
        if event.trace is not None:
            self._add(REQUEST, _by_class(book), event.duration, event.trace, at)
            if waited:
                self._add(QUEUE, _by_class(book), event.duration, event.trace, at)

    def ran(self, event: Ran, at: float) -> None:
        """A batch with traced requests in it: the span is its own."""
        if event.trace is not None:
            names = {"model": event.model, "variant": event.variant}
            self._add(COMPUTE, names, event.compute, event.trace, at)

    def _add(
        self, name: str, labels: Mapping[str, str], value: float, ids: TraceIds, at: float
    ) -> None:
        bucket = {**labels, "le": LE[bisect_left(SECONDS, value)]}
        self._kept[name, _sorted(bucket)] = Exemplar(ids._asdict(), value, at)

    def forget(self, model: str) -> None:
        """Keep none of this model."""
        for key in list(self._kept):
            if ("model", model) in key[1]:
                self._kept.pop(key, None)

    def kept(self) -> Kept:
        """Those of now."""
        return dict(list(self._kept.items()))


def _by_class(book: ClassBook) -> Mapping[str, str]:
    return {"model": book.model, "service_class": book.service_class}


def _sorted(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


def packed(kept: Kept) -> bytes:
    """As they go from one process to another."""
    return json.dumps([[name, labels, *one] for (name, labels), one in kept.items()]).encode()


def unpacked(bodies: Iterable[bytes]) -> Kept:
    """Those of several processes together: the latest of each bucket."""
    found: Kept = {}
    for body in bodies:
        for name, labels, told, value, at in json.loads(body):
            key = name, tuple((label, text) for label, text in labels)
            known = found.get(key)
            if known is None or _time(known) < at:
                found[key] = Exemplar(told, value, at)
    return found


def _time(exemplar: Exemplar) -> float:
    return -math.inf if exemplar.timestamp is None else float(exemplar.timestamp)


def with_exemplars(families: Iterable[Metric], kept: Kept) -> Iterator[Metric]:
    """The families, whose buckets have their exemplars."""
    names = {name for name, _ in kept}
    for family in families:
        if f"{family.name}_bucket" in names:
            family.samples = [_with(sample, kept) for sample in family.samples]
        yield family


def _with(sample: Any, kept: Kept) -> Any:
    found = kept.get((sample.name, _sorted(sample.labels)))
    return sample if found is None else sample._replace(exemplar=found)
