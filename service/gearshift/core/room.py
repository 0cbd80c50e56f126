"""Is there room for one more ticket, or does what is queued ahead leave no way to be in time?"""

from __future__ import annotations

import math

from gearshift.core.catalog import Late
from gearshift.core.lane import Lane
from gearshift.core.lanes import Lanes
from gearshift.core.request import Ticket
from gearshift.core.router import overloaded
from gearshift.core.strand import Strand
from gearshift.core.workers import Workers
from gearshift.errors import Overloaded

MAX_WAITING = 8192
"""Tickets per model, in all its generations: bounds memory where budgets are unlimited and nothing
ever expires."""

ROUNDING = 1e-9
"""Seconds. Sums of floats may differ by less than this without anybody being late."""


def check_room(
    ticket: Ticket, lane: Lane, strand: Strand, lanes: Lanes, workers: Workers, now: float
) -> None:
    """Raises Overloaded if the ticket, which would wait in this strand of its lane, would be late
    for what waits ahead of it."""
    # Those of other generations share the workers, though not the lane.
    shared = ticket.model in lanes.leaving
    if (lanes.waiting(ticket.model) if shared else lane.count) >= MAX_WAITING:
        raise Overloaded(
            f"model {ticket.model!r} has {MAX_WAITING} requests waiting; try again later",
            retry_after=1.0,
        )
    if strand.lenient:
        return
    start, usable = math.inf, 0
    for device in strand.gears:
        usable += workers.counts[device]
        free = now if workers.idle[device] else max(now, workers.next_free(device))
        start = min(start, free)
    before = strand.count_until(ticket.deadline)
    if shared:
        before += lanes.ahead(ticket)
    queued = before * strand.least_cost / usable
    missing = start + queued + strand.quickest - ticket.deadline
    if missing > ROUNDING and ticket.late is Late.DROP:
        raise overloaded(ticket, before, usable, start - now, missing)
