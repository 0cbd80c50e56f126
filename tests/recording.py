"""A Telemetry that keeps every event, for tests to read."""

from __future__ import annotations

from collections import Counter

from gearshift.ports import Ran, Settled, VariantStatistics


class RecordingTelemetry:
    def __init__(self) -> None:
        self.queued: Counter[tuple[str, str]] = Counter()
        self.rans: list[Ran] = []
        self.settleds: list[Settled] = []

    def admitted(self, model: str, service_class: str) -> None:
        self.queued[model, service_class] += 1

    def dequeued(self, model: str, service_class: str, count: int) -> None:
        self.queued[model, service_class] -= count

    def ran(self, event: Ran) -> None:
        self.rans.append(event)

    def settled(self, event: Settled) -> None:
        self.settleds.append(event)

    def statistics(self, model: str, version: int) -> VariantStatistics:
        return VariantStatistics()

    def outcomes(self) -> Counter[str]:
        return Counter(str(event.outcome) for event in self.settleds)
