"""The selector: which tickets a free worker should take, in which gear.

Holds what the choice rests on between two decisions: prices, the guard's limits, and each
strand's gears as worked out from both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from copy import copy

from gearshift.core.columns import Column, columns, worth
from gearshift.core.gears import Gears, gears
from gearshift.core.guard import NO_LIMIT, Guard, Limit, guard
from gearshift.core.harm import (
    ALIKE,
    MOST_CANDIDATES,
    Chosen,
    Scored,
    bar,
    by_score,
    in_order,
    least_harm,
    longest,
)
from gearshift.core.lane import Lane
from gearshift.core.lanes import Lanes
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
    EARLY,
    Candidate,
    best_batches,
    calm,
    calm_batch,
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

ROUNDING = 1e-9
"""What is left of sums of floats that should be zero."""

FEW_WORKERS = 4
"""Up to so many workers of a device, who runs next is everybody's business."""


class Selector:
    """Chooses among the strands of all lanes. `bonus` is what being in time is worth."""

    def __init__(self, lanes: Lanes, workers: Workers, bonus: float) -> None:
        self.guard = Guard()
        self._lanes = lanes
        self._workers = workers
        self._bonus = bonus
        self._told: Prices = {}
        self._trust = dict.fromkeys(workers.counts, 1.0)
        self._prices: Prices = {}
        self._doubted = False
        """Prices are believed more or less than when they were applied."""
        # Worked out from the present prices, and from the guard's limits.
        self._gears: dict[Strand, Gears] = {}
        self._columns: dict[Strand, list[Column]] = {}

    def copy(self, lanes: Lanes, workers: Workers) -> Selector:
        """The same for copies of the lanes and the workers, going on apart from this."""
        copied = copy(self)
        copied._lanes, copied._workers, copied._trust = lanes, workers, dict(self._trust)
        # Strands in the same order on both sides; what no lane knows any more needs no copy.
        twins = dict(zip(self.strands(), copied.strands(), strict=True))
        copied._gears = {twins[s]: known for s, known in self._gears.items() if s in twins}
        copied._columns = {twins[s]: known for s, known in self._columns.items() if s in twins}
        return copied

    def strands(self) -> Iterator[Strand]:
        for lane in self._lanes.every:
            yield from lane.strands

    # --- what the choice rests on ------------------------------------------------------

    def set_prices(self, prices: Prices) -> None:
        self._told = {name: price for name, price in prices.items() if 0 <= price < math.inf}
        self._apply_prices()

    def doubt_prices(self, idle_shares: Mapping[str, float], *, lost: bool) -> None:
        """Believe a device's prices less if its workers idle while tickets are lost: they must
        be too high. Believe them again when that is over. Workers that the guard keeps from
        long runs do not idle for the prices' sake.

        It tells with the next prices, which come at once where a planner is alive, or with the
        next call."""
        if self._doubted:
            self._apply_prices()
        trust = {
            device: max(LEAST_TRUST, before / 2.0)
            if lost and 1.0 - idle_shares[device] < self.guard.on(device).others * (1.0 - IDLE)
            else min(1.0, before * 1.05)
            for device, before in self._trust.items()
        }
        if trust != self._trust:
            self._trust = trust
            self._doubted = True

    def _apply_prices(self) -> None:
        self._doubted = False
        self._prices = {}
        for name, price in self._told.items():
            device = name.partition("/")[0]
            self._prices[name] = min(price, self._most(device)) * self._trust.get(device, 1.0)
        self._gears.clear()
        # Here and not when they are needed: this call is not on the way of a request.
        for strand in self.strands():
            if len(strand) or strand.rate > 0.0:
                gears = self.gears_of(strand)
                for device in gears.options if len(strand) else ():
                    limit = self.guard.limits.get(device, NO_LIMIT)
                    for free in (True,) if limit is NO_LIMIT else (True, False):
                        calm_batch(gears, device, limit, free, len(strand), len(strand))

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
        self._columns.clear()
        self._gears = {s: known for s, known in self._gears.items() if len(s) or s.live(now)}
        for known in self._gears.values():
            known.calm.clear()

    def employed(self) -> None:
        """There are other workers than before."""
        for device in self._workers.counts:
            self._trust.setdefault(device, 1.0)
        self._gears.clear()
        self._columns.clear()

    def relearn(self, lane: Lane) -> None:
        """A profile of this lane has changed."""
        lane.relearn()
        for strand in lane.strands:
            self._gears.pop(strand, None)
            self._columns.pop(strand, None)

    def replaced(self, lane: Lane) -> None:
        """This lane is here no longer: another has come in its place, or nothing is left in it."""
        for strand in lane.strands:
            self._gears.pop(strand, None)
            self._columns.pop(strand, None)

    def outlook(self) -> Outlook:
        """What waits and what is expected, for the planner."""
        demands = []
        for strand in self.strands():
            if strand.rate > 0.0 or len(strand):
                backlog = max(0.0, len(strand) - QUEUE_SHARE * strand.budget * strand.rate)
                count = backlog + strand.rate * HORIZON
                found = self._columns[strand] = columns(strand, self.guard, self._bonus)
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
        if known is not None:
            return known
        found = self._columns.get(strand)
        if found is None:
            found = columns(strand, self.guard, self._bonus)
        fresh = gears(strand, found, self._prices, self.guard, self._workers.counts, self._bonus)
        wished = len(strand) / HORIZON + strand.rate
        served = served_share(Demand(0.0, strand.weight, math.inf, found), self._prices)
        strand.drain = max(1e-3, served * wished)
        strand.calm_until = -math.inf
        self._gears[strand] = fresh
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
        # Few strands are looked at one by one: bounds first would only cost time.
        many = idle == 1 and len(self._gears) > MOST_CANDIDATES
        waiting: list[Strand] = []
        candidates: list[Scored] = []
        # Strands of which it is known without a closer look what they score at the most.
        bounded: list[tuple[float, int, Strand, Gears]] = []
        calm_until = math.inf
        for lane in self._lanes.every:
            if not lane.count:
                continue
            for strand in lane.strands:
                keys, start = strand.keys, strand.start
                if start == len(keys):
                    continue
                waiting.append(strand)
                place = len(waiting)
                gears = self._gears.get(strand) or self.gears_of(strand)
                if keys[start][0] - gears.enough < calm_until:
                    calm_until = keys[start][0] - gears.enough
                found = known.get((strand, free)) if known else None
                if found is None:
                    if many and calm(strand, gears, now):
                        bounded.append((gears.crest(device, len(strand)), place, strand, gears))
                        continue
                    found = best_batches(strand, gears, device, now, limit, free, idle)
                    if idle > 1:
                        known[strand, free] = found
                if found:
                    self._enter(candidates, device, now, place, strand, found)
        if bounded:
            # One more than the best is looked at only if it could still be one of them.
            bounded.sort(key=by_score, reverse=True)
            for bound, place, strand, gears in bounded:
                if len(candidates) >= MOST_CANDIDATES and bound < bar(candidates):
                    break
                found = best_batches(strand, gears, device, now, limit, free, idle)
                self._enter(candidates, device, now, place, strand, found)
        if not candidates:
            return None
        highest = candidates[0][0] if len(candidates) == 1 else max(candidates, key=by_score)[0]
        alike = [scored for scored in candidates if scored[0] >= highest - ALIKE]
        if idle > 1:
            return in_order(alike)[0][2:]
        next_free = self._workers.next_free(device)
        in_haste: list[tuple[Strand, Gears]] = []
        if calm_until < next_free + EARLY:
            # No candidate keeps the others waiting for longer than that.
            until = min(next_free, now + longest(candidates)) + EARLY
            for strand in waiting if calm_until < until else ():
                gears = self.gears_of(strand)
                if device in gears.options and strand.keys[strand.start][0] - gears.enough < until:
                    in_haste.append((strand, gears))
        if not in_haste and min([scored[0] for scored in alike]) >= 0.0:
            return max(in_order(alike), key=by_score)[2:]
        few = self._workers.counts[device] <= FEW_WORKERS
        return least_harm(
            in_order(candidates),
            in_haste,
            self.gears_of,
            device,
            now,
            next_free - now,
            math.inf if free else limit.reach,
            lesser=few,
        )

    def _enter(
        self,
        candidates: list[Scored],
        device: str,
        now: float,
        place: int,
        strand: Strand,
        found: list[Candidate],
    ) -> None:
        """Those of a strand's candidates that are no worse than waiting."""
        for candidate in found:
            score = candidate[0]
            if (
                score >= 0.0
                # Who has waited past the second due time of a late answer waits for no price.
                or (strand.lenient and strand.keys[strand.start][0] <= now)
                or score >= self._least(device, strand, candidate)
            ):
                candidates.append((score, place, strand, candidate))

    def _least(self, device: str, strand: Strand, candidate: Candidate) -> float:
        """The score from which on a candidate counts as no worse than waiting."""
        _, profile, _, count = candidate
        rows = count * strand.rows
        p50 = profile.p50s[rows]
        length = self.guard.on(device).length(p50, profile.runs.p99s[rows])
        doubt = IMPRECISE * price_of_time(self._prices, device, length) * p50
        return -min(doubt, INDIFFERENT * strand.weight * count) - ROUNDING

    def _long_runs_may_start(self, device: str, limit: Limit, now: float) -> bool:
        if limit is NO_LIMIT:
            return True
        return self._workers.free_within(device, now + limit.reach) - 1 >= limit.keep

    def join(
        self, strand: Strand, profile: Profile, device: str, rows: int, due: float, now: float
    ) -> tuple[list[Key], int, float]:
        """Those first tickets of a sibling that gain by sharing a batch of `rows` rows whose
        members are due at `due`; then the batch's new rows and due time."""
        found = self.gears_of(strand)
        value = worth(strand, profile, self._bonus) + INDIFFERENT * strand.weight
        price = self._prices.get(device, 0.0)
        limit = self.guard.limit(device)
        most, runs = profile.max_batch, profile.runs.p99s
        count = 0
        for key in strand.keys[strand.start : strand.start + (most - rows) // strand.rows]:
            more = rows + strand.rows
            sooner = due if strand.lenient else min(due, key[0])
            if now + profile.p99s[more] > sooner or runs[more] > limit >= runs[rows]:
                break
            run = price * (profile.p50s[more] - profile.p50s[rows])
            if value - run < value_of_waiting(found, key[0] - now):
                break
            count, rows, due = count + 1, more, sooner
        return strand.take(strand.start, count) if count else [], rows, due
