"""Goals: what must hold, for whom; and whether so many simulated requests show that it does."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gearshift.core.intervals import Z95, wilson
from gearshift.simulate.mistakes import Mistakes
from gearshift.simulate.result import Figures

ROUNDING = 1e-9
"""Sums of accuracies may differ by less than this without a goal being missed."""

Pair = tuple[str, str]
"""Model and service class."""


class Measure(StrEnum):
    """What a goal is about; as `Figures` defines them."""

    ATTAINMENT = "attainment"
    SERVED = "served accuracy"
    EFFECTIVE = "effective accuracy"


OPTIONS = {
    Measure.ATTAINMENT: "--attainment",
    Measure.SERVED: "--accuracy",
    Measure.EFFECTIVE: "--effective-accuracy",
}


@dataclass(frozen=True, slots=True)
class Goal:
    """At least `least` for the requests of `model` and `service_class`, None for all of its
    classes together."""

    measure: Measure
    model: str
    service_class: str | None
    least: float

    def covers(self, pair: Pair) -> bool:
        return self.model == pair[0] and self.service_class in (None, pair[1])

    @property
    def group(self) -> str:
        """For people: `model/class`, or the model."""
        return self.model if self.service_class is None else f"{self.model}/{self.service_class}"


@dataclass(frozen=True, slots=True)
class Tally:
    """Requests counted together: how many, how many served, the sum of the served ones'
    accuracies and of their squares."""

    requests: int = 0
    served: int = 0
    gained: float = 0.0
    squared: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.requests + other.requests,
            self.served + other.served,
            self.gained + other.gained,
            self.squared + other.squared,
        )

    @classmethod
    def of(cls, figures: Figures) -> Tally:
        mean = figures.mean_served_accuracy or 0.0
        squared = figures.served * (figures.served_accuracy_deviation**2 + mean * mean)
        return cls(figures.requests, figures.served, figures.served * mean, squared)


class Standing(StrEnum):
    """`UNSHOWN`: nothing speaks against the goal, but so few requests cannot show it."""

    HOLDS = "holds"
    UNSHOWN = "unshown"
    FAILS = "fails"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `requests` simulated requests say about a goal: the value, its 95 % interval."""

    goal: Goal
    value: float
    low: float
    high: float
    requests: int
    standing: Standing


def judge(goal: Goal, tally: Tally) -> Verdict:
    """Whether the goal holds with the confidence that the number of requests supports.

    It holds if the whole 95 % interval does: Wilson's for attainment, that of the mean for
    accuracies. Where even a flawless run of so many requests would not show the attainment, a
    flawless run is taken for good, and called unshown.
    """
    if goal.measure is Measure.ATTAINMENT:
        value = tally.served / tally.requests
        low, high = wilson(value, tally.requests)
        enough = wilson(1.0, tally.requests)[0] >= goal.least
        if low >= goal.least:
            standing = Standing.HOLDS
        else:
            flawless = not enough and tally.served == tally.requests
            standing = Standing.UNSHOWN if flawless else Standing.FAILS
        return Verdict(goal, value, low, high, tally.requests, standing)
    counted = tally.served if goal.measure is Measure.SERVED else tally.requests
    value = tally.gained / counted if counted else 0.0
    variance = max(0.0, tally.squared / counted - value * value) if counted else 0.0
    half = Z95 * math.sqrt(variance / counted) if counted else 0.0
    holds = value - half >= goal.least - ROUNDING * max(1.0, goal.least)
    standing = Standing.HOLDS if holds else Standing.FAILS
    return Verdict(goal, value, value - half, value + half, counted, standing)


def enough_requests(share: float) -> int:
    """How many requests, all served, show an attainment of at least `share`."""
    return math.ceil(Z95 * Z95 * share / (1.0 - share))


@dataclass(frozen=True, slots=True)
class Wish:
    """A goal as it was asked for: for everything (no model), a model, or one of its classes."""

    measure: Measure
    model: str | None
    service_class: str | None
    least: float


def parse_wishes(measure: Measure, texts: Iterable[str], mistakes: Mistakes) -> list[Wish]:
    """`0.999`, `fraud=0.999` and `fraud/realtime=0.999`, as the measure's option takes them."""
    option = OPTIONS[measure]
    wishes: list[Wish] = []
    for text in texts:
        place, equals, number = text.rpartition("=")
        model, slash, service_class = (part.strip() for part in place.partition("/"))
        try:
            least = float(number)
        except ValueError:
            least = math.nan
        if (equals and not model) or (slash and not service_class) or not least >= 0:
            example = "0.999, fraud=0.999 or fraud/realtime=0.999"
            mistakes.add(option, None, "", f"{text!r} is not a goal; write for example {example}")
            continue
        if measure is Measure.ATTAINMENT and not 0 < least < 1:
            hint = f"; {least:g} % is {least / 100:g}" if 1 < least < 100 else ""
            mistakes.add(option, None, "", f"{text!r}: give a share above 0 and below 1{hint}")
            continue
        wish = Wish(measure, model or None, service_class or None, least)
        if any((w.model, w.service_class) == (wish.model, wish.service_class) for w in wishes):
            mistakes.add(option, None, "", f"{place or 'everything'!r} has two goals; give one")
            continue
        wishes.append(wish)
    return wishes


def resolve(wishes: Sequence[Wish], pairs: Sequence[Pair], mistakes: Mistakes) -> list[Goal]:
    """The goals for these models and classes, which are those that requests ask for.

    What is asked of everything holds for each class by itself, unless it or its model is asked
    for by name; what is asked of a model holds for all of its classes together.
    """
    goals: list[Goal] = []
    for wish in wishes:
        rivals = [w for w in wishes if w.measure is wish.measure and w is not wish]
        if wish.model is None:
            named = {(w.model, w.service_class) for w in rivals}
            goals += [
                Goal(wish.measure, model, service_class, wish.least)
                for model, service_class in pairs
                if not {(model, None), (model, service_class)} & named
            ]
            continue
        goal = Goal(wish.measure, wish.model, wish.service_class, wish.least)
        if any(goal.covers(pair) for pair in pairs):
            goals.append(goal)
        else:
            there = ", ".join(dict.fromkeys([m for m, _ in pairs] + ["/".join(p) for p in pairs]))
            mistakes.add(
                OPTIONS[wish.measure],
                None,
                "",
                f"no request is for {goal.group!r}; there are requests for {there}",
            )
    return goals
