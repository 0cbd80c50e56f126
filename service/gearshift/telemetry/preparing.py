"""How long the steps of models take to make inputs. The names are the catalog's."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gearshift.core.catalog import Catalog
from gearshift.telemetry.distribution import SECONDS, Distribution
from gearshift.telemetry.families import add_distribution


class PreparedBook(Collector):
    """Told on one thread, read on another."""

    def __init__(self) -> None:
        self._seconds: dict[str, Distribution] = {}

    def opens(self, catalog: Catalog) -> None:
        """Show zeros for each of these models that has steps, and no figure yet."""
        for model in catalog.models.values():
            if model.before:
                self._seconds.setdefault(model.name, Distribution(SECONDS))

    def forget(self, model: str) -> None:
        """The model is served no more."""
        self._seconds = {name: each for name, each in self._seconds.items() if name != model}

    def prepared(self, model: str, seconds: float) -> None:
        found = self._seconds.get(model)
        if found is not None:
            found.add(seconds)

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(
            "gearshift_prepare_duration_seconds",
            "Time in which a model's steps made the inputs of one request; waiting for it is not"
            " in it.",
            labels=("model",),
        )
        for model, seconds in list(self._seconds.items()):
            add_distribution(family, {"model": model}, seconds)
        yield family
