"""The mixed-integer program of Proteus: which variants the workers hold, and who gets whom.

    maximise    sum of accuracy * rate                    over needs and seats
    subject to  rates of a need        <= its demand
                rates at a seat        <= its workers * throughput
                workers of a device    <= those there are
                workers of a seat      a whole number

A seat is a variant on a device; workers of the same device are alike, so that counting them
loses nothing against one binary variable per worker and variant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gearshift.simulate.extra import need
from gearshift.simulate.policies.needs import Need, alone, throughput
from gearshift.simulate.policies.residency import Seat

TIME_LIMIT = 20.0
"""Seconds that the solver may take; it then gives the best plan found so far."""

GAP = 0.01
"""Share of the optimum that may be missing."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """How many workers hold what, and what share of each need each kind of them gets."""

    workers: Mapping[Seat, int]
    shares: Mapping[Need, Mapping[Seat, float]]


def assign(
    seats: Sequence[Seat],
    counts: Mapping[str, int],
    demand: Mapping[Need, float],
    budgets: Mapping[Need, float],
) -> Assignment:
    """The assignment with the highest effective accuracy for `demand` (requests a second).

    `counts` are the workers of each device, `budgets` the seconds each need allows. Raises
    ConfigurationInvalid where SciPy is not installed.
    """
    need("scipy", "the policy proteus")
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    flows = [
        (number, index, rate)
        for number, wanted in enumerate(demand)
        for index, rate in _throughputs(seats, wanted, budgets[wanted])
    ]
    devices = list(counts)
    first_flow = len(seats)
    rows, columns, values = [], [], []

    def entry(row: int, column: int, value: float) -> None:
        rows.append(row)
        columns.append(column)
        values.append(value)

    for index, seat in enumerate(seats):
        entry(devices.index(seat.profile.device), index, 1.0)
        entry(len(devices) + len(demand) + index, index, -1.0)
    # A flow is counted in workers, so that needs with different budgets may share a seat.
    for position, (number, index, rate) in enumerate(flows):
        entry(len(devices) + number, first_flow + position, rate)
        entry(len(devices) + len(demand) + index, first_flow + position, 1.0)
    limits = [*map(float, counts.values()), *demand.values(), *([0.0] * len(seats))]
    gains = [seats[index].profile.variant.accuracy * rate for _, index, rate in flows]
    size = first_flow + len(flows)
    upper = [float(counts[seat.profile.device]) for seat in seats] + [np.inf] * len(flows)
    matrix = coo_array((values, (rows, columns)), shape=(len(limits), size)).tocsr()
    solved = milp(
        np.concatenate([np.zeros(first_flow), -np.array(gains)]),
        integrality=np.concatenate([np.ones(first_flow), np.zeros(len(flows))]),
        bounds=Bounds(0, upper),
        constraints=LinearConstraint(matrix, -np.inf, limits),
        options={"time_limit": TIME_LIMIT, "mip_rel_gap": GAP},
    )
    if solved.x is None:
        return Assignment({}, {})
    workers = {
        seat: count for seat, x in zip(seats, solved.x, strict=False) if (count := round(x)) > 0
    }
    needs = list(demand)
    given: dict[Need, dict[Seat, float]] = {}
    load = dict.fromkeys(workers, 0.0)
    for (number, index, rate), busy in zip(flows, solved.x[first_flow:].tolist(), strict=True):
        seat = seats[index]
        if busy > 1e-6 and seat in workers:
            given.setdefault(needs[number], {})[seat] = busy * rate
            load[seat] += busy
    shares = {
        wanted: {seat: rate / sum(by_seat.values()) for seat, rate in by_seat.items()}
        for wanted, by_seat in given.items()
    }
    _use_the_rest(workers, load, counts)
    return Assignment(workers, shares)


def _use_the_rest(
    workers: dict[Seat, int], load: Mapping[Seat, float], counts: Mapping[str, int]
) -> None:
    """Workers that the program can do without join the seats with the most work a worker."""
    for device, count in counts.items():
        held = [seat for seat in workers if seat.profile.device == device]
        for _ in range(count - sum(workers[seat] for seat in held)):
            if held:
                workers[max(held, key=lambda seat: load[seat] / workers[seat])] += 1


def _throughputs(seats: Sequence[Seat], wanted: Need, budget: float) -> list[tuple[int, float]]:
    """The seats that may serve what is wanted, by index, and rows a second of one worker there."""
    able = [(index, seat.profile) for index, seat in enumerate(seats) if seat.serves(wanted)]
    found = [(index, throughput(profile, budget)) for index, profile in able]
    if not any(rate for _, rate in found):
        found = [(index, alone(profile, budget)) for index, profile in able]
    return [(index, rate) for index, rate in found if rate]
