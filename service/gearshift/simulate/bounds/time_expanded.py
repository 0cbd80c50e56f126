"""An upper bound on the effective accuracy of any policy: the time-expanded linear program.

Time is cut into steps. A variable says how many requests of a group are answered with a
variant on a device in a step; a request costs its share of the best batch that could still
end within its budget, and in each step a device's workers can do `workers * step` seconds
of work. A group may be worked on from the step in which it arrives to the step in which it
is due, both included whole. The largest sum of accuracies is the bound.

Why no schedule passes it (service times being the profiles' p50). Take any schedule and
spread each run evenly over the time that it takes: the part of a run that lies in a step
counts there, with that share of its requests. A run of b rows takes p50(b), so its part in
a step costs no more in the program than it took in the schedule; the parts of all runs on a
device within one step are at most all of its workers' time in that step. So work that
crosses an edge is counted on both sides, exactly, and no capacity has to be added for it. A
run that answers somebody in time lies between that request's arrival and its deadline, and
hence within the steps allowed to it, and its p50(b) is within the budget, so its cost a row
is not below the one used. The schedule is therefore a solution of the program with the same
sum. Everything else (whole requests, whole batches, one run after the other, the order of
moments within a step, not knowing the future) only takes away from a schedule. With noise
of mean 1 that a policy cannot foresee, the bound holds for the mean over seeds.

How it is solved. Only prices are taken from the solver: for any prices lambda >= 0 of a
device's time in each step, weak duality says that

    sum of lambda * capacity
    + sum over groups of max(0, best over variants, devices, steps of accuracy - lambda * work)

is at least the program's optimum. That sum is what is returned, so that neither the
solver's tolerance nor the way in which the prices were found can make it too small. Long
workloads are cut into windows that overlap; each window's program gives the prices of its
middle. Wrong prices at a cut could only make the bound larger.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array

from gearshift.simulate.bounds.demand import Demand, Numbers, demand_of
from gearshift.simulate.bounds.result import Bound
from gearshift.simulate.scenario import Scenario

STEP = 0.1
"""Seconds; shorter is tighter and slower."""

WINDOW = 600
"""Steps whose prices come from one program."""

MARGIN = 40
"""Steps on each side that a window's program also looks at."""

METHODS = ("highs-ipm", "highs-ds")
"""HiGHS's interior point method is four times as quick here; the simplex is there if it fails."""

OnProgress = Callable[[int, int], None]


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
    prices = np.zeros((len(demand.devices), demand.steps))
    for begin in range(0, demand.steps, window):
        end = min(demand.steps, begin + window)
        low, high = max(0, begin - MARGIN), min(demand.steps, end + MARGIN)
        prices[:, begin:end] = _prices(demand, low, high)[:, begin - low : end - low]
        if on_progress is not None:
            on_progress(end, demand.steps)
    total = dual_value(demand, prices)
    requests = float(demand.count.sum())
    return Bound(
        effective_accuracy=total / requests if requests else 0.0,
        step=demand.step,
        groups=len(demand.count),
        seconds=time.perf_counter() - started,
    )


def dual_value(demand: Demand, prices: Numbers) -> float:
    """The bound that `prices` (devices x steps, in accuracy a second) prove."""
    prices = np.maximum(prices, 0.0)
    total = float((prices.sum(axis=1) * demand.capacity).sum())
    cheapest = prices[:, demand.first].copy()
    for offset in range(1, int((demand.last - demand.first).max(initial=0)) + 1):
        within = demand.first + offset <= demand.last
        moment = np.minimum(demand.first + offset, demand.last)
        np.minimum(cheapest, prices[:, moment], out=cheapest, where=within)
    for number, columns in enumerate(demand.kinds):
        members = np.flatnonzero(demand.kind == number)
        worth = np.zeros(len(members))
        for column in columns:
            gain = column.accuracy - cheapest[column.device, members] * column.work
            np.maximum(worth, gain, out=worth)
        total += float((worth * demand.count[members]).sum())
    return total


def _prices(demand: Demand, low: int, high: int) -> Numbers:
    """What a second of each device's time is worth in steps `low` to `high`, from the
    program over those steps alone; zeros where the solver has no answer.

    Variables: how many of a group are answered in a step, and how many of a kind are
    answered in each way in a step. The two meet in one row per kind and step, which keeps
    the program small: groups do not multiply with ways.
    """
    steps = high - low
    devices = len(demand.devices)
    inside, group, moment = demand.within(low, high)
    if not len(inside):
        return np.zeros((devices, steps))
    kinds = len(demand.kinds)
    answered = len(group)
    meeting = len(inside) + demand.kind[inside][group] * steps + moment
    rows = [group, meeting]
    columns = [np.arange(answered), np.arange(answered)]
    values = [np.ones(answered), -np.ones(answered)]
    gains = [np.zeros(answered)]
    capacity_rows = len(inside) + kinds * steps
    used = answered
    present = np.unique(demand.kind[inside])
    every = np.arange(steps)
    for kind in present:
        for way in demand.kinds[kind]:
            variables = used + every
            used += steps
            rows += [len(inside) + kind * steps + every, capacity_rows + way.device * steps + every]
            columns += [variables, variables]
            values += [np.ones(steps), np.full(steps, way.work)]
            gains.append(np.full(steps, way.accuracy))
    matrix = coo_array(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))),
        shape=(capacity_rows + devices * steps, used),
    )
    limits = np.concatenate(
        [
            demand.count[inside],
            np.zeros(kinds * steps),
            np.repeat(demand.capacity, steps),
        ]
    )
    for method in METHODS:
        solved = linprog(-np.concatenate(gains), matrix.tocsr(), limits, method=method)
        if solved.status == 0:
            marginals: Numbers = solved.ineqlin.marginals
            return -marginals[capacity_rows:].reshape(devices, steps)
    return np.zeros((devices, steps))
