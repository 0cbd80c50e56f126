"""One metrics page from those of several processes. Pure: pages in, families out.

What only grows (counters, histograms, the sums and counts of summaries, Triton's untyped
counters) is added up, series by series, and a process that has ended stays in the sum: else the
page would fall when it is replaced, which looks like a restart of the whole server. What goes up
and down (gauges, quantiles) comes from the living only, by the rule of its family.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

Exact = int | Fraction
"""What grows is added up exactly: a sum that depended on the order could fall by its last digit,
and a counter that falls by however little counts as restarted."""

Series = tuple[str, tuple[tuple[str, str], ...]]
"""A sample's name and labels."""

SUMMED = frozenset(
    {
        "gearshift_bytes_held",
        "gearshift_connections",
        "gearshift_queue_depth",
        "gearshift_variant_resident_bytes",
        "gearshift_workers",
        "gearshift_input_drift_rows",
        "nv_inference_pending_request_count",
        # Memory that processes share, such as that of libraries, is in it once for each.
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
    }
)
"""Levels of which each process has a part."""

GREATEST = frozenset(
    {
        # All say the same of what they serve; while one is behind, the newest is the news.
        "gearshift_catalog_generation",
        "gearshift_generations",
        "gearshift_catalog_info",
        "gearshift_drain_limit_seconds",
        "gearshift_build_info",
        "gearshift_variant_accuracy",
        "gearshift_variant_artifact_bytes",
        "gearshift_variant_standing",
        "gearshift_cascade_accuracy",
        "gearshift_cascade_expected_share",
        # As long as one takes requests, the server does; the one that drains longest is news.
        "gearshift_ready",
        # Each finds out for itself what fails; where one has taken a variant out, that is news.
        "gearshift_breaker_state",
        "gearshift_provider_fallback",
        "gearshift_drain_seconds",
        # Made by each from the same labels in one database.
        "gearshift_feedback_failing",
        "gearshift_feedback_labels",
        "gearshift_shadow_accuracy",
        "gearshift_shadow_accuracy_interval",
        "gearshift_variant_accuracy_interval",
        "gearshift_variant_accuracy_used",
        "gearshift_variant_below_floors",
        "gearshift_variant_fallen",
        "gearshift_cascade_feedback_labels",
        "gearshift_cascade_accuracy_interval",
        "gearshift_cascade_accuracy_live",
        "gearshift_cascade_accuracy_used",
        "gearshift_cascade_fallen",
        # Learned by each for itself. The greatest holds whichever process a caller gets.
        "gearshift_variant_latency_seconds",
        # Seen by each in its own share of the inputs: where one has enough rows, it may be right.
        "gearshift_input_drift",
        "gearshift_input_drift_mean",
        "gearshift_input_drift_psi",
        "gearshift_input_drifted",
        "process_max_fds",
    }
)
"""Levels of which the greatest is shown."""

LEAST = frozenset({"process_start_time_seconds", "gearshift_certificate_expiry_timestamp_seconds"})
"""Levels of which the least is shown: the server is as old as its first process, and its
certificate is what the last of them still shows."""

_GROWING = frozenset({"counter", "histogram", "unknown"})


@dataclass(frozen=True, slots=True)
class Fleet:
    """How the processes themselves are: how many serve, how many there should be, how often
    one was replaced."""

    serving: int
    wanted: int
    replaced: int


class Past:
    """What the processes that have ended had counted, from the last page of each."""

    def __init__(self) -> None:
        self.families: dict[str, _Family] = {}

    def add(self, page: bytes) -> None:
        """One more process has ended, and this was its last page."""
        _enter(self.families, page, alive=False)

    def keep(self, models: set[str]) -> None:
        """Of models that no living process has any more nothing is shown. None at all means that
        no process has told yet."""
        if models:
            for family in self.families.values():
                for key in [key for key in family.grown if not models.issuperset(_model(key))]:
                    del family.grown[key]


def merged(living: Iterable[bytes], past: Past, fleet: Fleet | None = None) -> list[Metric]:
    """The families of all processes together; `fleet`, where given, is told in families of its
    own at the end."""
    families: dict[str, _Family] = {}
    for page in living:
        _enter(families, page, alive=True)
    past.keep(_models(families))
    for name, family in past.families.items():
        families.setdefault(name, _Family(name, family.documentation, family.kind)).add(family)
    found = [family.metric() for family in families.values()]
    if fleet is not None:
        found.extend(_about(fleet))
    return found


@dataclass(slots=True)
class _Family:
    name: str
    documentation: str
    kind: str
    grown: dict[Series, Exact] = field(default_factory=dict)
    levels: dict[Series, float] = field(default_factory=dict)

    def enter(self, sample: Sample, *, alive: bool) -> None:
        key = (sample.name, tuple(sample.labels.items()))
        value = float(sample.value)
        # Of a summary, the sum and the count grow; the quantiles have the family's own name.
        if self.kind in _GROWING or sample.name != self.name:
            exact = int(value) if value.is_integer() else Fraction(value)
            self.grown[key] = self.grown.get(key, 0) + exact
        elif alive:
            known = self.levels.get(key)
            if known is not None:
                value = _together(self.name, known, value)
            self.levels[key] = value

    def add(self, past: _Family) -> None:
        for key, exact in past.grown.items():
            self.grown[key] = self.grown.get(key, 0) + exact

    def metric(self) -> Metric:
        made = Metric(self.name, self.documentation, self.kind)
        for values in (self.levels, self.grown):
            for (name, labels), value in values.items():
                made.add_sample(name, dict(labels), float(value))
        return made


def _model(key: Series) -> list[str]:
    return [value for label, value in key[1] if label == "model" and value]


def _models(families: Mapping[str, _Family]) -> set[str]:
    """All that some series is of, but for what is counted of those that are gone."""
    return {
        model
        for family in families.values()
        if family.name != "gearshift_reloads"
        for values in (family.grown, family.levels)
        for key in values
        for model in _model(key)
    }


def _together(name: str, one: float, other: float) -> float:
    if name in SUMMED:
        return one + other
    return min(one, other) if name in LEAST else max(one, other)


def _enter(families: dict[str, _Family], page: bytes, *, alive: bool) -> None:
    for metric in text_string_to_metric_families(page.decode()):
        family = families.get(metric.name)
        if family is None:
            family = _Family(metric.name, metric.documentation, metric.type)
            families[metric.name] = family
        for sample in metric.samples:
            family.enter(sample, alive=alive)


def _about(fleet: Fleet) -> Iterator[Metric]:
    processes = GaugeMetricFamily(
        "gearshift_processes",
        "Serving processes: those that should be there, and those that answer now.",
        labels=("state",),
    )
    processes.add_metric(("wanted",), fleet.wanted)
    processes.add_metric(("serving",), fleet.serving)
    yield processes
    yield CounterMetricFamily(
        "gearshift_processes_replaced",
        "Serving processes that ended by themselves and were replaced.",
        value=fleet.replaced,
    )
