"""The program behind `gearshift.core.residency`: which variants are worth their memory.

    maximise    sum of worth * rate * share           over needs, gears and surges
                - a little for each load, much for each need that nothing can answer
    subject to  shares of a need           <= 1
                share by a gear            <= whether its variant is loaded on its device
                work on a device           <= its workers' time, in each surge by itself
                sizes on a device          <= its memory
                if so wanted, of what is loaded and answers a need one stays
                loaded or not is 0 or 1

It is solved by HiGHS (Huangfu and Hall, 2018) as SciPy brings it. A gear's work is that of the
cheapest batch whose members still come together in time. Surges, the demand once as it is and once
doubled, make room for what comes before the next look, and for load that swings.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from gearshift.core.columns import FILLING, sizes
from gearshift.core.demand import Need
from gearshift.core.profile import Profile
from gearshift.core.residency import Place, Problem
from gearshift.core.wanted import RUNNING

SURGES = ((1.0, 0.7), (2.0, 0.3))
"""Multiples of the demand that are planned for, and how much each counts."""

USABLE = 0.95
"""The share of workers' time that can be planned with: the rest is lost to chance."""

UNANSWERABLE = 10.0
"""What a need costs that nothing loaded can answer, where all answers together are worth 1."""

LOADING = 1e-3
"""What filling all of a device's memory anew costs: of two that are as good, what is loaded."""

GAP = 2e-3
"""The share of the optimum that may be missing: demand is not known so well."""

TIME_LIMIT = 60.0
"""Seconds after which the solver gives the best that it has. So many that it ends by its gap, on
busy machines as well: else what is loaded would depend on how busy."""


class Program:
    """Fills `gearshift.core.residency.Placing`."""

    def best(self, problem: Problem, *, keeping: bool = False) -> frozenset[Place]:
        """What is loaded now if the solver finds nothing in its time."""
        built = _Built.of(problem)
        if keeping:
            built.keep()
        solved = built.solve(*built.free())
        if solved.x is None:
            return problem.resident
        return frozenset(place for place, x in zip(built.places, solved.x, strict=False) if x > 0.5)

    def worth(self, problem: Problem, places: Collection[Place]) -> float:
        """As `Placing` has it, without the costs of loading."""
        built = _Built.of(problem)
        chosen = np.array([float(place in places) for place in built.places])
        solved = built.solve(chosen, chosen)
        if solved.x is None:
            return 0.0
        return float(built.gains @ solved.x[built.first_share :][: len(built.gains)])


@dataclass(frozen=True, slots=True)
class _Flow:
    """The share of a need, by number, that a profile answers in a surge. If it is all of it, `work`
    in worker seconds a second and `gain` in worth. `place` by number, None if always loaded."""

    surge: int
    need: int
    place: int | None
    device: str
    work: float
    gain: float


