"""The frontier's snapshots, read from the very families of which /metrics is made."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import structlog
from prometheus_client.core import Metric

from gearshift.core.frontier import (
    STEP,
    ClassSnapshot,
    History,
    ModelSnapshot,
    Snapshot,
    Step,
    VariantSnapshot,
    View,
)

log = structlog.get_logger(__name__)

MAX_AGE = 0.2
"""Seconds: who asks sooner after another sees the same."""

SHARE = 0.01
"""Of a core's time, at most so much goes into watching while nobody looks."""

REST = 60.0
"""Seconds: the longest time between two looks."""

STOPPED_WITHIN = 5.0

Families = Callable[[], Iterable[Metric]]
"""The families of a metrics page; called on any thread, one at a time."""

_ANSWERED = frozenset({"served", "late"})


def snapshot(families: Iterable[Metric], at: float, wall: float) -> Snapshot:
    """What the families say at the moment `at` (seconds, only forward), `wall` since the epoch.

    Between two families other threads get their turn: whoever serves must not wait for all.
    """
    books: dict[str, _ModelBook] = {}
    for family in families:
        read = _READ.get(family.name)
        if read is not None:
            for sample in family.samples:
                model, value = sample.labels.get("model", ""), float(sample.value)
                if model and not math.isnan(value):
                    book = books.setdefault(model, _ModelBook())
                    read(book, sample.name, sample.labels, value)
        time.sleep(0)
    return Snapshot(at, wall, {name: book.closed() for name, book in books.items()})


