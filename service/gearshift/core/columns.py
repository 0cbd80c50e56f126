"""Columns: the ways in which a strand's tickets could be served for long.

A column is a variant on a device in batches of one size. It has a worth and a cost per
ticket; prices turn that into a net worth. The word is the linear program's, whose columns
these are (see `gearshift.core.prices`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

from gearshift.core.guard import Guard, Length
from gearshift.core.profile import Profile
from gearshift.core.strand import Strand

FILLING = 0.8
"""The share of a budget in which waiting for company and the run must fit. The rest is for a
worker to become free, and for chance."""

SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64)
"""Batch sizes, in tickets, that are compared; larger ones go on in doubled steps."""


@cache
def sizes(most: int) -> tuple[int, ...]:
    """The batch sizes up to `most` tickets, and `most` itself; none of none."""
    if most < 1:
        return ()
    found = [size for size in SIZES if size < most]
    size = 2 * SIZES[-1]
    while size < most:
        found.append(size)
        size *= 2
    return (*found, most)


@dataclass(frozen=True, slots=True)
class Column:
    """`count` tickets a batch; `cost` worker seconds a ticket (p50); `need` the batch's p99 in
    seconds; `worth` what one answer is worth; `length` what the guard says of such a run."""

    device: str
    profile: Profile
    count: int
    worth: float
    cost: float
    need: float
    length: Length


def worth(strand: Strand, profile: Profile, bonus: float) -> float:
    """What an answer by this variant is worth: the strand's weight if it is the model's best.

    Relative to the model's best accuracy, so that models with metrics on different scales
    can share workers. `bonus` is what being in time is worth whatever the accuracy.
    """
    best = strand.model.best_accuracy
    accuracy = profile.variant.accuracy
    if best <= 0.0:  # a metric like a negative error: only the order is known
        return strand.weight * (1.0 + accuracy - best if accuracy > best - 1.0 else 0.0)
    return strand.weight * (max(accuracy, 0.0) / best + bonus)


def columns(strand: Strand, guard: Guard, bonus: float) -> list[Column]:
    """The cheapest column of every gear that leaves its tickets in time; of a gear that can
    run longer than the guard likes, the cheapest of each length."""
    found = []
    rows = strand.rows
    budget = strand.budget or math.inf
    # Where the queue is long, tickets have no time left for a large batch when it is their turn.
    most_time = math.inf if strand.lenient else min(budget, strand.slack)
    for device, gears in strand.gears.items():
        limit = guard.on(device)
        for profile in gears:
            p50s, p99s, runs = profile.p50s, profile.p99s, profile.runs.p99s
            best: dict[Length, tuple[float, int]] = {}
            for count in sizes(profile.max_batch // rows):
                need = p99s[count * rows]
                if need > most_time and count > 1:
                    break
                # Can so many come together while the first of them waits?
                if count > 1 and count - 1 > strand.rate * (FILLING * budget - need):
                    continue
                cost = p50s[count * rows] / count
                length = limit.length(p50s[count * rows], runs[count * rows])
                if length not in best or cost < best[length][0]:
                    best[length] = (cost, count)
            value = worth(strand, profile, bonus)
            for length, (cost, count) in best.items():
                found.append(
                    Column(device, profile, count, value, cost, p99s[count * rows], length)
                )
    return found
