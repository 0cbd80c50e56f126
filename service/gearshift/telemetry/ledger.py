"""The ledger: every number counted so far, as plain values, one book per bounded name.

Names come from the catalog. Whatever else a caller may have said is entered under "", so
the number of books, and with it of time series, is fixed when the catalog is loaded. Names that
another catalog no longer has are shown for a while, so that what was counted last is scraped.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from gearshift.core.catalog import Catalog, Model, Standing, Variant
from gearshift.core.profile import Profile
from gearshift.errors import Outcome
from gearshift.ports import Stage, VariantStatistics
from gearshift.telemetry.distribution import MICROSECONDS, ROWS, SECONDS, SLACK, Distribution

RequestKey = tuple[str, str, str, Outcome]
"""Model, variant, service class, outcome: the labels of `gearshift_requests_total`."""

UNANSWERED = (
    Outcome.SHED,
    Outcome.INFEASIBLE,
    Outcome.EXPIRED,
    Outcome.CANCELLED,
    Outcome.FAILED,
)


SHOWN_FOR = 300.0
"""Seconds for which a name that is gone is still shown: some scrapes, of whoever scrapes."""

Name = tuple[str, str, str]
"""What is gone: a kind (model, variant, version, class, cascade), the model, and its name."""

ENDED = ("within_p50", "within_p99", "beyond_p99", "failed")
"""The values of the label `ended` of `gearshift_runs_total`."""


def _seconds() -> Distribution:
    return Distribution(SECONDS)


def _microseconds() -> Distribution:
    return Distribution(MICROSECONDS)


@dataclass(slots=True)
class ClassBook:
    """What happened to the requests of one (model, service class). Seconds."""

    model: str
    service_class: str
    duration: Distribution = field(default_factory=_seconds)
    queue: Distribution = field(default_factory=_seconds)
    slack: Distribution = field(default_factory=lambda: Distribution(SLACK))
    waiting: int = 0
    answered: int = 0
    accuracy: float = 0.0
    deficit: float = 0.0
    load_deficit: float = 0.0

    @property
    def shown(self) -> bool:
        """The books of unknown names stay out of sight until something is in them."""
        counted = self.duration.count + self.slack.count + abs(self.waiting)
        return bool(self.service_class) or counted > 0


@dataclass(slots=True)
class VariantBook:
    """What one variant did: in our own terms, and in Triton's (durations in microseconds)."""

    model: str
    variant: Variant
    compute: Distribution = field(default_factory=_seconds)
    rows: Distribution = field(default_factory=lambda: Distribution(ROWS))
    busy: dict[str, float] = field(default_factory=dict)
    """Seconds by device that workers spent on it, failed runs included."""
    ended: list[int] = field(default_factory=lambda: [0] * len(ENDED))
    """Runs by how they ended, as in ENDED."""
    statistics: VariantStatistics = field(default_factory=VariantStatistics)
    request_us: Distribution = field(default_factory=_microseconds)
    queue_us: Distribution = field(default_factory=_microseconds)
    input_us: Distribution = field(default_factory=_microseconds)
    infer_us: Distribution = field(default_factory=_microseconds)
    output_us: Distribution = field(default_factory=_microseconds)


