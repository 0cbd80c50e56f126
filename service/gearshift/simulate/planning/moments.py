"""Which moment of the past to plan for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from gearshift.simulate.planning.goals import Pair
from gearshift.simulate.table import Numbers


def moment(
    rates: Mapping[Pair, Numbers], seconds: Mapping[Pair, float], quantile: float
) -> tuple[int, Sequence[float]]:
    """The moment whose demand is the quantile of all (1 for the busiest): its number, and the
    demand at every moment in busy workers.

    `rates` are requests a second, one a moment; `seconds` what a request of the pair takes of a
    worker. The models' rates of one moment are taken together: peaks of different hours do not
    add up.
    """
    demand = sum(
        (np.asarray(rates[pair]) * seconds[pair] for pair in rates), np.zeros(len(_any(rates)))
    )
    order = np.argsort(demand, kind="stable")
    place = min(len(order) - 1, max(0, math.ceil(quantile * len(order)) - 1))
    return int(order[place]), demand.tolist()


def _any(rates: Mapping[Pair, Numbers]) -> Numbers:
    return next(iter(rates.values()))
