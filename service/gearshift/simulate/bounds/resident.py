"""The upper bound where devices do not hold everything: the time-expanded program with residency.

To the program of `gearshift.simulate.bounds.time_expanded` a variable is added for each place (a
variant on a device) and step: whether it is loaded there at any moment of the step.

    what a kind of request is answered by a place in a step
                     <= the requests of that kind that may be answered in the step, if it is loaded
    sizes of what is loaded on a device in a step
                     <= its memory + what it can load in a step

Why no policy passes it. What a device has loaded or is loading when a step begins fits into its
memory. Besides, only what begins and ends to load within the step can run in it, and that is no
more than it can load in a step. What is loaded may change from step to step at no other cost: a
policy has less choice. Two things are relaxed for the sake of a linear program: a place may be
loaded in part, and then answers that part of the requests; and memory is filled to the last byte.
So the bound is above what could be reached, by how much is not known.

As there, only prices are taken from the solver: of each device's time (`time`) and of the requests
of each kind (`requests`) in each step, both >= 0. By weak duality

    sum of time * capacity + sum over groups of the dearest of its steps' requests
    + sum over devices and steps of the fractional knapsack (Dantzig, 1957) of the places' gains

is at least the program's optimum, a place's gain in a step being the requests there are times
what each gains above its price and that of its work.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array

from gearshift.core.residency import Place
from gearshift.simulate.bounds.demand import Demand, Integers, Numbers, demand_of
from gearshift.simulate.bounds.result import Bound
from gearshift.simulate.bounds.time_expanded import MARGIN, METHODS, STEP, WINDOW, OnProgress
from gearshift.simulate.scenario import Scenario


@dataclass(frozen=True, slots=True)
class _Held:
    """By place: its number, its size; by device, which places it has and how much they may be."""

    number: dict[Place, int]
    sizes: Numbers
    members: list[Integers]
    limits: Numbers

    @classmethod
    def of(cls, scenario: Scenario, demand: Demand) -> _Held:
        memory = scenario.memory
        assert memory is not None
        places = sorted({w.place for ways in demand.kinds for w in ways if w.place is not None})
        limits = []
        for device in demand.devices:
            loaded = [
                demand.step * memory.size(place) / memory.seconds[place[:2]]
                if memory.seconds[place[:2]]
                else math.inf
                for place in places
                if place.device == device
            ]
            limits.append(memory.limits.get(device, math.inf) + max(loaded, default=0.0))
        return cls(
            {place: index for index, place in enumerate(places)},
            np.array([memory.size(place) for place in places]),
            [
                np.array([n for n, p in enumerate(places) if p.device == device], dtype=np.int64)
                for device in demand.devices
            ],
            np.array(limits),
        )


def upper_bound(
    scenario: Scenario,
    *,
    speed_up: float = 1.0,
    step: float = STEP,
    window: int = WINDOW,
    on_progress: OnProgress | None = None,
) -> Bound:
    """The bound for the scenario's workload with its arrivals divided by `speed_up`."""
    started = time.perf_counter()
    demand = demand_of(scenario, speed_up, step)
    held = _Held.of(scenario, demand)
    present = _present(demand)
    time_prices = np.zeros((len(demand.devices), demand.steps))
    request_prices = np.zeros((len(demand.kinds), demand.steps))
    for begin in range(0, demand.steps, window):
        end = min(demand.steps, begin + window)
        low, high = max(0, begin - MARGIN), min(demand.steps, end + MARGIN)
        found = _prices(demand, held, present, low, high)
        inside = slice(begin - low, end - low)
        time_prices[:, begin:end] = found[0][:, inside]
        request_prices[:, begin:end] = found[1][:, inside]
        if on_progress is not None:
            on_progress(end, demand.steps)
    total = dual_value(demand, held, present, time_prices, request_prices)
    requests = float(demand.count.sum())
    return Bound(
        effective_accuracy=total / requests if requests else 0.0,
        step=demand.step,
        groups=len(demand.count),
        seconds=time.perf_counter() - started,
    )


def _present(demand: Demand) -> Numbers:
    """Kinds x steps: how many requests may be answered in a step."""
    found = np.zeros((len(demand.kinds), demand.steps + 1))
    np.add.at(found, (demand.kind, demand.first), demand.count)
    np.add.at(found, (demand.kind, demand.last + 1), -demand.count)
    return np.cumsum(found, axis=1)[:, :-1]