class FrontierWatch:
    """Looks at the families every few seconds and remembers the last minutes, so that whoever
    comes knows them at once. Any thread may ask."""

    def __init__(
        self,
        families: Families,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._families = families
        self._clock = clock
        self._wall_clock = wall_clock
        self._history = History()
        self._looking = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="gearshift-frontier", daemon=True)

    def start(self) -> None:
        """Look from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOPPED_WITHIN)

    def view(self) -> View:
        """How things stand, not older than MAX_AGE seconds."""
        with self._looking:
            newest = self._history.newest
            if newest is None or self._clock() - newest.at > MAX_AGE:
                self._look()
            return self._history.view()

    def steps(self, model: str, service_class: str) -> list[Step]:
        """What became of a class in the last minutes, the oldest first."""
        with self._looking:
            return self._history.steps(model, service_class)

    def _look(self) -> None:
        self._history.add(snapshot(self._families(), self._clock(), self._wall_clock()))

    def _watch(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            spent = 0.0
            try:
                begun = time.thread_time()
                with self._looking:
                    self._look()
                spent = time.thread_time() - begun
            except Exception:
                # The next look may go well; that there is no page must not end who serves.
                log.exception("the frontier cannot be read")
            pause = min(max(STEP, spent / SHARE), REST)


Labels = dict[str, str]


@dataclass(slots=True)
class _ModelBook:
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    classes: dict[str, dict[str, Any]] = field(default_factory=dict)
    answered: dict[str, int] = field(default_factory=dict)

    def gear(self, labels: Labels) -> dict[str, Any]:
        """Of a variant, or of the cascade that the labels name instead."""
        return self.variants.setdefault(labels.get("variant") or labels["cascade"], {})

    def service_class(self, labels: Labels) -> dict[str, Any]:
        return self.classes.setdefault(labels["service_class"], {"ended": {}})

    def closed(self) -> ModelSnapshot:
        made = {}
        for name, known in self.variants.items():
            if "declared" not in known:
                continue  # It has no accuracy: the catalog has no such variant.
            known.setdefault("accuracy", known["declared"])
            known["answered"] = self.answered.get(name, 0)
            made[name] = VariantSnapshot(name=name, **known)
        # Requests of no known class are shown once there are some.
        classes = {
            name: ClassSnapshot(name=name, **known)
            for name, known in self.classes.items()
            if name or any(known["ended"].values())
        }
        return ModelSnapshot(made, classes)


def _requests(book: _ModelBook, name: str, labels: Labels, value: float) -> None:
    ended = book.service_class(labels)["ended"]
    outcome = labels["outcome"]
    ended[outcome] = ended.get(outcome, 0) + int(value)
    variant = labels["variant"]
    if variant and outcome in _ANSWERED:
        book.answered[variant] = book.answered.get(variant, 0) + int(value)


def _sums(entry: str) -> Callable[[_ModelBook, str, Labels, float], None]:
    def read(book: _ModelBook, name: str, labels: Labels, value: float) -> None:
        known = book.service_class(labels)
        if name.endswith("_sum"):
            known[entry] = value
        else:
            known["answered"] = int(value)

    return read


def _waiting(book: _ModelBook, name: str, labels: Labels, value: float) -> None:
    book.service_class(labels)["waiting"] = int(value)


def _accuracy(book: _ModelBook, name: str, labels: Labels, value: float) -> None:
    known = book.gear(labels)
    if labels["source"] == "live":
        known["live"] = value
    else:
        known["declared"], known["source"] = value, labels["source"]


def _interval(book: _ModelBook, name: str, labels: Labels, value: float) -> None:
    if labels["bound"] in ("low", "high"):
        book.gear(labels)[labels["bound"]] = value


def _latency(book: _ModelBook, name: str, labels: Labels, value: float) -> None:
    quantile = {"0.5": "p50", "0.99": "p99"}.get(labels.get("quantile", ""))
    if quantile and labels["batch"] == "1":
        book.gear(labels)[quantile] = value


def _standing(book: _ModelBook, name: str, labels: Labels, value: float) -> None:
    if value:
        book.gear(labels)["standing"] = labels["standing"]


def _resident(book: _ModelBook, name: str, labels: Labels, value: float) -> None:
    known = book.gear(labels)
    known["resident"] = known.get("resident", False) or bool(value)


def _shadow(book: _ModelBook, name: str, labels: Labels, value: float) -> None:
    known = book.gear(labels)
    known["shadowed"] = known.get("shadowed", 0) + int(value)
    if labels["agreed"] == "true":
        known["agreed"] = known.get("agreed", 0) + int(value)


def _corrected(book: _ModelBook, name: str, labels: Labels, value: float) -> None:
    if labels["bound"] in ("low", "high"):
        book.gear(labels)[f"corrected_{labels['bound']}"] = value


def _cascade(book: _ModelBook, name: str, labels: Labels, value: float) -> None:
    book.gear(labels).update(declared=value, source="measured", cascade=True)


def _cascade_answers(book: _ModelBook, name: str, labels: Labels, value: float) -> None:
    cascade = labels["cascade"]
    book.answered[cascade] = book.answered.get(cascade, 0) + int(value)


def _entry(
    name: str, convert: Callable[[float], Any]
) -> Callable[[_ModelBook, str, Labels, float], None]:
    def read(book: _ModelBook, sample: str, labels: Labels, value: float) -> None:
        book.gear(labels)[name] = convert(value)

    return read


_READ: dict[str, Callable[[_ModelBook, str, Labels, float], None]] = {
    "gearshift_requests": _requests,
    "gearshift_served_accuracy": _sums("accuracy"),
    "gearshift_accuracy_deficit": _sums("deficit"),
    "gearshift_queue_depth": _waiting,
    "gearshift_variant_accuracy": _accuracy,
    "gearshift_variant_accuracy_used": _entry("accuracy", float),
    "gearshift_variant_accuracy_interval": _interval,
    "gearshift_feedback_labels": _entry("labels", int),
    "gearshift_variant_fallen": _entry("fallen", bool),
    "gearshift_variant_standing": _standing,
    "gearshift_variant_resident": _resident,
    "gearshift_shadow": _shadow,
    "gearshift_shadow_accuracy": _entry("corrected", float),
    "gearshift_shadow_accuracy_interval": _corrected,
    "gearshift_cascade_accuracy": _cascade,
    "gearshift_cascade_accuracy_live": _entry("live", float),
    "gearshift_cascade_accuracy_used": _entry("accuracy", float),
    "gearshift_cascade_accuracy_interval": _interval,
    "gearshift_cascade_feedback_labels": _entry("labels", int),
    "gearshift_cascade_fallen": _entry("fallen", bool),
    "gearshift_cascade_answers": _cascade_answers,
    "gearshift_variant_latency_seconds": _latency,
    "gearshift_variant_artifact_bytes": _entry("artifact_bytes", int),
}
"""By the name of a family; those of feedback are there once labels have come."""
