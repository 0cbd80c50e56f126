"""What a fleet is scaled by: the metrics that are handed to the HPA's loop.

`Accuracy` is gearshift's own; the others are what is used elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gearshift.simulate.fleet.control import Proposal
from gearshift.simulate.fleet.pod import Counters
from gearshift.simulate.fleet.scraped import Scraped


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is to go by: `pods` are ordered, `ready` of them serve, each with `workers`."""

    scraped: Scraped
    now: float
    pods: int
    ready: int
    workers: int


class Scaler(Protocol):
    """Says what its metrics ask for."""

    @property
    def name(self) -> str: ...

    def proposals(self, seen: Seen) -> Sequence[Proposal]: ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """Not scaled at all."""

    pods: int

    @property
    def name(self) -> str:
        return f"fixed at {self.pods}"

    def proposals(self, seen: Seen) -> Sequence[Proposal]:
        return ()


@dataclass(frozen=True, slots=True)
class Accuracy:
    """By accuracy: as in deploy/chart/templates/scaling and docs/autoscaling.md.

    Workers = max(min(wanted / `full`, workers x max(1, load deficit / `deficit`)),
    workers x min(shed share / `shed`, `most`)): grow as far as the load deficit is beyond what is
    accepted, but never beyond what everybody's best variant would take, and shrink to that.
    `window`: seconds that the rates look back. The metric is told as an average value per pod.
    """

    deficit: float
    full: float = 0.8
    shed: float = 0.001
    most: float = 2.0
    window: float = 60.0

    @property
    def name(self) -> str:
        return f"accuracy, {self.deficit:g} at {100 * self.full:.0f} %"

    def proposals(self, seen: Seen) -> Sequence[Proposal]:
        def rate(value: str) -> float:
            return seen.scraped.rate(lambda c: getattr(c, value), self.window, seen.now)

        workers = seen.scraped.total(lambda counters: counters.workers)
        answered, counted = rate("answered"), rate("counted")
        deficit = rate("load_deficit") / answered if answered else 0.0
        shed = rate("missed") / counted if counted else 0.0
        wanted = min(rate("wanted") / self.full, workers * max(1.0, deficit / self.deficit))
        emergency = workers * min(shed / self.shed, self.most)
        return [_average(each, seen) for each in (wanted, emergency)]


@dataclass(frozen=True, slots=True)
class Cpu:
    """By busy CPUs: an HPA on the resource `cpu`, whose usage is that of the workers.

    As documented: on the mean over the pods that are ready; who is not ready counts as idle when
    it is to grow, and nothing is done if that turns the answer around. `window` is that of the
    metrics server.
    """

    target: float
    window: float = 30.0

    @property
    def name(self) -> str:
        return f"CPU {100 * self.target:.0f} %"

    def proposals(self, seen: Seen) -> Sequence[Proposal]:
        shares = [
            busy / seen.workers
            for busy in seen.scraped.each_rate(lambda c: c.busy, self.window, seen.now)
        ]
        if not shares:
            return [Proposal(math.nan, seen.pods)]
        ratio = sum(shares) / len(shares) / self.target
        missing = seen.pods - len(shares)
        if ratio <= 1.0 or missing <= 0:
            return [Proposal(ratio, len(shares) if missing > 0 else seen.pods)]
        diluted = sum(shares) / seen.pods / self.target
        return [Proposal(diluted if diluted > 1.0 else 1.0, seen.pods)]


@dataclass(frozen=True, slots=True)
class Queue:
    """By waiting requests a pod: KEDA's prometheus trigger on the queue depth, over a minute."""

    target: float
    window: float = 60.0

    @property
    def name(self) -> str:
        return f"queue {self.target:g}"

    def proposals(self, seen: Seen) -> Sequence[Proposal]:
        waiting = seen.scraped.mean(lambda c: c.waiting, self.window, seen.now)
        return [_average(waiting / self.target * seen.workers, seen)]


@dataclass(frozen=True, slots=True)
class Concurrency:
    """By requests in a pod, waiting or running: KServe's and Knative's `concurrency`, over the
    minute of its stable window. A run of several requests counts as one here."""

    target: float
    window: float = 60.0

    @property
    def name(self) -> str:
        return f"concurrency {self.target:g}"

    def proposals(self, seen: Seen) -> Sequence[Proposal]:
        def inside(counters: Counters) -> float:
            return counters.waiting + counters.running

        found = seen.scraped.mean(inside, self.window, seen.now)
        return [_average(found / self.target * seen.workers, seen)]


def _average(workers: float, seen: Seen) -> Proposal:
    """As an external metric of the type AverageValue: so many workers in all, at a target of
    what a pod has."""
    return Proposal(workers / (seen.workers * seen.pods), seen.pods)
