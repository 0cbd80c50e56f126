"""The ledger: every number counted so far, as plain values, one book per bounded name.

Names come from the catalog. Whatever else a caller may have said is entered under "", so
the number of books, and with it of time series, is fixed when the catalog is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gearshift.core.catalog import Catalog, Standing, Variant
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
        self._open_books()

    def _open_books(self) -> None:
        """Books for every name, and a zero for every request count that will be watched.

        A rate is only right from the first event on if the series was there, at zero,
        before it.
        """
        self.requests["", "", "", Outcome.INVALID] = 0
        for model in self.catalog.models.values():
            self.requests[model.name, "", "", Outcome.INVALID] = 0
            self.wanted[model.name] = 0.0
            for cascade in model.cascades:
                for stage in Stage:
                    self.cascades[model.name, cascade.name, stage] = 0
            for service_class in ("", *model.classes):
                key = (model.name, service_class)
                self.classes[key] = ClassBook(*key)
            for variant in model.variants:
                self.standings[model.name, variant.name] = variant.standing
                book = VariantBook(model.name, variant)
                self.variants[model.name, variant.name] = book
                self.versions[model.name, variant.version] = book
            for service_class in model.classes:
                for outcome in UNANSWERED:
                    self.requests[model.name, "", service_class, outcome] = 0
                for variant in model.variants:
                    for outcome in (Outcome.SERVED, Outcome.LATE, Outcome.FAILED):
                        self.requests[model.name, variant.name, service_class, outcome] = 0

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
