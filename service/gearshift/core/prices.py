"""Prices: what a second of a worker's time is worth at present, by device.

The planner beside the core. It looks at what waits and at what is expected within a horizon
and solves a small linear program: give each strand's tickets to columns (variant, device,
batch size) so that the total worth is greatest and no device works longer than it can. The
program's dual values are the prices: the worth that one more second of a worker would add.

Only the dual is solved, by Newton steps. Each strand's choice among its columns is softened
(a softmax of falling temperature), which makes the dual smooth, so that the steps end at its
minimum, and keeps prices from jumping when two columns are worth nearly the same (entropic
smoothing of linear programs: Nesterov, 2005). A price is zero as long as the work fits; the
last part of the capacity is sold dearer, because a queue in front of a fully used worker has
no room for chance.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gearshift.core.columns import Column
from gearshift.core.guard import Length

PLAN_EVERY = 0.1
"""Seconds between two plans, on the server as in the simulator."""

HORIZON = 1.0
"""Seconds that are planned ahead."""

TEMPERATURE = 0.002
"""Differences in net worth below about this share of a strand's weight count as none."""

CHANCE, EVENED = 0.8, 4.0 / 3.0
"""The share of the time that is kept from planning, because a queue in front of fully used
workers has no room for chance: CHANCE x sqrt(run / budget) / workers ** EVENED. Chance evens
out among many short runs and among many workers; how fast is fitted to simulations."""

MOST_SERVED = 0.98
"""The share of a demand below which it is worth to spread runs in time."""

MOST_KEPT = 0.3
"""The share of the time that is kept at most."""

DEAREST = 0.5
"""The price at which the last of the capacity is sold: this worth for an average run."""

COOLING = (16.0, 4.0, 1.0)
"""Multiples of the temperature, one after the other: in the heat no kink holds a step up."""

STEPS = 20
"""Newton steps at each temperature, at most."""

PRECISE = 0.002
"""Steps end when every resource is used to within this share of its capacity."""

FAR = 12.0
"""Temperatures below the best at which a column's share is nil."""

Prices = Mapping[str, float]
"""Worth per second, by resource."""


def blocking(device: str) -> str:
    """The resource of time on a device that runs longer than the guard likes may take."""
    return f"{device}/blocking"


@dataclass(frozen=True, slots=True)
class Demand:
    """`count` tickets to be served within the horizon, in any of these columns. `weight`
    scales what counts as a difference; `budget` (seconds) is what they have, inf for no end."""

    count: float
    weight: float
    budget: float
    columns: Sequence[Column]


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the planner sees: demands, and by resource the worker seconds of the horizon."""

    demands: Sequence[Demand]
    capacity: Mapping[str, float]


def spread(device: str) -> str:
    """What a second of a run costs beside its worker's time that others can run beside."""
    return f"{device}/spread"


def price_of_time(prices: Prices, device: str, length: Length) -> float:
    """What a second of a worker costs a run of that length."""
    price = prices.get(device, 0.0)
    if length is Length.SHORT:
        return price
    blocked = prices.get(blocking(device), 0.0)
    return price + (blocked if length is Length.LONG else prices.get(spread(device), blocked))


def net_worth(column: Column, prices: Prices) -> float:
    """Worth of one answer by this column minus the price of its worker time."""
    price = price_of_time(prices, column.device, column.length)
    return column.worth - price * column.cost


def served_share(demand: Demand, prices: Prices) -> float:
    """The share of a strand's tickets that is worth serving at these prices, 0 to 1."""
    temperature = TEMPERATURE * demand.weight
    nets = [net_worth(column, prices) for column in demand.columns]
    top = max(nets, default=0.0)
    if top <= 0.0:
        served = sum(math.exp((net) / temperature) for net in nets if net > -FAR * temperature)
        return served / (served + 1.0)
    served = sum(
        math.exp((net - top) / temperature) for net in nets if net > top - FAR * temperature
    )
    unserved = math.exp(-top / temperature) if top < FAR * temperature else 0.0
    return served / (served + unserved)


Result = TypeVar("Result")
Steps = Generator[None, None, Result]
"""What is found at the end of many short steps."""


