"""The selector: which tickets a free worker should take, in which gear.

Holds what the choice rests on between two decisions: prices, the guard's limits, and each
strand's gears as worked out from both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from gearshift.core.columns import columns, worth
from gearshift.core.gears import Gears, gears
from gearshift.core.guard import NO_LIMIT, Guard, Limit, guard
from gearshift.core.lane import Lane
from gearshift.core.prices import (
    HORIZON,
    TEMPERATURE,
    Demand,
    Outlook,
    Prices,
    blocking,
    price_of_time,
    served_share,
)
from gearshift.core.profile import Profile
from gearshift.core.scoring import (
    Candidate,
    best_batches,
    loss,
    shorter_batches,
    value_of_waiting,
)
from gearshift.core.strand import Key, Strand
from gearshift.core.workers import Workers

QUEUE_SHARE = 0.1
"""A queue as long as what comes in this share of a budget is no backlog: batches need it."""

INDIFFERENT = 8.0 * TEMPERATURE
"""Scores per ticket and weight this far below zero count as zero: prices are no more precise."""

IMPRECISE = 1.0
"""The share of what a run costs that its score may be wrong by. Without a price there is no
doubt: waiting for the best gear is free."""

IDLE = 0.2
"""The share of idle worker time from which on losing tickets means that prices are wrong."""

LEAST_TRUST = 1e-3

ROUNDING, DIGITS = 1e-9, 9
"""What is left of sums of floats that should be zero."""

MOST_CANDIDATES = 8
"""So many of the best are weighed against the harm that they do to all others."""

FEW_WORKERS = 4
"""Up to so many workers of a device, who runs next is everybody's business."""

Chosen = tuple[Strand, Candidate]


