"""What the replay finds, and what it must find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from loadtests.replaying import Answer

from gearshift.core.accuracy import average_precision
from gearshift.demo.traffic import Samples

NOTICED = 500
"""Labelled requests within which it must be noticed."""
SAME = 1e-3
"""By how much a live accuracy may differ from that of the artifact over the same rows."""
RECOVERED = 0.01
"""By how much the answers may be worse in the end than those of the second best variant."""
CANARY = 0.05
PACE = 50.0
"""Requests a second to the broken variant, so that what is noticed late shows."""


def precision(answers: Sequence[Answer], samples: Samples) -> float:
    """The model's metric over answers, each row with its weight."""
    rows = [answer.row for answer in answers]
    scores = [(answer.score,) for answer in answers]
    return average_precision(scores, samples.labels[rows].tolist(), samples.weights[rows].tolist())


@dataclass(slots=True)
class Found:
    """What is computed here, and what the server says."""

    offline: Mapping[str, float]
    live: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]
    labels: dict[str, float]
    outcomes: Mapping[str, int]

    def check(self) -> None:
        for name, value in self.offline.items():
            if abs(self.live[name] - value) > SAME:
                raise SystemExit(f"{name}: live {self.live[name]}, but the artifact has {value}")


@dataclass(frozen=True, slots=True)
class Look:
    """What /metrics said after so many requests: what routing goes by, and who has fallen."""

    at: int
    used: Mapping[str, float]
    fallen: bool


@dataclass(slots=True)
class Story:
    """All requests to a server one of whose variants breaks; places are numbers of requests.
    `labels` of its wrong answers had been counted when it was noticed."""

    title: str
    broken: str
    answers: list[Answer] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    broke: int = 0
    noticed: int = 0
    labels: int = 0
    left: int = 0
    after: list[Answer] = field(default_factory=list)
    """All held-out rows, once it was out."""
    said: dict[str, str] = field(default_factory=dict)
    """What the commands print then."""

    @property
    def phases(self) -> Mapping[str, Sequence[Answer]]:
        return {
            "before": self.answers[: self.broke],
            "broken, until it was out": self.answers[self.broke : self.left],
            "after": self.after,
        }

    def check(self, samples: Samples, least: float) -> None:
        if self.labels > NOTICED:
            raise SystemExit(f"{self.title}: noticed after {self.labels} labels, not {NOTICED}")
        if precision(self.after, samples) < least - RECOVERED:
            raise SystemExit(f"{self.title}: the answers are not as good again")


@dataclass(slots=True)
class Trial:
    """What became of a canary after so many requests, of which it answered `its` and `labels` had
    been counted; its share of the last requests before, and of all held-out rows after."""

    title: str
    variant: str
    standing: str = "canary"
    requests: int = 0
    its: int = 0
    labels: int = 0
    live: float = 0.0
    after: float = 0.0
