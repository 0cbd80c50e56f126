"""Loading anew, as metric families."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from gearshift.core.reload import Reloaded, Result
from gearshift.telemetry.distribution import Distribution
from gearshift.telemetry.families import add_distribution

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)
"""From a look at small files to a large network that is measured for the first time."""

MOST_MODELS = 1_000
"""That have series here. Names come from folders, so that whoever writes to the repository could
make up more."""


class ReloadsCollector(Collector):
    """Told on one thread, read on others."""

    def __init__(self) -> None:
        self._results: Counter[tuple[str, Result]] = Counter()
        self._seconds = Distribution(SECONDS)

    def add(self, told: Reloaded, seconds: float) -> None:
        """One reload is over, which took so long."""
        self._seconds.add(seconds)
        for model, result in told.results.items():
            known = any((model, each) in self._results for each in Result)
            if not known and len(self._results) >= MOST_MODELS * len(Result):
                model = ""
            for each in Result:
                self._results.setdefault((model, each), 0)
            self._results[model, result] += 1

    def collect(self) -> Iterator[Metric]:
        results = CounterMetricFamily(
            "gearshift_reloads",
            "Models that were looked at again, by what became of them.",
            labels=("model", "result"),
        )
        for (model, result), count in list(self._results.items()):
            results.add_metric((model, result.value), count)
        yield results
        duration = HistogramMetricFamily(
            "gearshift_reload_duration_seconds",
            "Time of a reload from its turn to its end, failed ones included.",
        )
        add_distribution(duration, {}, self._seconds)
        yield duration


class GenerationsCollector(Collector):
    """`count` gives how many generations of each model hold memory. Read on any thread."""

    def __init__(self, count: Callable[[], Mapping[str, int]]) -> None:
        self._count = count

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "gearshift_generations",
            "Generations of a model that hold memory: two while the old one ends its work.",
            labels=("model",),
        )
        for model, count in dict(self._count()).items():
            family.add_metric((model,), count)
        yield family
