"""When to ask the scheduler again, if nothing happens until then."""

from __future__ import annotations

import math

from gearshift.core.lanes import Lanes
from gearshift.core.scoring import EARLY, lag
from gearshift.core.selector import Selector
from gearshift.core.workers import Workers

ROUNDING = 1e-9
"""Seconds. Sums of floats may differ by less than this without anybody being late."""


def wake_at(lanes: Lanes, workers: Workers, selector: Selector, now: float) -> tuple[float, float]:
    """The next moment at which a decision could differ though nothing has happened; and until when
    no ticket's latest start passes."""
    wake = expires_at = math.inf
    any_idle = workers.any_idle()
    for lane in lanes.every:
        if not lane.count:
            continue
        for strand in lane.strands:
            keys, start = strand.keys, strand.start
            if start == len(keys):
                continue
            due = keys[start][0]
            if not strand.lenient:
                # A ticket is hopeless just after its latest start, not at it.
                if due - strand.quickest < expires_at:
                    expires_at = due - strand.quickest
            elif now < due < wake:
                wake = due
            if any_idle:
                found = selector.gears_of(strand)
                due -= lag(strand, found, now)
                for need in reversed(found.needs):
                    if due - need > now:
                        wake = min(wake, due - need)
                        break
    wake = min(wake, expires_at)
    if any_idle:
        for device, limit in selector.guard.limits.items():
            if workers.idle[device]:
                enough = workers.enough_free_at(device, limit.keep + 1) - limit.reach
                if now < enough:
                    wake = min(wake, enough)
    return max(wake, now) + ROUNDING, expires_at - EARLY
