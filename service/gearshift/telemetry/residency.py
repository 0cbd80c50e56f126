"""Which variants are loaded where, and what that takes of devices whose memory is limited."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from gearshift.core.residency import Place
from gearshift.telemetry.distribution import Distribution
from gearshift.telemetry.families import add_distribution

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""From a few variants to so many that the solver runs into its limit."""


class Decided(StrEnum):
    """What came of a look at what is asked for."""

    KEPT = "kept"
    CHANGED = "changed"
    FAILED = "failed"
    OVERTAKEN = "overtaken"
    """By a reload, which changed what there was to decide."""


class Held(NamedTuple):
    """Bytes by device: `limits`, and what is `used` of them; and whether each place is loaded."""

    limits: Mapping[str, float]
    used: Mapping[str, float]
    places: Iterable[tuple[Place, bool]]


class ResidencyCollector(Collector):
    """Told on the loop, read on other threads; `held` is asked for whenever a page is made."""

    def __init__(self, held: Callable[[], Held]) -> None:
        self._held = held
        self._loads: Counter[tuple[str, str]] = Counter()
        self._unloads: Counter[str] = Counter()
        self._decided: Counter[Decided] = Counter(dict.fromkeys(Decided, 0))
        self._seconds = Distribution(SECONDS)
        for device in held().limits:
            self._loads.update({(device, "loaded"): 0, (device, "failed"): 0})
            self._unloads[device] = 0

    def loaded(self, device: str) -> None:
        self._loads[device, "loaded"] += 1

    def failed(self, device: str) -> None:
        self._loads[device, "failed"] += 1

    def unloaded(self, device: str) -> None:
        self._unloads[device] += 1

    def decided(self, what: Decided, seconds: float) -> None:
        """A look is over, and the solver took so long for it."""
        self._decided[what] += 1
        self._seconds.add(seconds)

    def collect(self) -> Iterator[Metric]:
        held = self._held()
        resident = GaugeMetricFamily(
            "gearshift_variant_resident",
            "1 where a variant is loaded on a device whose memory is limited, 0 where it could be.",
            labels=("model", "variant", "device"),
        )
        for place, here in held.places:
            resident.add_metric(place, float(here))
        limit = GaugeMetricFamily(
            "gearshift_device_memory_limit_bytes",
            "Bytes that variants may take on a device.",
            labels=("device",),
        )
        used = GaugeMetricFamily(
            "gearshift_device_memory_used_bytes",
            "Bytes that they take, those included that are being loaded or leave.",
            labels=("device",),
        )
        for device, size in held.limits.items():
            limit.add_metric((device,), size)
            used.add_metric((device,), held.used[device])
        loads = CounterMetricFamily(
            "gearshift_variant_loads",
            "Variants that were loaded on a device, or failed to be, to follow what is asked for.",
            labels=("device", "result"),
        )
        for labels, count in list(self._loads.items()):
            loads.add_metric(labels, count)
        unloads = CounterMetricFamily(
            "gearshift_variant_unloads",
            "Variants that were unloaded from a device to make room for others.",
            labels=("device",),
        )
        for device, count in list(self._unloads.items()):
            unloads.add_metric((device,), count)
        decided = CounterMetricFamily(
            "gearshift_residency_decisions",
            "Looks at what is asked for, by what came of them.",
            labels=("result",),
        )
        for what, count in list(self._decided.items()):
            decided.add_metric((what.value,), count)
        solving = HistogramMetricFamily(
            "gearshift_residency_solver_seconds",
            "Time that the solver took for a look, on a thread beside serving.",
        )
        add_distribution(solving, {}, self._seconds)
        yield from (resident, limit, used, loads, unloads, decided, solving)
