"""Faults in numbers: second chances, breakers, lost workers. The names are the catalog's."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gearshift.core.catalog import Catalog

REASONS = ("hung", "crashed")
RESULTS = ("answered", "failed")


class FaultBook(Collector):
    """Told on one thread, read on another."""

    def __init__(self) -> None:
        self._chances: dict[tuple[str, str, str], int] = {}
        self._states: dict[tuple[str, str], int] = {}
        self._opened: dict[tuple[str, str], int] = {}
        self._lost: dict[tuple[str, str], int] = {}

    def opens(self, catalog: Catalog) -> None:
        """Show a zero for each variant of these models that has no figure yet: a rate is only
        right from the first event on if the series was there before it."""
        for model in catalog.models.values():
            for variant in model.variants:
                names = model.name, variant.name
                self._states.setdefault(names, 0)
                self._opened.setdefault(names, 0)
                for result in RESULTS:
                    self._chances.setdefault((*names, result), 0)

    def employs(self, device: str) -> None:
        """The same for workers of a device."""
        for reason in REASONS:
            self._lost.setdefault((device, reason), 0)

    def second_chance(self, model: str, variant: str, *, answered: bool) -> None:
        key = model, variant, RESULTS[0] if answered else RESULTS[1]
        self._chances[key] = self._chances.get(key, 0) + 1

    def breaker(self, model: str, variant: str, state: int) -> None:
        self._states[model, variant] = state

    def breaker_opened(self, model: str, variant: str) -> None:
        self._opened[model, variant] = self._opened.get((model, variant), 0) + 1

    def worker_lost(self, device: str, reason: str) -> None:
        key = device, reason if reason in REASONS else REASONS[1]
        self._lost[key] = self._lost.get(key, 0) + 1

    def collect(self) -> Iterator[Metric]:
        chances = CounterMetricFamily(
            "gearshift_second_chances",
            "Requests that waited again for another variant because this one failed them, by what"
            " became of them.",
            labels=("model", "variant", "result"),
        )
        states = GaugeMetricFamily(
            "gearshift_breaker_state",
            "Circuit breaker of a variant: 0 closed, 1 half open (one run tries it), 2 open.",
            labels=("model", "variant"),
        )
        opened = CounterMetricFamily(
            "gearshift_breaker_opened",
            "Times that a variant was taken out because it kept failing.",
            labels=("model", "variant"),
        )
        lost = CounterMetricFamily(
            "gearshift_workers_lost",
            "Workers that were given up with a run that hung, or crashed.",
            labels=("device", "reason"),
        )
        for chance, count in list(self._chances.items()):
            chances.add_metric(chance, count)
        for names, state in list(self._states.items()):
            states.add_metric(names, state)
        for names, count in list(self._opened.items()):
            opened.add_metric(names, count)
        for worker, count in list(self._lost.items()):
            lost.add_metric(worker, count)
        yield from (chances, states, opened, lost)
