"""The guard: short budgets stay possible while long runs are under way.

A run cannot be interrupted. Where every worker is busy for longer than a short-budget ticket
may wait, that ticket is lost before it comes. So on every device enough workers for the
tight strands are kept free *within their reach*: a run longer than the reach may only start
if that many others are free, or will be in time. Shorter runs of anybody may use the kept
workers: idle capacity is lent, never locked away.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from gearshift.core.profile import Profile
from gearshift.core.strand import Strand

MARGIN = 0.0005
"""Seconds between the end of the longest run and the latest start of who waits for it."""

BURST = 3.0
"""Standard deviations of a Poisson number of arrivals that must fit into the batch behind."""

HEADROOM = 1.3
"""Workers kept per worker that the tight strands keep busy."""

ROOM = 0.5
"""The share of another device's workers that a strand may need for none to be kept for it here."""

SURE = 1.0
"""How far behind its p99 a run surely has ended, in distances from its p50 to its p99: one in a
hundred ends later than its p99, and short budgets would pay for it."""


def sure_end(p50: float, p99: float) -> float:
    """Seconds after which a run has as good as surely ended."""
    return p99 + SURE * (p99 - p50)


class Length(Enum):
    """`SHORT` blocks nobody, `LONG` needs others to be free, `SPREAD` lets them run alike."""

    SHORT = "short"
    SPREAD = "spread"
    LONG = "long"


class Limit(NamedTuple):
    """No run above `reach` seconds unless `keep` other workers are free within `reach`.

    Where there are no more than `keep` workers in all, a long run may start, but has to be
    worth the `toll`: what the tight strands lose per second beyond their reach. Elsewhere
    the toll is infinite. `others` is the share of the workers that are not kept.
    """

    reach: float
    keep: int
    toll: float
    others: float

    def length(self, p50: float, p99: float) -> Length:
        """How long a run is to those who must not be locked out.

        Runs little above `reach` fit on all workers side by side, if they begin evenly spread
        in time: one of them always ends within the reach.
        """
        if p99 <= self.reach:
            return Length.SHORT
        spread = sure_end(p50, p99) - self.reach <= self.others * p50
        return Length.SPREAD if spread else Length.LONG


NO_LIMIT = Limit(math.inf, 0, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Guard:
    """The limits by device."""

    limits: Mapping[str, Limit] = field(default_factory=dict)

    def limit(self, device: str) -> float:
        """Seconds up to which a run on this device blocks nobody."""
        return self.on(device).reach

    def on(self, device: str) -> Limit:
        return self.limits.get(device, NO_LIMIT)


def guard(strands: Iterable[Strand], workers: Mapping[str, int], now: float) -> Guard:
    """The limits that the strands which may get tickets at any moment call for.

    `workers` is their number by device.
    """
    live = [s for s in strands if not s.lenient and s.budget and (s.rate > 0 or s.live(now))]
    limits = {}
    longest = {device: _longest(device, live) for device in workers}
    for device in workers:
        reach, load, toll, own = math.inf, 0.0, 0.0, 0.0
        for strand in live:
            if not strand.gears.get(device) or strand.tight >= longest[device]:
                continue
            if any(_at_ease(strand, other, longest[other], workers[other]) for other in workers):
                continue
            quickest = min(strand.gears[device], key=_cost_of_many)
            count = _crowd(strand, quickest)
            own = max(own, quickest.p99s[strand.rows])
            reach = min(reach, strand.tight - quickest.p99s[count * strand.rows] - MARGIN)
            load += strand.rate * quickest.p50s[count * strand.rows] / count
            toll += strand.rate * strand.weight
        # Whom the guard is for must be able to run, however slow that has become.
        reach = max(reach, own)
        if 0.0 < reach < math.inf:
            count = workers[device]
            keep = min(count, max(1, math.ceil(load * HEADROOM)))
            limits[device] = Limit(
                reach, keep, toll if keep == count else math.inf, (count - keep) / count
            )
    return Guard(limits)


def _longest(device: str, strands: Iterable[Strand]) -> float:
    """Seconds: the longest p99 of a run on the device that somebody has time for; of a cascade
    that is the first run, after which the worker is free again."""
    return max(
        (
            profile.runs.p99s[strand.rows]
            for strand in strands
            for profile in strand.gears.get(device, ())
            if profile.p99s[strand.rows] <= strand.budget
        ),
        default=0.0,
    )


def _at_ease(strand: Strand, device: str, longest: float, workers: int) -> bool:
    """Has this device room for all of the strand's tickets, and no run that is too long?"""
    gears = strand.gears.get(device)
    if not gears or min(gear.p99s[strand.rows] for gear in gears) + longest > strand.tight:
        return False
    load = strand.rate * strand.rows * min(gear.row_cost for gear in gears)
    return load <= ROOM * workers


def _cost_of_many(profile: Profile) -> float:
    return profile.p99s[-1]


def _crowd(strand: Strand, profile: Profile) -> int:
    """How many tickets may have come together at the end of a run that they waited for."""
    expected = strand.rate * strand.tight
    most = max(1, profile.max_batch // strand.rows)
    return min(most, int(1 + expected + BURST * math.sqrt(expected)))
