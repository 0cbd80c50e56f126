"""What arrives: a recorded workload, or rates; and the part of it that each of N pods gets.

The balancer in front gives every request to one of N equal pods by chance, independently of all
others (round robin over callers who know nothing of each other comes to the same, and never is
burstier). Pods share nothing, so that N pods are N simulations of one pod each with its part of
the requests; and as the parts are alike in distribution, some of the pods tell what all do, with
fewer requests to show it. Poisson arrivals remain Poisson when they are split by chance
(Kingman, Poisson Processes, 1993, chapter 5), which is why one pod of 1/N of the rate stands for
each of N.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gearshift.simulate.bounds.demand import rounded_up
from gearshift.simulate.planning.goals import Pair
from gearshift.simulate.table import Numbers, SourceFile
from gearshift.simulate.workload_file import Workload

LONGEST = 600.0
"""Seconds of pods' time that are simulated for one seed: their planners cost time even where few
requests come. A single pod's recorded requests are simulated whole."""


@dataclass(frozen=True, slots=True)
class Asking:
    """Requests that ask for the same: how many of them there are in a second, budget in seconds,
    floor -inf for none."""

    pair: Pair
    budget: float
    floor: float
    rate: float


class Traffic(Protocol):
    """Requests for several models."""

    @property
    def asking(self) -> Sequence[Asking]:
        """What is asked for, each kind of request once."""

    @property
    def seconds(self) -> float:
        """How long it lasts; infinite for rates, which go on for ever."""

    def windows(self, parts: int) -> Sequence[tuple[float, Sequence[float]]]:
        """The traffic cut into so many equal parts of time: how long each is, in seconds, and how
        many requests of each of `asking` arrive in it."""

    def pods(
        self, count: int, seed: int, models: Collection[str], most: int
    ) -> Iterator[tuple[int, Workload]]:
        """What each of `count` pods gets of the requests for `models`: enough pods for about
        `most` requests, beside the number of requests that are still to come, those included."""


class Recorded:
    """The requests of a workload file, as often as `load` says in the same time."""

    def __init__(self, workload: Workload, load: float) -> None:
        self._workload = workload
        self._arrivals = (workload.arrivals - workload.arrivals[0]) / load
        self._models = np.array(workload.models)
        # Where there are very many different budgets they count as a little longer ones here.
        budgets, budget = rounded_up(workload.budgets)
        keys: dict[tuple[str, str, float, float], int] = {}
        self._key = np.array(
            [
                keys.setdefault(key, len(keys))
                for key in zip(
                    workload.models,
                    workload.classes,
                    budgets[budget].tolist(),
                    workload.floors.tolist(),
                    strict=True,
                )
            ]
        )
        counts = np.bincount(self._key, minlength=len(keys))
        self.seconds = max(float(self._arrivals[-1]), 1e-3)
        self.asking: Sequence[Asking] = [
            Asking((model, service_class), budget, floor, count / self.seconds)
            for (model, service_class, budget, floor), count in zip(
                keys, counts.tolist(), strict=True
            )
        ]

    def windows(self, parts: int) -> Sequence[tuple[float, Sequence[float]]]:
        length = self.seconds / parts
        part = np.minimum((self._arrivals / length).astype(np.int64), parts - 1)
        counts = np.zeros((parts, len(self.asking)))
        np.add.at(counts, (part, self._key), 1)
        return [(length, row) for row in counts.tolist()]

    def pods(
        self, count: int, seed: int, models: Collection[str], most: int
    ) -> Iterator[tuple[int, Workload]]:
        chosen = np.flatnonzero(np.isin(self._models, list(models)))
        # One number a request, whatever the count is: counts meet the same luck.
        place = np.random.default_rng((seed, 2)).random(len(chosen)) * count
        place = place.astype(np.int64)
        wanted = math.ceil(most * count / max(1, len(chosen)))
        simulated = min(count, max(1, min(wanted, int(LONGEST / self.seconds))))
        left = int(np.count_nonzero(place < simulated))
        for pod in range(simulated):
            mine = chosen[place == pod]
            if len(mine):
                yield left, self._part(mine)
            left -= len(mine)

    def _part(self, mine: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Workload:
        whole = self._workload
        return Workload(
            source=whole.source,
            lines=[whole.lines[index] for index in mine.tolist()],
            arrivals=self._arrivals[mine],
            models=[whole.models[index] for index in mine.tolist()],
            budgets=whole.budgets[mine],
            floors=whole.floors[mine],
            classes=[whole.classes[index] for index in mine.tolist()],
        )


class Steady:
    """Requests at constant rates that come independently of each other (Poisson)."""

    seconds = math.inf

    def __init__(self, asking: Sequence[Asking], source: str) -> None:
        self.asking = asking
        self._source = SourceFile(source, "")

    def windows(self, parts: int) -> Sequence[tuple[float, Sequence[float]]]:
        return [(1.0, [each.rate for each in self.asking])]

    def pods(
        self, count: int, seed: int, models: Collection[str], most: int
    ) -> Iterator[tuple[int, Workload]]:
        asked = [each for each in self.asking if each.pair[0] in models and each.rate > 0]
        total = sum(each.rate for each in asked)
        seconds = min(LONGEST, most * count / total)
        random = np.random.default_rng((seed, 2))
        arrivals: list[Numbers] = [
            np.sort(random.random(random.poisson(each.rate / count * seconds))) * seconds
            for each in asked
        ]
        owner = np.repeat(np.arange(len(asked)), [len(each) for each in arrivals])
        together = np.concatenate(arrivals)
        order = np.argsort(together, kind="stable")
        owners = [asked[index] for index in owner[order].tolist()]
        if not owners:
            return
        yield (
            len(owners),
            Workload(
                source=self._source,
                lines=range(1, len(owners) + 1),
                arrivals=together[order],
                models=[each.pair[0] for each in owners],
                budgets=np.array([each.budget for each in owners]),
                floors=np.array([each.floor for each in owners]),
                classes=[each.pair[1] for each in owners],
            ),
        )


def rates(traffic: Traffic, models: Collection[str]) -> Mapping[Pair, float]:
    """Requests a second by model and class."""
    found: dict[Pair, float] = {}
    for each in traffic.asking:
        if each.pair[0] in models:
            found[each.pair] = found.get(each.pair, 0.0) + each.rate
    return found