class Ledger:
    """All books of one catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.requests: dict[RequestKey, int] = {}
        self.standings: dict[tuple[str, str], Standing] = {}
        """Who may choose a variant, by model and variant."""
        self.cascades: dict[tuple[str, str, Stage], int] = {}
        """Answers by model, cascade, and who gave them."""
        self.failures: dict[tuple[str, str, str], int] = {}
        """By model, version ("" when no variant was chosen) and Triton's reason."""
        self.busy: dict[tuple[int, str], float] = {}
        """Seconds by worker and device."""
        self.workers: Mapping[str, int] = {}
        """How many there are, by device."""
        self.wanted: dict[str, float] = {}
        """Worker seconds by model, had each request got the best that an idle server gives it."""
        self.profiles: list[tuple[VariantBook, Profile]] = []
        """Whose latency is shown, read anew for every page: it is learned on the way."""
        self.live: Mapping[tuple[str, str], float] = {}
        """Accuracy from feedback by model and variant, of those of which enough is known."""
        self.classes = {("", ""): ClassBook("", "")}
        self.variants: dict[tuple[str, str], VariantBook] = {}
        self.versions: dict[tuple[str, int], VariantBook] = {}
        self._leaving: dict[Name, float] = {}
        """What is gone, and since when nothing more of it is counted."""
        self._changing = threading.Lock()
        """Held where names come or go; what is counted needs no lock."""
        self.requests["", "", "", Outcome.INVALID] = 0
        for model in catalog.models.values():
            self._open_books(model)

    def follow(self, catalog: Catalog) -> None:
        """Count for this catalog from now on, on from where its names were; names that are not in
        it are counted until `forget` says that nothing of them is left."""
        with self._changing:
            before, self.catalog = self.catalog.models, catalog
            for name, model in catalog.models.items():
                known = before.get(name)
                if known is None or known.generation != model.generation:
                    self._open_books(model)

    def forget(self, model: Model, now: float) -> None:
        """Nothing of this generation is counted any more: its names that are served no more go
        after a while. `now` in seconds."""
        with self._changing:
            served = self.catalog.models.get(model.name)
            for name in _names(model) - (_names(served) if served else set()):
                self._leaving[name] = now

    def tidy(self, now: float) -> None:
        """Close the books of names that have been gone long enough."""
        if not self._leaving:
            return
        with self._changing:
            served = {name for model in self.catalog.models.values() for name in _names(model)}
            due = {n for n, since in self._leaving.items() if now - since >= SHOWN_FOR}
            for name in due | (self._leaving.keys() & served):
                del self._leaving[name]
            self._close_books(due - served)

    def _close_books(self, gone: set[Name]) -> None:
        def is_gone(kind: str, model: str, name: str = "") -> bool:
            return ("model", model, "") in gone or (kind, model, name) in gone

        for model, variant in list(self.variants):
            if is_gone("variant", model, variant):
                del self.variants[model, variant]
                self.standings.pop((model, variant), None)
        for model, version in list(self.versions):
            if is_gone("version", model, str(version)):
                del self.versions[model, version]
        for model, service_class in list(self.classes):
            if is_gone("class", model, service_class):
                del self.classes[model, service_class]
        for model, cascade, stage in list(self.cascades):
            if is_gone("cascade", model, cascade):
                del self.cascades[model, cascade, stage]
        for key in list(self.requests):
            model, variant, service_class, _ = key
            if is_gone("variant", model, variant) or is_gone("class", model, service_class):
                del self.requests[key]
        for model, number, reason in list(self.failures):
            if is_gone("version", model, number):
                del self.failures[model, number, reason]
        for model in list(self.wanted):
            if is_gone("model", model):
                del self.wanted[model]
        shown = {id(book) for book in self.variants.values()}
        self.profiles = [each for each in self.profiles if id(each[0]) in shown]

    def _open_books(self, model: Model) -> None:
        """Books for every name, and a zero for every request count that will be watched; what is
        there already goes on.

        A rate is only right from the first event on if the series was there, at zero,
        before it.
        """
        self.requests.setdefault((model.name, "", "", Outcome.INVALID), 0)
        self.wanted.setdefault(model.name, 0.0)
        for cascade in model.cascades:
            for stage in Stage:
                self.cascades.setdefault((model.name, cascade.name, stage), 0)
        for service_class in ("", *model.classes):
            key = (model.name, service_class)
            self.classes.setdefault(key, ClassBook(*key))
        for variant in model.variants:
            names = (model.name, variant.name)
            self.standings[names] = variant.standing
            book = self.variants.setdefault(names, VariantBook(model.name, variant))
            book.variant = variant
            self.versions[model.name, variant.version] = book
        for service_class in model.classes:
            for outcome in UNANSWERED:
                self.requests.setdefault((model.name, "", service_class, outcome), 0)
            for variant in model.variants:
                for outcome in (Outcome.SERVED, Outcome.LATE, Outcome.FAILED):
                    self.requests.setdefault((model.name, variant.name, service_class, outcome), 0)

    def class_book(self, model: str, service_class: str) -> ClassBook:
        """The book of a class; that of "" where the catalog does not know the name."""
        return (
            self.classes.get((model, service_class))
            or self.classes.get((model, ""))
            or self.classes["", ""]
        )

    def request_key(
        self, model: str, variant: str, service_class: str, outcome: Outcome
    ) -> RequestKey:
        """The labels of a request, with "" for every name that the catalog does not know."""
        book = self.class_book(model, service_class)
        known = (book.model, variant) in self.variants
        return book.model, variant if known else "", book.service_class, outcome


def _names(model: Model) -> set[Name]:
    """All that series are labelled with."""
    return {
        ("model", model.name, ""),
        *(("variant", model.name, variant.name) for variant in model.variants),
        *(("version", model.name, str(variant.version)) for variant in model.variants),
        *(("class", model.name, service_class) for service_class in model.classes),
        *(("cascade", model.name, cascade.name) for cascade in model.cascades),
    }
