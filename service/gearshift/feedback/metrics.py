"""Feedback as metric families, made whenever a page is asked for."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gearshift.core.live import Estimate
from gearshift.core.reports import Ruling
from gearshift.feedback.answers import Readings
from gearshift.feedback.book import Book, ByVariant, Standing

BY_VARIANT = ("model", "variant")


class FeedbackCollector(Collector):
    """Reads the book; safe while other threads write it."""

    def __init__(self, book: Book, readings: Readings) -> None:
        self._book = book
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        yield self._reports()
        yield from self._live()
        yield from self._shadows()
        yield CounterMetricFamily(
            "gearshift_journal_dropped",
            "Rows of answers that were not recorded, because the database did not keep up.",
            value=self._book.dropped,
        )
        failing = GaugeMetricFamily(
            "gearshift_feedback_failing",
            "1 while the feedback database fails: answers are not recorded, or the accuracies that"
            " routing goes by stay as they were.",
            labels=("what",),
        )
        for what, fails in self._book.failing.items():
            failing.add_metric((what,), float(fails))
        yield failing

    def _reports(self) -> Metric:
        family = CounterMetricFamily(
            "gearshift_feedback",
            "Reports of what was true, by what became of them.",
            labels=("model", "outcome"),
        )
        # A rate is only right from the first event on if the series was there before it.
        models = sorted(self._readings.models)
        zeros = {(model, ruling.value): 0 for model in models for ruling in Ruling}
        for key, count in {**zeros, **self._book.reports}.items():
            family.add_metric(key, count)
        return family

    def _live(self) -> Iterator[Metric]:
        rows = GaugeMetricFamily(
            "gearshift_feedback_labels",
            "Labelled rows behind a variant's live accuracy.",
            labels=BY_VARIANT,
        )
        used = GaugeMetricFamily(
            "gearshift_variant_accuracy_used",
            "The accuracy that routing goes by: the card's, moved towards the live one as far as"
            " the difference cannot be chance.",
            labels=BY_VARIANT,
        )
        fallen = GaugeMetricFamily(
            "gearshift_variant_fallen",
            "1 while a variant's live accuracy is certainly below its card's interval.",
            labels=BY_VARIANT,
        )
        out = GaugeMetricFamily(
            "gearshift_variant_below_floors",
            "1 while a variant is below every floor of a service class that its card reaches.",
            labels=BY_VARIANT,
        )
        interval = _interval("gearshift_variant_accuracy_interval", "a variant's live accuracy")
        cascades = _Cascades()
        for names, standing in self._book.standings.items():
            live = standing.live
            if standing.cascade:
                cascades.add(names, standing)
                continue
            rows.add_metric(names, live.labels if live else 0)
            used.add_metric(names, standing.used)
            fallen.add_metric(names, float(standing.fallen))
            out.add_metric(names, float(standing.out))
            if live is not None:
                _add_interval(interval, names, live)
        yield from (rows, interval, used, fallen, out)
        yield from cascades.families

    def _shadows(self) -> Iterator[Metric]:
        rows = CounterMetricFamily(
            "gearshift_shadow",
            "Rows that were run again on the most accurate variant, by whether it agreed.",
            labels=(*BY_VARIANT, "service_class", "agreed"),
        )
        for (*names, agreed), count in list(self._book.shadows.items()):
            rows.add_metric((*names, "true" if agreed else "false"), count)
        accuracy = GaugeMetricFamily(
            "gearshift_shadow_accuracy",
            "A variant's accuracy from shadow runs, corrected by labels for the reference's own"
            " mistakes.",
            labels=BY_VARIANT,
        )
        interval = _interval("gearshift_shadow_accuracy_interval", "the accuracy from shadow runs")
        for names_, found in self._book.shadow_accuracy.items():
            accuracy.add_metric(names_, found.value)
            _add_interval(interval, names_, found)
        yield from (rows, accuracy, interval)


class _Cascades:
    """The same of cascades, each as a whole, which have series of their own: what is summed or
    shown by variant must not have them among the variants."""

    def __init__(self) -> None:
        self._labels = self._family("feedback_labels", "Labelled rows that it answered.")
        self._live = self._family(
            "accuracy_live", "From feedback: of its answers, whichever variant they were given by."
        )
        self._used = self._family("accuracy_used", "What routing goes by.")
        self._fallen = self._family(
            "fallen", "1 while the live accuracy is certainly below the one that was measured."
        )
        self._interval = _interval(
            "gearshift_cascade_accuracy_interval", "a cascade's live accuracy", of_one="cascade"
        )
        self.families = (self._labels, self._live, self._interval, self._used, self._fallen)

    @staticmethod
    def _family(name: str, what: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(
            f"gearshift_cascade_{name}", f"Of a cascade: {what}", labels=("model", "cascade")
        )

    def add(self, names: ByVariant, standing: Standing) -> None:
        live = standing.live
        self._labels.add_metric(names, live.labels if live else 0)
        self._used.add_metric(names, standing.used)
        self._fallen.add_metric(names, float(standing.fallen))
        if live is not None:
            self._live.add_metric(names, live.value)
            _add_interval(self._interval, names, live)


def _interval(name: str, of: str, *, of_one: str = "variant") -> GaugeMetricFamily:
    return GaugeMetricFamily(
        name, f"Both ends of the 95 % interval of {of}.", labels=("model", of_one, "bound")
    )


def _add_interval(family: GaugeMetricFamily, names: ByVariant, found: Estimate) -> None:
    family.add_metric((*names, "low"), found.low)
    family.add_metric((*names, "high"), found.high)