class Selector:
    """Chooses among the strands of all lanes. `bonus` is what being in time is worth."""

    def __init__(self, lanes: Mapping[str, Lane], workers: Workers, bonus: float) -> None:
        self.guard = Guard()
        self._lanes = lanes
        self._workers = workers
        self._bonus = bonus
        self._told: Prices = {}
        self._trust = dict.fromkeys(workers.counts, 1.0)
        self._prices: Prices = {}
        # What a strand's gears were worked out from changes with the prices.
        self._version = 0
        self._gears: dict[Strand, tuple[int, Gears]] = {}

    def strands(self) -> Iterator[Strand]:
        for lane in self._lanes.values():
            yield from lane.strands

    # --- what the choice rests on ------------------------------------------------------

    def set_prices(self, prices: Prices) -> None:
        self._told = {name: price for name, price in prices.items() if 0 <= price < math.inf}
        self._apply_prices()

    def doubt_prices(self, idle_shares: Mapping[str, float], *, lost: bool) -> None:
        """Believe a device's prices less if its workers idle while tickets are lost: they must
        be too high. Believe them again when that is over."""
        trust = {
            device: max(LEAST_TRUST, before / 2.0)
            if lost and idle_shares[device] > IDLE
            else min(1.0, before * 1.05)
            for device, before in self._trust.items()
        }
        if trust != self._trust:
            self._trust = trust
            self._apply_prices()

    def _apply_prices(self) -> None:
        self._prices = {}
        for name, price in self._told.items():
            device = name.partition("/")[0]
            self._prices[name] = min(price, self._most(device)) * self._trust.get(device, 1.0)
        self._version += 1
        # Here and not when they are needed: this call is not on the way of a request.
        for strand in self.strands():
            if len(strand) or strand.rate > 0.0:
                self.gears_of(strand)

    def _most(self, device: str) -> float:
        """The price at which nothing is worth running on the device any more: higher ones say
        no more, and would take longer to disbelieve."""
        return max(
            (
                worth(strand, profile, self._bonus) / (profile.row_cost * strand.rows)
                for strand in self.strands()
                for profile in strand.gears.get(device, ())
                if profile.row_cost > 0.0
            ),
            default=math.inf,
        )

    def set_guard(self, now: float) -> None:
        """Look anew whom long runs must not lock out."""
        self.guard = guard(self.strands(), self._workers.counts, now)
        self._gears = {s: known for s, known in self._gears.items() if len(s) or s.live(now)}

    def relearn(self, model: str) -> None:
        """A profile of this model has changed."""
        for strand in self._lanes[model].strands:
            strand.measure_quickest()
            self._gears.pop(strand, None)

    def outlook(self) -> Outlook:
        """What waits and what is expected, for the planner."""
        demands = []
        for strand in self.strands():
            if strand.rate > 0.0 or len(strand):
                backlog = max(0.0, len(strand) - QUEUE_SHARE * strand.budget * strand.rate)
                count = backlog + strand.rate * HORIZON
                found = columns(strand, self.guard, self._bonus)
                budget = strand.budget or math.inf
                demands.append(Demand(count, strand.weight, budget, found))
        capacity: dict[str, float] = {}
        for device, count in self._workers.counts.items():
            capacity[device] = count * HORIZON
            limit = self.guard.limits.get(device)
            if limit is not None:
                capacity[blocking(device)] = (count - limit.keep) * HORIZON
        return Outlook(demands, capacity)

    def gears_of(self, strand: Strand) -> Gears:
        """The strand's gears at the present prices."""
        known = self._gears.get(strand)
        if known is not None and known[0] == self._version:
            return known[1]
        found = columns(strand, self.guard, self._bonus)
        fresh = gears(strand, found, self._prices, self.guard, self._workers.counts, self._bonus)
        wished = len(strand) / HORIZON + strand.rate
        served = served_share(Demand(0.0, strand.weight, math.inf, found), self._prices)
        strand.drain = max(1e-3, served * wished)
        self._gears[strand] = (self._version, fresh)
        return fresh

    # --- the choice --------------------------------------------------------------------

    def choose(
        self, device: str, now: float, known: dict[tuple[Strand, bool], list[Candidate]]
    ) -> Chosen | None:
        """What the next idle worker of `device` should do; None if waiting is better.

        `known` keeps the candidates of strands that have not changed since the last call at
        the same moment.
        """
        limit = self.guard.limits.get(device, NO_LIMIT)
        free = self._long_runs_may_start(device, limit, now)
        idle = len(self._workers.idle[device])
        waiting = [s for lane in self._lanes.values() if lane.count for s in lane.strands if len(s)]
        candidates: list[tuple[float, Strand, Candidate]] = []
        for strand in waiting:
            found = known.get((strand, free))
            if found is None:
                found = best_batches(strand, self.gears_of(strand), device, now, limit, free, idle)
                known[strand, free] = found
            # Who has waited past the second due time of a late answer waits for no price.
            overdue = strand.lenient and strand.keys[strand.start][0] <= now
            candidates += [
                (c[0], strand, c)
                for c in found
                if overdue or c[0] >= self._least(device, strand, c)
            ]
        if not candidates:
            return None
        # Of equals the one that is due first.
        candidates.sort(key=lambda c: (-round(c[0], DIGITS), c[1].keys[c[2][2]][0]))
        del candidates[MOST_CANDIDATES:]
        if idle > 1:
            return candidates[0][1:]
        return self._least_harm(device, now, candidates, waiting)

    def _least(self, device: str, strand: Strand, candidate: Candidate) -> float:
        """The score from which on a candidate counts as no worse than waiting."""
        _, profile, _, count = candidate
        rows = count * strand.rows
        blocks = profile.p99s[rows] > self.guard.limit(device)
        price = price_of_time(self._prices, device, blocks=blocks)
        doubt = IMPRECISE * price * profile.p50s[rows]
        return -min(doubt, INDIFFERENT * strand.weight * count) - ROUNDING

    def _long_runs_may_start(self, device: str, limit: Limit, now: float) -> bool:
        if limit is NO_LIMIT:
            return True
        return self._workers.free_within(device, now + limit.reach) - 1 >= limit.keep

    def _least_harm(
        self,
        device: str,
        now: float,
        candidates: list[tuple[float, Strand, Candidate]],
        waiting: list[Strand],
    ) -> Chosen:
        """The last idle worker: whoever runs first makes the others wait, so it is the one
        whose run costs them least. What scores above zero loses nothing by coming second,
        unless it is counted as harmed itself."""
        next_free = self._workers.next_free(device) - now
        here = [(s, self.gears_of(s)) for s in waiting if s.gears.get(device)]
        # What everybody loses by so long a delay, and each strand's part of it.
        losses: dict[float, tuple[float, dict[Strand, float]]] = {}
        best: Chosen = candidates[0][1:]
        least = (math.inf, 0.0)

        def consider(strand: Strand, candidate: Candidate) -> None:
            nonlocal best, least
            score, profile, first, count = candidate
            harm = max(0.0, -score)
            delay = min(profile.p99s[count * strand.rows], next_free)
            if delay > 0.0:
                known = losses.get(delay)
                if known is None:
                    parts = {s: loss(s, found, now, delay) for s, found in here}
                    known = losses[delay] = (sum(parts.values()), parts)
                total, parts = known
                harm += total
                if parts[strand]:
                    found = self.gears_of(strand)
                    harm += loss(strand, found, now, delay, (first, first + count)) - parts[strand]
            if (harm, -score) < least:
                least, best = (harm, -score), (strand, candidate)

        for score, strand, candidate in candidates:
            if -score > least[0]:
                break
            consider(strand, candidate)
        if least[0] > 0.0 and self._workers.counts[device] <= FEW_WORKERS:
            # Would a lesser gear of somebody, and less of the worker's time, cost less?
            for _, strand, (_, profile, _, count) in candidates:
                than = profile.p99s[count * strand.rows]
                for candidate in shorter_batches(strand, self.gears_of(strand), device, now, than):
                    consider(strand, candidate)
        return best

    def join(
        self, strand: Strand, profile: Profile, device: str, rows: int, due: float, now: float
    ) -> tuple[list[Key], int, float]:
        """Those first tickets of a sibling that gain by sharing a batch of `rows` rows whose
        members are due at `due`; then the batch's new rows and due time."""
        found = self.gears_of(strand)
        value = worth(strand, profile, self._bonus) + INDIFFERENT * strand.weight
        price = self._prices.get(device, 0.0)
        limit = self.guard.limit(device)
        most = strand.model.max_batch_size
        count = 0
        for key in strand.keys[strand.start : strand.start + (most - rows) // strand.rows]:
            more = rows + strand.rows
            sooner = due if strand.lenient else min(due, key[0])
            longer = profile.p99s[more]
            if now + longer > sooner or longer > limit >= profile.p99s[rows]:
                break
            run = price * (profile.p50s[more] - profile.p50s[rows])
            if value - run < value_of_waiting(found, key[0] - now):
                break
            count, rows, due = count + 1, more, sooner
        return strand.take(strand.start, count) if count else [], rows, due
