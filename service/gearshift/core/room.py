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
from gearshift.errors import ExecutorUnavailable, RequestError, TooMany

ROUNDING = 1e-9
"""Seconds. Sums of floats may differ by less than this without anybody being late."""


def check_room(
    ticket: Ticket,
    lane: Lane,
    strand: Strand,
    lanes: Lanes,
    workers: Workers,
    now: float,
    most: int,
) -> None:
    """Raises Overloaded if the ticket, which would wait in this strand of its lane, would be late
    for what waits ahead of it; TooMany if `most` tickets of the model wait, in all its
    generations: that bounds memory where budgets are unlimited and nothing ever expires."""
    # Those of other generations share the workers, though not the lane.
    shared = ticket.model in lanes.leaving
    if (lanes.waiting(ticket.model) if shared else lane.count) >= most:
        raise TooMany(
            f"model {ticket.model!r} has {most} requests waiting, as many as may"
            " (setting max_queue); try again later",
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


def refusal(
    ticket: Ticket, lanes: Lanes, workers: Workers, now: float, most: int
) -> RequestError | None:
    """What a ticket that would come at this moment would be refused for; nothing changes. That its
    variants are out is no reason yet: it may be the one that tries them."""
    lane = lanes.at(ticket.model, ticket.generation)
    strand = lane.find(lane.key(ticket, lenient=ticket.budget == math.inf))
    try:
        if strand is None or (strand.quickest > ticket.budget and ticket.late is Late.DROP):
            lane.check(ticket, now)
        if strand is not None:
            check_room(ticket, lane, strand, lanes, workers, now, most)
    except ExecutorUnavailable:
        return None
    except RequestError as error:
        return error
    return None