class _Built:
    """The matrix. Variables: whether each place is loaded, the flows, and by need whether it stays
    unanswerable."""

    def __init__(self, problem: Problem, places: list[Place], flows: list[_Flow]) -> None:
        self.problem = problem
        self.places = places
        self.first_share = len(places)
        self._flows = flows
        self._needs = list(problem.demand)
        self.gains = np.array([flow.gain for flow in flows])
        self._size = len(places) + len(flows) + len(self._needs)
        self._entries: tuple[list[int], list[int], list[float]] = ([], [], [])
        self._low: list[float] = []
        self._high: list[float] = []
        self._number = {place: number for number, place in enumerate(places)}
        self._shares()
        self._memory()
        self._answerable()

    @classmethod
    def of(cls, problem: Problem) -> _Built:
        memory = problem.memory
        places = sorted(
            {
                place
                for model, profiles in problem.profiles.items()
                for profile in profiles
                if (place := memory.place(model, profile)) is not None
            }
        )
        number = {place: index for index, place in enumerate(places)}
        total = sum(
            rate * need.weight for need, rate in problem.demand.items() if problem.able(need)
        )
        flows = []
        for index, (need, rate) in enumerate(problem.demand.items()):
            best = problem.models[need.model].best_accuracy if rate else 0.0
            for profile in problem.able(need) if rate else ():
                seconds = _seconds(profile, need.budget, rate)
                place = memory.place(need.model, profile)
                for surge, (factor, share) in enumerate(SURGES):
                    flows.append(
                        _Flow(
                            surge,
                            index,
                            None if place is None else number[place],
                            profile.device,
                            factor * rate * seconds,
                            share * rate * _worth(need, profile, best) / total,
                        )
                    )
        return cls(problem, places, flows)

    def free(self) -> tuple[Any, Any]:
        """The least and the most of each place: what is too large, or failed, is 0."""
        memory = self.problem.memory
        most = [
            0.0 if memory.too_large(place) or place in self.problem.barred else 1.0
            for place in self.places
        ]
        return np.zeros(len(most)), np.array(most)

    def solve(self, least: Any, most: Any) -> Any:
        """HiGHS's answer with each place between `least` and `most`."""
        fixed = bool((least == most).all())
        problem, flows, needs = self.problem, len(self._flows), len(self._needs)
        loads = [
            LOADING * problem.memory.size(place) / max(problem.memory.limits[place.device], 1.0)
            if place not in problem.resident
            else 0.0
            for place in self.places
        ]
        costs = np.concatenate([loads, -self.gains, np.full(needs, UNANSWERABLE)])
        rows, columns, values = self._entries
        matrix = coo_array((values, (rows, columns)), shape=(len(self._low), self._size)).tocsr()
        return milp(
            costs,
            integrality=np.concatenate(
                [np.full(len(least), 0 if fixed else 1), np.zeros(flows + needs)]
            ),
            bounds=Bounds(
                np.concatenate([least, np.zeros(flows + needs)]),
                np.concatenate([most, np.ones(flows + needs)]),
            ),
            constraints=LinearConstraint(matrix, self._low, self._high),
            options={"time_limit": TIME_LIMIT, "mip_rel_gap": GAP},
        )

    # --- rows ------------------------------------------------------------------------------

    def _row(self, entries: list[tuple[int, float]], low: float, high: float) -> None:
        rows, columns, values = self._entries
        for column, value in entries:
            rows.append(len(self._low))
            columns.append(column)
            values.append(value)
        self._low.append(low)
        self._high.append(high)

    def _shares(self) -> None:
        by_need: dict[tuple[int, int], list[tuple[int, float]]] = {}
        by_device: dict[tuple[int, str], list[tuple[int, float]]] = {}
        for index, flow in enumerate(self._flows, self.first_share):
            by_need.setdefault((flow.surge, flow.need), []).append((index, 1.0))
            by_device.setdefault((flow.surge, flow.device), []).append((index, flow.work))
            if flow.place is not None:
                self._row([(index, 1.0), (flow.place, -1.0)], -math.inf, 0.0)
        for entries in by_need.values():
            self._row(entries, -math.inf, 1.0)
        for (_, device), entries in by_device.items():
            self._row(entries, -math.inf, USABLE * self.problem.workers[device])

    def _memory(self) -> None:
        memory = self.problem.memory
        for device, limit in memory.limits.items():
            # As shares of it: bytes are large numbers beside shares of requests.
            scale = max(limit, 1.0)
            entries = [
                (index, memory.size(place) / scale)
                for index, place in enumerate(self.places)
                if place.device == device
            ]
            if entries:
                self._row(entries, -math.inf, limit / scale)

    def _answerable(self) -> None:
        problem = self.problem
        first = self.first_share + len(self._flows)
        for index, need in enumerate(self._needs):
            able = {problem.memory.place(need.model, each) for each in problem.able(need)}
            if None not in able:
                entries = [(self._number[place], 1.0) for place in able if place is not None]
                self._row([*entries, (first + index, 1.0)], 1.0, math.inf)

    def keep(self) -> None:
        """Of what is loaded and answers a need, one stays."""
        for able in self.problem.answers:
            kept = able & self.problem.resident
            self._row([(self._number[place], 1.0) for place in kept], 1.0, math.inf)


def _worth(need: Need, profile: Profile, best: float) -> float:
    """As `gearshift.core.columns.worth`, of one answer."""
    accuracy = profile.variant.accuracy
    if best <= 0.0:
        return need.weight * max(0.0, 1.0 + accuracy - best)
    return need.weight * max(accuracy, 0.0) / best


def _seconds(profile: Profile, budget: float, rate: float) -> float:
    """Worker seconds a row in the cheapest batch that takes no more than RUNNING of the budget and
    comes together in time."""
    least = profile.p50(1)
    for rows in sizes(profile.max_batch)[1:]:
        need = profile.p99(rows)
        if need > RUNNING * budget or rows - 1 > rate * (FILLING * budget - need):
            break
        least = min(least, profile.p50(rows) / rows)
    return least
