"""A scenario as a fluid: groups of alike requests, and what a request costs at the least."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gearshift.core.profile import Profile
from gearshift.core.residency import Place
from gearshift.simulate.result import ROUNDING
from gearshift.simulate.scenario import Scenario

Integers = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]

LONGEST_WINDOW = 200
"""Steps from a group's arrival to its deadline; longer budgets get longer steps."""

MOST_BUDGETS = 32
"""Different budgets told apart for one model and floor; more are rounded up to a grid."""


@dataclass(frozen=True, slots=True)
class Column:
    """One way to answer a kind of request: `device` by number, accuracy gained, seconds a row, and
    the place that has to be loaded for it, if memory is limited there."""

    device: int
    accuracy: float
    work: float
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Demand:
    """Groups of requests that may be answered in the same ways and in the same steps.

    Per group: its kind, its first and last step, how many requests it is. Per kind: its
    columns, none of which a mixture of the others would beat where memory holds everything.
    """

    step: float
    steps: int
    kinds: tuple[tuple[Column, ...], ...]
    kind: Integers
    first: Integers
    last: Integers
    count: Numbers
    devices: tuple[str, ...]
    capacity: Numbers
    """Seconds of work that each device's workers can do in one step."""

    def within(self, low: int, high: int) -> tuple[Integers, Integers, Integers]:
        """The groups that may be answered in steps `low` to `high`; and for each of them and each
        such step, which of these groups it is, and which step from `low` on."""
        inside = np.flatnonzero((self.last >= low) & (self.first < high))
        first = np.maximum(self.first[inside], low) - low
        length = np.minimum(self.last[inside], high - 1) - low - first + 1
        group = np.repeat(np.arange(len(inside)), length)
        offset = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        return inside, group, first[group] + offset


def demand_of(scenario: Scenario, speed_up: float, step: float) -> Demand:
    """Group the workload's requests by model, floor, budget, arrival step and deadline step."""
    workload = scenario.workload
    arrivals = workload.arrivals / speed_up
    deadlines = arrivals + workload.budgets + ROUNDING
    origin = float(arrivals[0]) if len(arrivals) else 0.0
    longest = float(workload.budgets.max()) if len(arrivals) else 0.0
    step = max(step, longest / LONGEST_WINDOW)
    first = np.floor((arrivals - origin) / step).astype(np.int64)
    last = np.floor((deadlines - origin) / step).astype(np.int64)
    names, model = np.unique(np.array(workload.models), return_inverse=True)
    floors, floor = np.unique(workload.floors, return_inverse=True)
    budgets, budget = rounded_up(workload.budgets)
    keys = np.stack([model, floor, budget, first, last], axis=1).astype(np.int64)
    groups, counts = np.unique(keys, axis=0, return_counts=True)
    kinds, kind = np.unique(groups[:, :3], axis=0, return_inverse=True)
    devices = tuple(scenario.counts)
    columns = tuple(
        _columns(scenario, devices, str(names[m]), float(floors[f]), float(budgets[b]))
        for m, f, b in kinds
    )
    return Demand(
        step=step,
        steps=int(last.max()) + 1 if len(arrivals) else 0,
        kinds=columns,
        kind=kind.reshape(-1).astype(np.int64),
        first=groups[:, 3],
        last=groups[:, 4],
        count=counts.astype(np.float64),
        devices=devices,
        capacity=np.array([scenario.counts[device] * step for device in devices]),
    )


def rounded_up(budgets: Numbers) -> tuple[Numbers, Integers]:
    """The different budgets, and which of them each request has.

    Where there are too many they are rounded up, which lets a request use larger batches
    than it really could: the bound stays a bound.
    """
    found, index = np.unique(budgets, return_inverse=True)
    if len(found) <= MOST_BUDGETS:
        return found, index
    grid = np.geomspace(found[0], found[-1], MOST_BUDGETS)
    grid[-1] = found[-1]
    return grid, np.searchsorted(grid, budgets)


def _columns(
    scenario: Scenario, devices: tuple[str, ...], model: str, floor: float, budget: float
) -> tuple[Column, ...]:
    kept: list[Column] = []
    largest = scenario.catalog.models[model].max_batch_size
    for number, device in enumerate(devices):
        ways = []
        memory = scenario.memory
        for profile in scenario.profiles.on(model, device):
            work = least_work(profile, largest, budget)
            place = None if memory is None else memory.place(model, profile)
            if place is not None and memory is not None and memory.too_large(place):
                continue
            if profile.variant.accuracy >= floor and work < math.inf:
                ways.append(Column(number, profile.variant.accuracy, work, place))
        # What has to be loaded is no mixture of two others, of which each would have to be, too.
        limited = memory is not None and device in memory.limits
        kept += ways if limited else upper_hull(ways)
    return tuple(kept)


def least_work(profile: Profile, largest: int, budget: float) -> float:
    """Seconds a row in the best batch that ends within `budget`; infinite if none does."""
    batches = [rows for rows in range(1, largest + 1) if profile.p50(rows) <= budget + ROUNDING]
    return min((profile.p50(rows) / rows for rows in batches), default=math.inf)


def upper_hull(ways: list[Column]) -> list[Column]:
    """Those on the concave hull from (no work, no accuracy) up: in a fluid, what lies below
    it is beaten by a mixture of two that lie on it, at the same work."""
    hull: list[Column] = []
    for way in sorted(ways, key=lambda way: (way.work, -way.accuracy)):
        if hull and way.accuracy <= hull[-1].accuracy:
            continue
        while hull:
            before = hull[-2] if len(hull) > 1 else Column(way.device, 0.0, 0.0)
            gained = (hull[-1].accuracy - before.accuracy) * (way.work - before.work)
            if gained > (way.accuracy - before.accuracy) * (hull[-1].work - before.work):
                break
            hull.pop()
        hull.append(way)
    return hull