class Planner:
    """Finds prices, starting from those found before: they seldom move far."""

    def __init__(self) -> None:
        # By whether runs are spread in time.
        self._prices: dict[bool, dict[str, float]] = {False: {}, True: {}}

    def prices(self, outlook: Outlook) -> dict[str, float]:
        """The prices by resource at which the demands fit into the capacity."""
        steps = self.steps(outlook)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                found: dict[str, float] = done.value
                return found

    def steps(self, outlook: Outlook) -> Steps[dict[str, float]]:
        """The same one short step after the other, for who has others to attend to.

        Runs are spread in time only where much is lost otherwise: while they are, nothing that
        is longer can begin, and who needs it waits.
        """
        found = yield from self._found(outlook, spreads=False)
        if any(
            any(column.length is Length.SPREAD for column in demand.columns)
            and served_share(demand, found) < MOST_SERVED
            for demand in outlook.demands
        ):
            return (yield from self._found(outlook, spreads=True))
        return found

    def _found(self, outlook: Outlook, *, spreads: bool) -> Steps[dict[str, float]]:
        others = {
            device: outlook.capacity.get(blocking(device), 0.0) / seconds if spreads else 1.0
            for device, seconds in outlook.capacity.items()
            if seconds > 0.0
        }
        dual = _Dual(outlook, others)
        before = self._prices[spreads]
        found = [before.get(resource, 0.0) for resource in outlook.capacity]
        for factor in COOLING:
            found = yield from _minimise(dual, found, factor * TEMPERATURE)
        prices = dict(zip(outlook.capacity, found, strict=True))
        self._prices[spreads] = prices
        told = dict(prices)
        for device, share in others.items():
            if share < 1.0 and blocking(device) in prices:
                told[spread(device)] = share * prices[blocking(device)]
        return told


Costs = tuple[tuple[int, float], ...]
"""Seconds a ticket, by the number of the resource."""


class _Dual:
    """The smoothed dual of the program, as a function of the prices (one per resource)."""

    __slots__ = ("_capacity", "_dearest", "_demands", "_free")

    def __init__(self, outlook: Outlook, spread: Mapping[str, float]) -> None:
        """`spread`, by device, is the share of a spread run's time that blocks others."""
        index = {resource: number for number, resource in enumerate(outlook.capacity)}
        self._capacity = [max(seconds, 1e-6) for seconds in outlook.capacity.values()]
        # By demand: count, weight, and of its columns the worth and the cost by resource.
        self._demands: list[tuple[float, float, list[tuple[float, Costs]]]] = []
        costs: list[list[float]] = [[] for _ in index]
        # By resource: work, and the same weighted by how much of its budget a run takes.
        work = [0.0] * len(index)
        long_work = [0.0] * len(index)
        for demand in outlook.demands:
            found = []
            for column in demand.columns:
                used: Costs = ((index[column.device], column.cost),)
                if column.length is not Length.SHORT:
                    spreads = column.length is Length.SPREAD
                    blocked = column.cost * (spread.get(column.device, 1.0) if spreads else 1.0)
                    used = (*used, (index[blocking(column.device)], blocked))
                found.append((column.worth, used))
                for number, cost in used:
                    costs[number].append(cost)
                    work[number] += demand.count * cost
                    part = column.need / demand.budget
                    long_work[number] += demand.count * cost * min(1.0, part)
            # Rows that go on in a cascade may be worth nothing, as labels come to say.
            if found and demand.weight > 0.0:
                self._demands.append((demand.count, demand.weight, found))
        # The share of each that is free of charge while the work fits into it.
        self._free = [
            1.0 - min(MOST_KEPT, _kept(seconds / HORIZON, part / total) if total else 0.0)
            for seconds, part, total in zip(self._capacity, long_work, work, strict=True)
        ]
        self._dearest = [DEAREST * len(each) / sum(each) if each else 1.0 for each in costs]

    def value(self, prices: Sequence[float], temperature: float) -> float:
        """The dual's value: what all capacity costs plus what the demands gain at best."""
        total = 0.0
        for price, capacity, free, dearest in zip(
            prices, self._capacity, self._free, self._dearest, strict=True
        ):
            rising = price - dearest / 2 if price > dearest else price * price / (2 * dearest)
            total += capacity * (free * price + (1.0 - free) * rising)
        for count, weight, found in self._demands:
            heat = temperature * weight
            nets = [
                worth - sum(cost * prices[number] for number, cost in used) for worth, used in found
            ]
            top = max(0.0, *nets)
            mass = math.exp(-top / heat) + sum(math.exp((net - top) / heat) for net in nets)
            total += count * (top + heat * math.log(mass))
        return total

    def slopes(
        self, prices: Sequence[float], temperature: float
    ) -> tuple[list[float], list[list[float]]]:
        """Gradient (worker seconds sold minus used) and Hessian at these prices."""
        size = len(prices)
        gradient = []
        curvature = [[0.0] * size for _ in range(size)]
        for number, price in enumerate(prices):
            capacity, free = self._capacity[number], self._free[number]
            dearest = self._dearest[number]
            share = free + (1.0 - free) * min(1.0, price / dearest)
            gradient.append(capacity * share)
            if price < dearest:
                curvature[number][number] = capacity * (1.0 - free) / dearest
        for count, weight, found in self._demands:
            heat = temperature * weight
            nets = [
                worth - sum(cost * prices[number] for number, cost in used) for worth, used in found
            ]
            top = max(0.0, *nets)
            mass = math.exp(-top / heat)
            mean = [0.0] * size
            floor = top - FAR * heat
            shares = []
            for net, (_, used) in zip(nets, found, strict=True):
                if net > floor:
                    share = math.exp((net - top) / heat)
                    mass += share
                    shares.append((share, used))
            for share, used in shares:
                for number, cost in used:
                    part = share / mass * cost
                    mean[number] += part
                    for other, its_cost in used:
                        curvature[number][other] += count / heat * part * its_cost
            for number, one in enumerate(mean):
                if one:
                    gradient[number] -= count * one
                    for other, two in enumerate(mean):
                        curvature[number][other] -= count / heat * one * two
        return gradient, curvature

    def is_low(self, number: int, price: float) -> bool:
        """Next to nothing, as prices of this resource go."""
        return price <= self._dearest[number] / 1e3

    def share(self, number: int, price: float, change: float) -> float:
        """The part of a step that the curvature can be believed for: where all or none are
        served it is nearly nil, and a Newton step would fly off."""
        if change > 0.0:
            return min(1.0, (3.0 * price + self._dearest[number]) / change)
        if not self.is_low(number, price):
            return min(1.0, 0.75 * price / -change) if change < 0.0 else 1.0
        return 1.0

    def precise(self, gradient: Sequence[float], free: Sequence[int]) -> bool:
        return all(abs(gradient[number]) <= PRECISE * self._capacity[number] for number in free)


