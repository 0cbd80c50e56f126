"""The scheduler: which tickets are taken in, and what runs where, and when.

Four events go in, decisions come out; time is always an argument.

- A ticket is refused at the door when no variant could ever answer it (infeasible), or when
  what is queued ahead of it leaves no way to be in time (overloaded).
- A free worker takes the batch that scores best: the worth of its answers, minus what its
  members would be worth if they went on waiting, minus the price of the worker's time
  (`gearshift.core.selector`). Prices come from the planner beside the core; a bad one costs
  accuracy, never a floor or a deadline.
- A run that would lock short-budget tickets out does not start (`gearshift.core.guard`), and
  of two candidates the one goes first whose run costs the others less.
- A ticket whose latest start has passed is dropped before it costs compute; where a late
  answer still has value it goes on waiting, as long as other work is worth more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from gearshift.core.cascade import with_cascades
from gearshift.core.catalog import Catalog, Late, Model
from gearshift.core.decisions import Admitted, Decisions, Dispatch, Drop, Refused
from gearshift.core.guard import sure_end
from gearshift.core.lane import Lane
from gearshift.core.prices import Outlook, Prices
from gearshift.core.profile import Profile, Profiles
from gearshift.core.request import Ticket
from gearshift.core.revision import sorted_anew
from gearshift.core.router import expired, fastest, overloaded
from gearshift.core.scoring import EARLY, Candidate, lag
from gearshift.core.selector import Selector
from gearshift.core.spare import PATIENCE as SPARE_PATIENCE
from gearshift.core.spare import Spare, lendable
from gearshift.core.strand import Key, Strand
from gearshift.core.workers import Workers
from gearshift.errors import Overloaded, RequestError, TooMany

MAX_WAITING = 8192
"""Tickets per lane: bounds memory where budgets are unlimited and nothing ever expires."""

PATIENCE = 10.0
"""Seconds after which a ticket without any budget is treated as if it were due."""

LOOK_AT_LAST = 0.5
"""Seconds without a planner's call after which the core looks itself at how fast tickets come."""

ROUNDING = 1e-9
"""Seconds. Sums of floats may differ by less than this without anybody being late."""


