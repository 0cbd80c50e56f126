"""A Telemetry that keeps every event, for tests to read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from gearshift.errors import Outcome
from gearshift.ports import Answered, Batch, Ran, Settled, VariantStatistics


@dataclass(frozen=True)
class Ended:
    """How one request ended, answered or not."""

    model: str
    service_class: str
    variant: str
    outcome: Outcome
    status: str
    slack: float | None
    accuracy: float | None = None
    deficit: float | None = None


class RecordingTelemetry:
    def __init__(self) -> None:
        self.queued: Counter[tuple[str, str]] = Counter()
        self.rans: list[Ran] = []
        self.settleds: list[Ended] = []
        self.unanswered: list[Settled] = []
        self.answereds: list[Answered] = []
        self.chances: Counter[tuple[str, str, bool]] = Counter()
        self.breakers: list[tuple[str, str, int]] = []
        self.opened: Counter[tuple[str, str]] = Counter()
        self.lost: Counter[tuple[str, str]] = Counter()

    def admitted(self, model: str, service_class: str) -> None:
        self.queued[model, service_class] += 1

    def dequeued(self, model: str, service_class: str, count: int) -> None:
        self.queued[model, service_class] -= count

    def ran(self, event: Ran) -> None:
        self.rans.append(event)

    def settled(self, event: Settled) -> None:
        self.unanswered.append(event)
        names = event.model, event.service_class, event.variant
        self.settleds.append(Ended(*names, event.outcome, event.status, event.slack))

    def answered(self, event: Answered) -> None:
        self.answereds.append(event)
        for each in event.requests:
            names = event.model, each.service_class, event.variant
            outcome = Outcome.LATE if each.late else Outcome.SERVED
            judged = event.accuracy, event.deficit
            self.settleds.append(Ended(*names, outcome, "OK", each.slack, *judged))

    def second_chance(self, model: str, variant: str, *, answered: bool) -> None:
        self.chances[model, variant, answered] += 1

    def breaker(self, model: str, variant: str, state: int) -> None:
        self.breakers.append((model, variant, state))

    def breaker_opened(self, model: str, variant: str) -> None:
        self.opened[model, variant] += 1

    def worker_lost(self, device: str, reason: str) -> None:
        self.lost[device, reason] += 1

    def prepared(self, model: str, seconds: float) -> None:
        """Nobody asks for these here."""

    def statistics(self, model: str, version: int) -> VariantStatistics:
        return VariantStatistics()

    def outcomes(self) -> Counter[str]:
        return Counter(str(event.outcome) for event in self.settleds)


class RecordingJournal:
    def __init__(self) -> None:
        self.answers: list[Batch] = []
        self.shadows: list[Batch] = []

    def answered(self, batch: Batch) -> None:
        self.answers.append(batch)

    def shadowed(self, batch: Batch) -> None:
        self.shadows.append(batch)
