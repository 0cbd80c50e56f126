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

from gearshift.core.catalog import Catalog, Late, Model
from gearshift.core.decisions import Admitted, Decisions, Dispatch, Drop, Refused
from gearshift.core.guard import sure_end
from gearshift.core.lane import Away, Lane, Out
from gearshift.core.lanes import Lanes
from gearshift.core.limits import MAX_QUEUE
from gearshift.core.prices import Outlook, Prices
from gearshift.core.profile import Profile, Profiles
from gearshift.core.request import Ticket
from gearshift.core.revision import sorted_anew
from gearshift.core.room import check_room, refusal
from gearshift.core.router import expired
from gearshift.core.scoring import EARLY, Candidate
from gearshift.core.selector import Selector
from gearshift.core.spare import Spare
from gearshift.core.strand import Key, Strand
from gearshift.core.waking import wake_at
from gearshift.core.workers import Workers
from gearshift.errors import Overloaded, RequestError

PATIENCE = 10.0
"""Seconds after which a ticket without any budget is treated as if it were due."""

LOOK_AT_LAST = 0.5
"""Seconds without a planner's call after which the core looks itself at how fast tickets come."""


class Scheduler:
    """The core's one stateful object. Not thread-safe: one caller drives it."""

    def __init__(
        self,
        catalog: Catalog,
        profiles: Profiles,
        workers: Mapping[int, str],
        *,
        on_time_bonus: float = 0.0,
        max_waiting: int = MAX_QUEUE,
    ) -> None:
        """`workers` maps each worker's id to its device. `on_time_bonus` is what an answer in
        time is worth beside its accuracy, as a share of the best accuracy: more of it trades
        accuracy for answers in time. `max_waiting`: tickets per lane."""
        self._max_waiting = max_waiting
        self._workers = Workers(workers)
        self._lanes = Lanes()
        self._lanes.exchange(catalog.models, profiles, self._workers.counts)
        self.waiting = 0
        """How many tickets wait in all lanes."""
        # Where a ticket waits, for who cancels it. What was dispatched since the last look is
        # still in it: to take it out would be a good part of what a dispatch costs.
        self._places: dict[int, tuple[Strand, Key]] = {}
        self._left: list[list[Key]] = []
        self._running: dict[int, tuple[int, Model, Profile, int]] = {}
        self._next_dispatch = 0
        self._selector = Selector(self._lanes, self._workers, on_time_bonus)
        self._looked_at = -math.inf
        self._expires_at = -math.inf
        """Until then no ticket's latest start passes."""
        self._lost = 0
        """Tickets dropped since the last look."""
        self._spare = Spare()

    # --- events ------------------------------------------------------------------------

    def admit(self, ticket: Ticket, now: float, *, tries: bool = True) -> Admitted | Refused:
        """Take the ticket into its lane, or say why not. Some tickets try a variant that others do
        not get (`Lane.draw`), unless that is not to be."""
        lane = self._lanes.at(ticket.model, ticket.generation)
        if self._looked_at == -math.inf:
            self._begin(now)
        budget = ticket.deadline - ticket.arrival
        patient = budget == math.inf
        canary, trial = lane.draw(ticket, now) if tries and lane.draws else (None, False)
        key = lane.key(ticket, lenient=patient, canary=canary, trial=trial)
        strand = lane.find(key)
        try:
            if strand is None or (strand.quickest > budget and ticket.late is Late.DROP):
                if canary is None:
                    # Raises with the nearest that would work, if none does.
                    lane.check(ticket, now)
                strand = lane.strand(key)
                self._selector.set_guard(now)
            if ticket.without is None:
                strand.arrive(budget, now)
            check_room(ticket, lane, strand, self._lanes, self._workers, now, self._max_waiting)
        except Overloaded as error:
            if canary is not None:
                # There is no room for that, but perhaps for what all others get.
                return self.admit(ticket, now, tries=False)
            return Refused(error, 0.0 if strand is None else strand.missed(ticket))
        except RequestError as error:
            return Refused(error)
        due = ticket.arrival + PATIENCE if patient else ticket.deadline
        self._add(ticket, strand, due)
        lane.count += 1
        self.waiting += 1
        return strand.admitted(budget)

    def refusal(self, ticket: Ticket, now: float) -> RequestError | None:
        """What `admit` would refuse such a ticket for at this moment; nothing changes."""
        return refusal(ticket, self._lanes, self._workers, now, self._max_waiting)

    def cancel(self, ticket_id: int, now: float) -> None:
        """The caller left. A waiting ticket gives up its place; one that runs, or that is
        already settled, is the engine's to forget."""
        strand, key = self._places.get(ticket_id, (None, None))
        if strand is not None and key is not None and strand.remove(key):
            del self._places[ticket_id]
            self._lanes.of(strand.model).count -= 1
            self.waiting -= 1

    def finished(self, dispatch_id: int, now: float, measured: float) -> None:
        """A worker is free again; `measured` is the true duration in seconds. A run whose worker
        was replaced is over already: when it comes to its end after all, nothing happens."""
        run = self._running.pop(dispatch_id, None)
        if run is None:
            return
        worker, model, profile, rows = run
        self._workers.end(worker, now)
        if profile.observe(rows, measured, now):
            self._relearn(self._lanes.of(model))

    def revise(self, model: Model, now: float) -> list[Drop]:
        """Go on with what is now known of this model's variants (`gearshift.core.revision`):
        who waits for one that no longer reaches the ticket's floor is told so."""
        old = self._lanes.of(model)
        return self._sort(old, model, old.out, now)

    def take_out(self, model: Model, out: Out, now: float) -> list[Drop]:
        """Run nothing on these profiles of the model's, but for trials (`gearshift.core.breaker`);
        on all others again. Who waits for none of those is told so."""
        old = self._lanes.of(model)
        return self._sort(old, old.model, out, now)

    def reside(self, model: Model, away: Away, now: float) -> list[Drop]:
        """Only what is not `away` is loaded from now on (`gearshift.core.residency`). Who waits
        may still run on what begins to leave; whom nothing is left for is told so."""
        return self._sort(old := self._lanes.of(model), old.model, old.out, now, away)

    def lane(self, model: Model) -> Lane:
        """The queue of the model's generation, to be looked at."""
        return self._lanes.of(model)

    def in_use(self, model: Model, profile: Profile) -> bool:
        """Whether something runs on this profile that leaves, or waits that may."""
        running = any(runs is profile for _, _, runs, _ in self._running.values())
        return running or self._lanes.of(model).needs(profile)

    def _sort(
        self, old: Lane, model: Model, out: Out, now: float, away: Away | None = None
    ) -> list[Drop]:
        found = sorted_anew(old, model, out, now, away)
        self._lanes.replace(found.lane)
        self._places.update(found.places)
        for ticket, _ in found.refused:
            del self._places[ticket.id]
        self.waiting += found.lane.count - old.count
        self._selector.replaced(old)
        if self._looked_at > -math.inf:
            if self._lanes.serves(model.name, model.generation):
                found.lane.expect_classes(now)
            self._selector.set_guard(now)
        self._expires_at = -math.inf
        return [Drop(ticket, error) for ticket, error in found.refused]

    def exchange(self, models: Mapping[str, Model], profiles: Profiles, now: float) -> list[Ticket]:
        """Serve these models from now on, and no others. One of the generation that is served
        stays as it is. Of the others, and of those that are gone, the tickets that they have are
        decided as before, in a lane that takes no new ones, until `retire`.

        Returns tickets for spare time that are given up. ValueError, and nothing has changed, if a
        model runs on none of the workers' devices, or if its generation has not been retired.
        """
        found = self._lanes.exchange(models, profiles, self._workers.counts)
        begun = self._looked_at > -math.inf
        for lane, before in found.fresh:
            if before is not None:
                lane.inherit(before)
                lane.learn_from(before)
            if begun:
                lane.expect_classes(now)
        given_up = []
        for lane in found.leaving:
            lane.leave()
            given_up += self._spare.give_up(lane.model.name, lane.model.generation)
        if begun:
            self._selector.set_guard(now)
        return given_up

    def retire(self, model: Model) -> None:
        """Nothing is left of this generation, which takes no tickets any more: none waits, runs,
        or will go on in a cascade."""
        self._forget_left()
        self._selector.replaced(self._lanes.retire(model))

    def employ(self, worker: int, device: str, now: float, *, first: bool = False) -> None:
        """One more worker; of a new device, before all others if `first`. ValueError if the number
        is taken, or there are too many."""
        self._workers.add(worker, device, now, first=first)
        self._selector.employed()

    def replace_worker(self, lost: int, new: int, now: float) -> int | None:
        """A worker is lost; another one takes its place, on the same device. The run that it was
        lost with is over, and teaches nothing: returns the number of its dispatch, if there was
        one. ValueError, and nothing has changed, if one is not known or the other known already."""
        self._workers.add(new, self._workers.device_of(lost), now)
        self._workers.remove(lost, now)
        for dispatch_id, (worker, *_) in self._running.items():
            if worker == lost:
                del self._running[dispatch_id]
                return dispatch_id
        return None

    def set_prices(self, prices: Prices) -> None:
        """What a second of a worker's time is worth, by resource (`gearshift.core.prices`).

        A missing, negative or non-finite price counts as 0.
        """
        self._selector.set_prices(prices)

    def outlook(self, now: float) -> Outlook:
        """What waits and what is expected, for the planner; it calls this every PLAN_EVERY
        seconds, and what takes its time is done here, off the way of a request."""
        for lane in self._lanes.every:
            # A list, because every profile is to be settled, not only the first that changes.
            if sum([profile.settle(now) for profile in lane.runnable]):
                self._relearn(lane)
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
        if not self.waiting:
            return Decisions(tuple(actions), math.inf)
        wake, self._expires_at = wake_at(self._lanes, self._workers, self._selector, now)
        return Decisions(tuple(actions), wake)

    def offer(self, ticket: Ticket) -> Ticket | None:
        """Run this ticket, pinned to a variant, in spare time if there is any soon. Returns
        another one that is given up for it, or this one if its generation leaves."""
        if not self._lanes.serves(ticket.model, ticket.generation):
            return ticket
        return self._spare.offer(ticket)

    # --- looking -----------------------------------------------------------------------

    def _begin(self, now: float) -> None:
        """The first ticket: until then nobody needs to know the time."""
        for lane in self._lanes.every:
            lane.expect_classes(now)
        self._look(now)

    def _look(self, now: float) -> None:
        """How fast do tickets come, and whom must long runs not lock out?"""
        elapsed = now - self._looked_at
        if elapsed <= 0.0:
            return
        self._looked_at = now
        self._forget_left()
        if elapsed < math.inf:
            for lane in self._lanes.every:
                lane.forget(now)
                for strand in lane.strands:
                    strand.look(elapsed)
        self._selector.doubt_prices(self._workers.idle_shares(now), lost=self._lost > 0)
        self._lost = 0
        self._selector.set_guard(now)

    def _forget_left(self) -> None:
        for keys in self._left:
            for key in keys:
                del self._places[key[1]]
        self._left.clear()

    def _relearn(self, lane: Lane) -> None:
        self._selector.relearn(lane)
        self._expires_at = -math.inf

    # --- the queue ---------------------------------------------------------------------

    def _add(self, ticket: Ticket, strand: Strand, due: float) -> None:
        key = (due, ticket.id, ticket)
        strand.add(key)
        self._places[ticket.id] = (strand, key)
        if not strand.lenient and due - strand.quickest - EARLY < self._expires_at:
            self._expires_at = due - strand.quickest - EARLY

    def _expire(self, now: float, actions: list[Dispatch | Drop]) -> None:
        for lane in self._lanes.every:
            if not lane.count:
                continue
            for strand in tuple(lane.strands):
                if strand.lenient:
                    continue
                for _, ticket_id, ticket in strand.due_before(now + strand.quickest):
                    if ticket.late is Late.SERVE:
                        later = lane.late(ticket, strand)
                        if later is not None:
                            self._add(ticket, later, ticket.deadline + ticket.budget)
                            continue
                    del self._places[ticket_id]
                    lane.count -= 1
                    self.waiting -= 1
                    self._lost += not ticket.fallback
                    error = expired(ticket, strand.quickest, now)
                    actions.append(Drop(ticket, error, strand.missed(ticket)))

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
                for sibling in self._lanes.of(strand.model).strands:
                    known.pop((sibling, False), None)
                    known.pop((sibling, True), None)

    def _dispatch(self, device: str, strand: Strand, candidate: Candidate, now: float) -> Dispatch:
        _, profile, first, count = candidate
        lane = self._lanes.of(strand.model)
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
        self._running[self._next_dispatch] = (worker, model, runs, rows)
        return worker

    def _lend(self, now: float, actions: list[Dispatch | Drop]) -> None:
        """Start what nobody waits for, where nobody would have to wait for it."""
        actions += self._spare.expired(now)
        found = self._spare.lend(self._lanes, self._workers, self._selector.guard, now)
        if found is None:
            return
        ticket, lane, profile = found
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