class Scheduler:
    """The core's one stateful object. Not thread-safe: one caller drives it."""

    def __init__(
        self,
        catalog: Catalog,
        profiles: Profiles,
        workers: Mapping[int, str],
        *,
        on_time_bonus: float = 0.0,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        """`workers` maps each worker's id to its device. `on_time_bonus` is what an answer in
        time is worth beside its accuracy, as a share of the best accuracy: more of it trades
        accuracy for answers in time. `max_waiting`: tickets per lane."""
        self._max_waiting = max_waiting
        self._workers = Workers(workers)
        self._lanes: dict[str, Lane] = {}
        for name, model in catalog.models.items():
            # Only what some worker can run counts: a fast variant on an absent device helps nobody.
            runnable = [p for p in profiles.everywhere(name) if p.device in self._workers.counts]
            if not runnable:
                devices = ", ".join(sorted(self._workers.counts)) or "no workers"
                raise ValueError(f"model {name!r} runs on none of the workers' devices ({devices})")
            self._lanes[name] = Lane(model, with_cascades(model, runnable))
        self.waiting = 0
        """How many tickets wait in all lanes."""
        # Where a ticket waits, for who cancels it. What was dispatched since the last look is
        # still in it: to take it out would be a good part of what a dispatch costs.
        self._places: dict[int, tuple[Strand, Key]] = {}
        self._left: list[list[Key]] = []
        self._running: dict[int, tuple[int, str, Profile, int]] = {}
        self._next_dispatch = 0
        self._selector = Selector(self._lanes, self._workers, on_time_bonus)
        self._looked_at = -math.inf
        self._expires_at = -math.inf
        """Until then no ticket's latest start passes."""
        self._lost = 0
        """Tickets dropped since the last look."""
        self._spare = Spare()

    # --- events ------------------------------------------------------------------------

    def admit(self, ticket: Ticket, now: float) -> Admitted | Refused:
        """Take the ticket into its lane, or say why not."""
        lane = self._lanes[ticket.model]
        if self._looked_at == -math.inf:
            self._begin(now)
        budget = ticket.deadline - ticket.arrival
        patient = budget == math.inf
        canary = lane.draw(ticket) if lane.canaries else None
        key = lane.key(ticket, lenient=patient, canary=canary)
        strand = lane.find(key)
        try:
            if strand is None or (strand.quickest > budget and ticket.late is Late.DROP):
                if canary is None:
                    # Raises with the nearest that would work, if none does.
                    fastest(ticket, lane.model, lane.runnable)
                strand = lane.strand(key)
                self._selector.set_guard(now)
            strand.arrive(budget, now)
            self._check_room(ticket, lane, strand, now)
        except Overloaded as error:
            return Refused(error, 0.0 if strand is None else strand.missed(ticket))
        except RequestError as error:
            return Refused(error)
        due = ticket.arrival + PATIENCE if patient else ticket.deadline
        self._add(ticket, strand, due)
        lane.count += 1
        self.waiting += 1
        return strand.admitted(budget)

    def cancel(self, ticket_id: int, now: float) -> None:
        """The caller left. A waiting ticket gives up its place; one that runs, or that is
        already settled, is the engine's to forget."""
        strand, key = self._places.get(ticket_id, (None, None))
        if strand is not None and key is not None and strand.remove(key):
            del self._places[ticket_id]
            self._lanes[strand.model.name].count -= 1
            self.waiting -= 1

    def finished(self, dispatch_id: int, now: float, measured: float) -> None:
        """A worker is free again; `measured` is the true duration in seconds."""
        worker, model, profile, rows = self._running.pop(dispatch_id)
        self._workers.end(worker, now)
        if profile.observe(rows, measured, now):
            self._relearn(model)

    def revise(self, model: Model, now: float) -> list[Drop]:
        """Go on with what is now known of this model's variants (`gearshift.core.revision`):
        who waits for one that no longer reaches the ticket's floor is told so."""
        old = self._lanes[model.name]
        found = sorted_anew(old, model)
        self._lanes[model.name] = found.lane
        self._places.update(found.places)
        for ticket, _ in found.refused:
            del self._places[ticket.id]
        self.waiting += found.lane.count - old.count
        self._selector.replaced(old)
        if self._looked_at > -math.inf:
            found.lane.expect_classes(now)
            self._selector.set_guard(now)
        self._expires_at = -math.inf
        return [Drop(ticket, error) for ticket, error in found.refused]

    def set_prices(self, prices: Prices) -> None:
        """What a second of a worker's time is worth, by resource (`gearshift.core.prices`).

        A missing, negative or non-finite price counts as 0.
        """
        self._selector.set_prices(prices)

    def outlook(self, now: float) -> Outlook:
        """What waits and what is expected, for the planner; it calls this every PLAN_EVERY
        seconds, and what takes its time is done here, off the way of a request."""
        for name, lane in self._lanes.items():
            # A list, because every profile is to be settled, not only the first that changes.
            if sum([profile.settle(now) for profile in lane.runnable]):
                self._relearn(name)
        self._look(now)
        return self._selector.outlook()

    def decide(self, now: float) -> Decisions:
        """Everything that should happen at `now`, and when to ask again."""
        if now - self._looked_at >= LOOK_AT_LAST:
            self._look(now)
        actions: list[Dispatch | Drop] = []
        if self.waiting:
            if now >= self._expires_at:
                self._expire(now, actions)
            for device, idle in self._workers.idle.items():
                if idle and self.waiting:
                    self._fill(device, now, actions)
        if self._spare and not self.waiting:
            self._lend(now, actions)
        return Decisions(tuple(actions), self._wake_at(now) if self.waiting else math.inf)

    def offer(self, ticket: Ticket) -> Ticket | None:
        """Run this ticket, pinned to a variant, in spare time if there is any soon. Returns
        another one that is given up for it."""
        return self._spare.offer(ticket)

    # --- looking -----------------------------------------------------------------------

    def _begin(self, now: float) -> None:
        """The first ticket: until then nobody needs to know the time."""
        for lane in self._lanes.values():
            lane.expect_classes(now)
        self._look(now)

    def _look(self, now: float) -> None:
        """How fast do tickets come, and whom must long runs not lock out?"""
        elapsed = now - self._looked_at
        if elapsed <= 0.0:
            return
        self._looked_at = now
        for keys in self._left:
            for key in keys:
                del self._places[key[1]]
        self._left.clear()
        if elapsed < math.inf:
            for lane in self._lanes.values():
                lane.forget(now)
                for strand in lane.strands:
                    strand.look(elapsed)
        self._selector.doubt_prices(self._workers.idle_shares(now), lost=self._lost > 0)
        self._lost = 0
        self._selector.set_guard(now)

    def _relearn(self, model: str) -> None:
        self._selector.relearn(model)
        self._expires_at = -math.inf

    # --- the queue ---------------------------------------------------------------------

    def _add(self, ticket: Ticket, strand: Strand, due: float) -> None:
        key = (due, ticket.id, ticket)
        strand.add(key)
        self._places[ticket.id] = (strand, key)
        if not strand.lenient and due - strand.quickest - EARLY < self._expires_at:
            self._expires_at = due - strand.quickest - EARLY

    def _expire(self, now: float, actions: list[Dispatch | Drop]) -> None:
        for lane in self._lanes.values():
            if not lane.count:
                continue
            for strand in tuple(lane.strands):
                if strand.lenient:
                    continue
                for _, ticket_id, ticket in strand.due_before(now + strand.quickest):
                    if ticket.late is Late.SERVE:
                        second = lane.strand(lane.key(ticket, lenient=True))
                        self._add(ticket, second, ticket.deadline + ticket.budget)
                        continue
                    del self._places[ticket_id]
                    lane.count -= 1
                    self.waiting -= 1
                    self._lost += not ticket.fallback
                    error = expired(ticket, strand.quickest, now)
                    actions.append(Drop(ticket, error, strand.missed(ticket)))

    def _check_room(self, ticket: Ticket, lane: Lane, strand: Strand, now: float) -> None:
        """Overloaded if what is queued ahead leaves no way to be in time."""
        if lane.count >= self._max_waiting:
            raise TooMany(
                f"model {ticket.model!r} has {self._max_waiting} requests waiting, as many as may"
                f" (setting max_queue); try again later",
                retry_after=1.0,
            )
        if strand.lenient:
            return
        start, usable = math.inf, 0
        for device in strand.gears:
            usable += self._workers.counts[device]
            if self._workers.idle[device]:
                start = now
            else:
                start = min(start, max(now, self._workers.next_free(device)))
        before = strand.count_until(ticket.deadline)
        ahead = before * strand.least_cost / usable
        missing = start + ahead + strand.quickest - ticket.deadline
        if missing > ROUNDING and ticket.late is Late.DROP:
            raise overloaded(ticket, before, usable, start - now, missing)

    # --- dispatch ----------------------------------------------------------------------

    def _fill(self, device: str, now: float, actions: list[Dispatch | Drop]) -> None:
        """Give work to the idle workers of `device` for as long as some is worth it."""
        idle = self._workers.idle[device]
        known: dict[tuple[Strand, bool], list[Candidate]] = {}
        while idle and self.waiting:
            chosen = self._selector.choose(device, now, known)
            if chosen is None:
                return
            strand, candidate = chosen
            actions.append(self._dispatch(device, strand, candidate, now))
            if known:
                # Its siblings may have filled the batch up.
                for sibling in self._lanes[strand.model.name].strands:
                    known.pop((sibling, False), None)
                    known.pop((sibling, True), None)

    def _dispatch(self, device: str, strand: Strand, candidate: Candidate, now: float) -> Dispatch:
        _, profile, first, count = candidate
        lane = self._lanes[strand.model.name]
        keys = strand.take(first, count)
        strand.dispatched(keys, now)
        better = lane.better(profile, strand.rows)
        rows = count * strand.rows
        due = math.inf if strand.lenient else keys[0][0]
        for sibling in lane.strands:
            if sibling is not strand and len(sibling) and profile in sibling.gears.get(device, ()):
                joining, rows, due = self._selector.join(sibling, profile, device, rows, due, now)
                keys = keys + joining
        strand.batch = rows
        self._left.append(keys)
        tickets = tuple([key[2] for key in keys])
        lane.count -= len(tickets)
        self.waiting -= len(tickets)
        worker = self._begin_run(strand.model, profile, rows, now)
        # By position: the call is several times as fast.
        return Dispatch(self._next_dispatch, worker, strand.model, profile, tickets, rows, better)

    def _begin_run(self, model: Model, profile: Profile, rows: int, now: float) -> int:
        """A worker for the next dispatch."""
        self._next_dispatch += 1
        runs = profile.runs
        p99 = runs.p99s[rows]
        surely = sure_end(runs.p50s[rows], p99)
        worker = self._workers.begin(profile.device, now, now + p99, now + surely)
        self._running[self._next_dispatch] = (worker, model.name, runs, rows)
        return worker

    def _lend(self, now: float, actions: list[Dispatch | Drop]) -> None:
        """Start what nobody waits for, where nobody would have to wait for it."""
        while self._spare and now - self._spare.next().arrival > SPARE_PATIENCE:
            ticket = self._spare.pop()
            actions.append(Drop(ticket, expired(ticket, 0.0, now)))
        if not self._spare:
            return
        ticket = self._spare.next()
        lane = self._lanes[ticket.model]
        for profile in lane.runnable:
            limit = self._selector.guard.on(profile.device)
            if profile.variant.name == ticket.variant and lendable(
                profile, ticket.rows, self._workers, limit, now
            ):
                self._spare.pop()
                worker = self._begin_run(lane.model, profile, ticket.rows, now)
                actions.append(
                    Dispatch(
                        id=self._next_dispatch,
                        worker=worker,
                        model=lane.model,
                        profile=profile,
                        tickets=(ticket,),
                        rows=ticket.rows,
                        spare=True,
                    )
                )
                return

    # --- when to ask again -------------------------------------------------------------

    def _wake_at(self, now: float) -> float:
        """The next moment at which a decision could differ though nothing has happened."""
        wake = expires_at = math.inf
        any_idle = self._workers.any_idle()
        for lane in self._lanes.values():
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
                    found = self._selector.gears_of(strand)
                    due -= lag(strand, found, now)
                    for need in reversed(found.needs):
                        if due - need > now:
                            wake = min(wake, due - need)
                            break
        self._expires_at = expires_at - EARLY
        wake = min(wake, expires_at)
        if any_idle:
            for device, limit in self._selector.guard.limits.items():
                if self._workers.idle[device]:
                    enough = self._workers.enough_free_at(device, limit.keep + 1) - limit.reach
                    if now < enough:
                        wake = min(wake, enough)
        return max(wake, now) + ROUNDING