def _kept(workers: float, run_in_budgets: float) -> float:
    return float(CHANCE * math.sqrt(run_in_budgets) / workers**EVENED)


def _minimise(dual: _Dual, prices: list[float], temperature: float) -> Steps[list[float]]:
    """Projected Newton steps with backtracking (Bertsekas, 1982): prices stay at 0 or above."""
    value = dual.value(prices, temperature)
    for _ in range(STEPS):
        yield
        gradient, curvature = dual.slopes(prices, temperature)
        # A price that is as good as 0 and should fall goes there and takes no part in the step:
        # with its fall cut short at 0, the rest of a step may lead up.
        free = [
            n for n, price in enumerate(prices) if gradient[n] < 0.0 or not dual.is_low(n, price)
        ]
        if not free or dual.precise(gradient, free):
            return [price if n in free else 0.0 for n, price in enumerate(prices)]
        step = _solve([[curvature[n][m] for m in free] for n in free], [-gradient[n] for n in free])
        # All of it or none: cut one price by one, a step along a valley leaves the valley.
        share = min(dual.share(n, prices[n], change) for n, change in zip(free, step, strict=True))
        target = [0.0] * len(prices)
        for number, change in zip(free, step, strict=True):
            target[number] = max(0.0, prices[number] + share * change)
        length = 1.0
        while length > 1e-4:
            tried = [
                price + length * (end - price) for price, end in zip(prices, target, strict=True)
            ]
            reached = dual.value(tried, temperature)
            if reached < value:
                prices, value = tried, reached
                break
            length /= 2.0
        else:
            break
    return prices


def _solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """The solution of a small, positive semidefinite system, by elimination.

    A little is added to the diagonal: where no column reacts to a price the curvature is nil.
    """
    size = len(right)
    ridge = 1e-6 * max((matrix[n][n] for n in range(size)), default=0.0) + 1e-9
    rows = [[*matrix[n], right[n]] for n in range(size)]
    for n in range(size):
        rows[n][n] += ridge
    for n in range(size):
        pivot = rows[n][n]
        for m in range(n + 1, size):
            factor = rows[m][n] / pivot
            if factor:
                rows[m] = [a - factor * b for a, b in zip(rows[m], rows[n], strict=True)]
    found = [0.0] * size
    for n in reversed(range(size)):
        rest = sum(rows[n][m] * found[m] for m in range(n + 1, size))
        found[n] = (rows[n][size] - rest) / rows[n][n]
    return found
