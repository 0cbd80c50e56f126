"""The cheapest answer: which models on which kind of pod, found best first.

An answer gives each model a kind; models with the same kind share a fleet. Its cost is at least
that of its fleets' demand bounds, and becomes exact once they have been simulated. Always looking
into the answer that could be cheapest, until that one is exact, finds the cheapest of all and
simulates few fleets (best-first branch and bound; Lawler and Wood, 1966).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import product

from gearshift.simulate.planning.fleet import Fleet, Sizing, Unmet
from gearshift.simulate.planning.pod import Pod

MOST_ANSWERS = 4096
"""Ways to give each model a kind that are looked at one by one; where there were more, models
are not separated."""

Place = tuple[str, frozenset[str]]
"""A kind's name and the models on it."""


@dataclass(frozen=True, slots=True)
class OneKind:
    """All models on one kind: the fleet that was found, or why there is none; or only how many
    pods the bound asks for, where that many already cost more than the answer."""

    pod: Pod
    bound: int
    found: Fleet | Unmet | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The cheapest fleets that hold all goals; none where no answer does, and then `kinds` says
    why. `kinds` are the answers with all models on one kind. `separated` tells whether answers
    with several kinds were looked at."""

    fleets: tuple[Fleet, ...]
    kinds: tuple[OneKind, ...]
    separated: bool

    @property
    def price(self) -> float:
        """An hour."""
        return sum(fleet.price for fleet in self.fleets)


def choose(
    pods: Mapping[str, Pod],
    models: Sequence[str],
    sizing: Sizing,
    spare: int,
    *,
    together: bool,
) -> Plan:
    """The plan for `models` on pods of these kinds, by name; `together` keeps all models on one
    kind."""
    known = _Known(pods, sizing, spare)
    several = len(pods) > 1 and len(models) > 1
    separated = several and not together and len(pods) ** len(models) <= MOST_ANSWERS
    alone: list[tuple[Place, ...]] = [((name, frozenset(models)),) for name in pods]
    answers = alone
    if separated:
        answers = [_places(models, kinds) for kinds in product(pods, repeat=len(models))]
    heap: list[tuple[float, int, int, tuple[Place, ...]]] = []
    for number, answer in enumerate(answers):
        heappush(heap, (known.cost(answer), len(answer), number, answer))
    best: tuple[Place, ...] = ()
    while heap:
        cost, fleets, number, answer = heappop(heap)
        if math.isinf(cost):
            break
        now = known.cost(answer)
        if now > cost:
            heappush(heap, (now, fleets, number, answer))
            continue
        open_ones = [place for place in answer if place not in known.found]
        if not open_ones:
            best = answer
            break
        known.size(open_ones[0])
        heappush(heap, (known.cost(answer), fleets, number, answer))
    chosen = [known.found[place] for place in best]
    return Plan(
        fleets=tuple(fleet for fleet in chosen if isinstance(fleet, Fleet)),
        kinds=tuple(known.one_kind(answer[0]) for answer in alone),
        separated=separated,
    )


def _places(models: Sequence[str], kinds: Sequence[str]) -> tuple[Place, ...]:
    by_kind: dict[str, set[str]] = {}
    for model, kind in zip(models, kinds, strict=True):
        by_kind.setdefault(kind, set()).add(model)
    return tuple((kind, frozenset(held)) for kind, held in by_kind.items())


class _Known:
    """What is known about fleets so far."""

    def __init__(self, pods: Mapping[str, Pod], sizing: Sizing, spare: int) -> None:
        self._pods = pods
        self._sizing = sizing
        self._spare = spare
        self._bounds: dict[Place, tuple[Pod, int]] = {}
        self.found: dict[Place, Fleet | Unmet] = {}

    def cost(self, answer: Sequence[Place]) -> float:
        """The least that the answer can cost an hour, infinite if it does not exist."""
        return sum(self._cost(place) for place in answer)

    def _cost(self, place: Place) -> float:
        found = self._settled(place)
        if isinstance(found, Unmet):
            return math.inf
        if found is not None:
            return found.price
        pod, bound = self._bound(place)
        return (bound + self._spare) * pod.kind.price

    def _settled(self, place: Place) -> Fleet | Unmet | None:
        """What is known for certain; pods that cannot serve some models cannot serve more."""
        found = self.found.get(place)
        if found is None:
            pod, _ = self._bound(place)
            for fewer in self._within(place):
                if isinstance(fewer, Unmet):
                    found = self.found[place] = Unmet(pod=pod, reasons=fewer.reasons)
                    break
            else:
                found = self.found.get(place)
        return found

    def _within(self, place: Place) -> list[Fleet | Unmet]:
        """What was found for pods of this kind with fewer models."""
        kind, models = place
        return [
            found for (name, held), found in self.found.items() if name == kind and held < models
        ]

    def _bound(self, place: Place) -> tuple[Pod, int]:
        """The pod, and how many there must be: more models never need fewer."""
        if place not in self._bounds:
            name, models = place
            pod = self._pods[name].with_models(models)
            reasons = self._sizing.unreachable(pod)
            if reasons:
                self.found[place] = Unmet(pod=pod, reasons=tuple(reasons))
            self._bounds[place] = (pod, 0 if reasons else self._sizing.least(pod))
        pod, bound = self._bounds[place]
        fleets = [fewer.pods for fewer in self._within(place) if isinstance(fewer, Fleet)]
        return pod, max([bound, *fleets])

    def size(self, place: Place) -> None:
        self.found[place] = self._sizing.size(*self._bound(place))

    def one_kind(self, place: Place) -> OneKind:
        found = self._settled(place)
        return OneKind(*self._bound(place), found)