def dual_value(
    demand: Demand, held: _Held, present: Numbers, time_prices: Numbers, request_prices: Numbers
) -> float:
    """The bound that these prices prove (devices x steps and kinds x steps)."""
    time_prices = np.maximum(time_prices, 0.0)
    request_prices = np.maximum(request_prices, 0.0)
    # What needs no memory is answered at no less than its gain.
    for kind, ways in enumerate(demand.kinds):
        for way in ways:
            if way.place is None:
                gain = way.accuracy - time_prices[way.device] * way.work
                np.maximum(request_prices[kind], gain, out=request_prices[kind])
    total = float((time_prices.sum(axis=1) * demand.capacity).sum())
    dearest = request_prices[demand.kind, demand.first].copy()
    for offset in range(1, int((demand.last - demand.first).max(initial=0)) + 1):
        moment = np.minimum(demand.first + offset, demand.last)
        np.maximum(dearest, request_prices[demand.kind, moment], out=dearest)
    total += float((dearest * demand.count).sum())
    gains = np.zeros((len(held.sizes), demand.steps))
    for kind, ways in enumerate(demand.kinds):
        for way in ways:
            if way.place is not None:
                gain = way.accuracy - time_prices[way.device] * way.work - request_prices[kind]
                gains[held.number[way.place]] += present[kind] * np.maximum(gain, 0.0)
    for members, limit in zip(held.members, held.limits, strict=True):
        if len(members):
            total += _knapsacks(gains[members], held.sizes[members], float(limit))
    return total


def _knapsacks(gains: Numbers, sizes: Numbers, limit: float) -> float:
    """The most that is gained in each step (columns of `gains`) by what fits, all added up."""
    rate = gains / np.maximum(sizes, 1e-9)[:, None]
    order = np.argsort(-rate, axis=0)
    ordered = sizes[order]
    before = np.cumsum(ordered, axis=0) - ordered
    share = np.clip((limit - before) / np.maximum(ordered, 1e-9), 0.0, 1.0)
    return float((np.take_along_axis(gains, order, axis=0) * share).sum())


def _prices(
    demand: Demand, held: _Held, present: Numbers, low: int, high: int
) -> tuple[Numbers, Numbers]:
    """Of each device's time and of each kind's requests in steps `low` to `high`, from the program
    over those steps alone; zeros where the solver has no answer.

    Variables: how many of a group are answered in a step, how many of a kind in each way in a step,
    and what is loaded in a step. Rows: groups; kinds by step, where the first two meet; devices by
    step, time and then memory; and for each way that has to be loaded, by step, that it is.
    """
    steps, devices, kinds = high - low, len(demand.devices), len(demand.kinds)
    nothing = np.zeros((devices, steps)), np.zeros((kinds, steps))
    inside, group, moment = demand.within(low, high)
    if not len(inside):
        return nothing
    every = np.arange(steps)
    meeting, answered = len(inside), len(group)
    capacity = meeting + kinds * steps
    room = capacity + devices * steps
    used, row = answered, room + devices * steps
    loaded = {}
    rows = [group, meeting + demand.kind[inside][group] * steps + moment]
    columns = [np.arange(answered), np.arange(answered)]
    values = [np.ones(answered), -np.ones(answered)]
    gains = [np.zeros(answered)]
    for device, members in enumerate(held.members):
        for number in members.tolist():
            loaded[number] = used + every
            used += steps
            rows.append(room + device * steps + every)
            columns.append(loaded[number])
            values.append(np.full(steps, held.sizes[number] / held.limits[device]))
            gains.append(np.zeros(steps))
    for kind in np.unique(demand.kind[inside]).tolist():
        for way in demand.kinds[kind]:
            variables = used + every
            used += steps
            rows += [meeting + kind * steps + every, capacity + way.device * steps + every]
            columns += [variables, variables]
            values += [np.ones(steps), np.full(steps, way.work)]
            gains.append(np.full(steps, way.accuracy))
            if way.place is not None:
                rows += [row + every, row + every]
                columns += [variables, loaded[held.number[way.place]]]
                values += [np.ones(steps), -present[kind, low:high]]
                row += steps
    matrix = coo_array(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))),
        shape=(row, used),
    )
    limits = np.zeros(row)
    limits[: len(inside)] = demand.count[inside]
    limits[capacity:room] = np.repeat(demand.capacity, steps)
    limits[room : room + devices * steps] = 1.0
    most = np.full(used, np.inf)
    for variables in loaded.values():
        most[variables] = 1.0
    bounds = np.stack([np.zeros(used), most], axis=1)
    for method in METHODS:
        solved = linprog(
            -np.concatenate(gains), matrix.tocsr(), limits, bounds=bounds, method=method
        )
        if solved.status == 0:
            prices: Numbers = -solved.ineqlin.marginals
            return (
                prices[capacity:room].reshape(devices, steps),
                prices[meeting:capacity].reshape(kinds, steps),
            )
    return nothing
