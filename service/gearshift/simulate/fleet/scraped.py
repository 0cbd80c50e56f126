"""What Prometheus knows of a fleet: each pod's counters, as they were at the last scrapes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from gearshift.simulate.fleet.pod import Counters, Pod

KEPT = 600.0
"""Seconds for which scrapes are kept."""


class Scraped:
    """Samples by pod. Rates are those of PromQL without its extrapolation to the window's ends."""

    def __init__(self) -> None:
        self._samples: dict[int, deque[tuple[float, Counters]]] = {}
        self._living: tuple[int, ...] = ()

    def scrape(self, pods: Iterable[Pod], now: float) -> None:
        """Read all of these; a pod that is not among them any more has no present value."""
        found = list(pods)
        self._living = tuple(pod.number for pod in found)
        for pod in found:
            self._samples.setdefault(pod.number, deque()).append((now, pod.shown()))
        for number, samples in list(self._samples.items()):
            while samples and samples[0][0] < now - KEPT:
                samples.popleft()
            if not samples:
                del self._samples[number]

    def rate(self, value: Callable[[Counters], float], window: float, now: float) -> float:
        """`sum(rate(...))`: increase a second over the window, of all pods together."""
        return sum(self._rates(value, window, now).values())

    def _rates(
        self, value: Callable[[Counters], float], window: float, now: float
    ) -> dict[int, float]:
        found = {}
        for number, samples in self._samples.items():
            inside = [each for each in samples if each[0] >= now - window - 1e-9]
            if len(inside) >= 2:
                (first, before), (last, after) = inside[0], inside[-1]
                found[number] = (value(after) - value(before)) / (last - first)
        return found

    def each_rate(
        self, value: Callable[[Counters], float], window: float, now: float
    ) -> Iterator[float]:
        """The same of each living pod of which there are two samples."""
        found = self._rates(value, window, now)
        return (found[number] for number in self._living if number in found)

    def total(self, value: Callable[[Counters], float]) -> float:
        """`sum(...)` of the last scrape."""
        return sum(value(self._samples[number][-1][1]) for number in self._living)

    def mean(self, value: Callable[[Counters], float], window: float, now: float) -> float:
        """`sum(avg_over_time(...))` of the living pods."""
        total = 0.0
        for number in self._living:
            inside = [value(c) for at, c in self._samples[number] if at >= now - window - 1e-9]
            total += sum(inside) / len(inside) if inside else 0.0
        return total
