"""The scheduler: takes tickets in, and decides which variant runs which batch where.

The contract is `admit`, `cancel`, `finished`, `set_prices` and `decide`; time comes in as
an argument and nothing else does, so the same code runs under the server and under virtual
time. The rules:

- Admission refuses what cannot be in time: not even on an idle server (infeasible), or not
  behind the work that is due before it (overloaded).
- A free worker serves the lane whose head must start first. The batch begins at the first
  ticket in deadline order that can still be served in time, and the most accurate variant
  wins whose run every member's deadline allows *and* whose time the other waiting tickets
  can spare (the demand bound of earliest-deadline-first scheduling: by every moment, the
  work that is due must fit into what the workers can do until then).
- A ticket whose latest start has passed is dropped before it costs compute; where a late
  answer still has value it goes on waiting behind those that can be in time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from gearshift.core.backlog import Backlog
from gearshift.core.catalog import Catalog, Late, Model
from gearshift.core.lane import Entry, Lane
from gearshift.core.profile import Profile, Profiles
from gearshift.core.request import Ticket
from gearshift.core.router import Reason, fastest, reason_for
from gearshift.errors import DeadlineExpired, Overloaded, RequestError

MAX_WAITING = 8192
"""Tickets per lane: bounds memory where budgets are unlimited and nothing ever expires."""

ROUNDING = 1e-9
"""Seconds. Sums of floats may differ by less than this without anybody being late."""

LOOK_AHEAD = 256
"""Tickets looked at behind the leader: bounds a decision where floors differ widely."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """The ticket is in its lane."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The ticket was not taken in; `error` says why."""

    error: RequestError


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """Run these tickets as one batch of `variant` on `worker`, in this order."""

    id: int
    worker: int
    model: Model
    profile: Profile
    tickets: tuple[Ticket, ...]
    reasons: tuple[Reason, ...]
    rows: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Settle this ticket with `error`; it will not run."""

    ticket: Ticket
    error: RequestError


@dataclass(frozen=True, slots=True)
class Decisions:
    """What to carry out now, and when to ask again at the latest (inf: on the next event)."""

    actions: tuple[Dispatch | Drop, ...]
    wake_at: float


class Scheduler:
    """The core's one stateful object. Not thread-safe: one caller drives it."""

    def __init__(self, catalog: Catalog, profiles: Profiles, workers: Mapping[int, str]) -> None:
        """`workers` maps each worker's id to its device."""
        self._catalog = catalog
        self._profiles = profiles
        self._device = dict(workers)
        devices = set(workers.values())
        # Only what some worker can run counts: a fast variant on an absent device helps nobody.
        self._runnable = {
            name: tuple(p for p in profiles.everywhere(name) if p.device in devices)
            for name in catalog.models
        }
        for name, runnable in self._runnable.items():
            if not runnable:
                raise ValueError(
                    f"model {name!r} runs on none of the workers' devices"
                    f" ({', '.join(sorted(devices)) or 'no workers'})"
                )
        self._idle: dict[int, None] = dict.fromkeys(workers)
        self._free_at = dict.fromkeys(workers, -math.inf)
        self._lanes = {name: Lane(name) for name in catalog.models}
        self._entries: dict[int, Entry] = {}
        self._backlog = Backlog()
        self._by_latest_start: list[tuple[float, int]] = []
        self._running: dict[int, int] = {}
        self._next_dispatch = 0
        self._prices: Mapping[str, float] = {}

    @property
    def waiting(self) -> int:
        """How many tickets wait in all lanes."""
        return len(self._entries)

    def admit(self, ticket: Ticket, now: float) -> Admitted | Refused:
        """Take the ticket into its lane, or say why not."""
        model = self._catalog.model(ticket.model)
        try:
            quickest = fastest(ticket, model, self._runnable[ticket.model])
            self._check_room(ticket, quickest, now)
        except RequestError as error:
            return Refused(error)
        entry = Entry(
            ticket=ticket,
            fastest=quickest,
            due=ticket.deadline,
            latest_start=ticket.deadline - quickest.p99(ticket.rows),
            work=quickest.row_cost * ticket.rows,
        )
        self._entries[ticket.id] = entry
        self._queue(entry)
        return Admitted()

    def cancel(self, ticket_id: int, now: float) -> None:
        """The caller left. A waiting ticket gives up its place; one that runs, or that is
        already settled, is the engine's to forget."""
        entry = self._entries.pop(ticket_id, None)
        if entry is not None:
            self._unqueue(entry)

    def finished(self, dispatch_id: int, now: float, measured: float) -> None:
        """A worker is free again; `measured` is the true duration in seconds."""
        worker = self._running.pop(dispatch_id)
        self._free_at[worker] = now
        self._idle[worker] = None

    def set_prices(self, prices: Mapping[str, float]) -> None:
        """What a second of a worker's time costs, in accuracy, by device.

        A price tilts the choice among variants that all keep the promise; a missing,
        negative or non-finite one counts as 0.
        """
        self._prices = {device: price for device, price in prices.items() if 0 <= price < math.inf}

    def decide(self, now: float) -> Decisions:
        """Everything that should happen at `now`, and when to ask again."""
        actions: list[Dispatch | Drop] = list(self._expire(now))
        while self._idle and self._entries:
            dispatch = self._next(now)
            if dispatch is None:
                break
            actions.append(dispatch)
        return Decisions(tuple(actions), self._wake_at())

    # --- the queue ---------------------------------------------------------------------

    def _queue(self, entry: Entry) -> None:
        self._lanes[entry.ticket.model].add(entry)
        self._backlog.add(entry.due, entry.ticket.id, entry.work)
        if entry.latest_start < math.inf and not entry.overdue:
            heappush(self._by_latest_start, (entry.latest_start, entry.ticket.id))

    def _unqueue(self, entry: Entry) -> None:
        self._lanes[entry.ticket.model].remove(entry)
        self._backlog.remove(entry.due, entry.ticket.id, entry.work)

    def _waiting_until(self, latest_start: float, ticket_id: int) -> Entry | None:
        """The waiting entry behind an item of the heap; None if it has left or moved."""
        entry = self._entries.get(ticket_id)
        if entry is None or entry.overdue or entry.latest_start != latest_start:
            return None
        return entry

    def _expire(self, now: float) -> list[Drop]:
        drops = []
        heap = self._by_latest_start
        while heap and heap[0][0] < now:
            entry = self._waiting_until(*heappop(heap))
            if entry is None:
                continue
            self._unqueue(entry)
            ticket = entry.ticket
            if ticket.late is Late.SERVE:
                entry.overdue = True
                entry.due = ticket.deadline + ticket.budget
                self._queue(entry)
                continue
            del self._entries[ticket.id]
            drops.append(Drop(ticket, _expired(entry, now)))
        return drops

    def _wake_at(self) -> float:
        heap = self._by_latest_start
        while heap:
            if self._waiting_until(*heap[0]) is not None:
                # A ticket is hopeless just after its latest start, not at it.
                return math.nextafter(heap[0][0], math.inf)
            heappop(heap)
        return math.inf

    # --- admission ---------------------------------------------------------------------

    def _check_room(self, ticket: Ticket, quickest: Profile, now: float) -> None:
        """Overloaded unless the work that is due before this ticket leaves room for it."""
        lane = self._lanes[ticket.model]
        if len(lane) >= MAX_WAITING:
            raise Overloaded(
                f"model {ticket.model!r} has {MAX_WAITING} requests waiting; try again later",
                retry_after=1.0,
            )
        due = ticket.deadline
        if ticket.late is Late.SERVE:
            due += ticket.budget
        if due == math.inf:
            return
        work = quickest.row_cost * ticket.rows
        ahead = self._backlog.up_to(due)
        missing = ahead + work - self._capacity(due, now)
        usable = [w for w, device in self._device.items() if self._runs(ticket, device)]
        start = min(max(now, self._free_at[worker]) for worker in usable)
        missing = max(missing, start + quickest.p99(ticket.rows) - due)
        if missing > ROUNDING:
            retry_after = max(missing / max(1, len(usable)), 0.001)
            raise Overloaded(
                f"model {ticket.model!r} cannot answer within the budget of"
                f" {ticket.budget * 1e3:.3g} ms: {ahead * 1e3:.3g} ms of work are due before it"
                f" on {len(usable)} worker(s); try again in {retry_after * 1e3:.3g} ms",
                retry_after,
            )

    def _runs(self, ticket: Ticket, device: str) -> bool:
        return any(
            p.variant.accuracy >= ticket.floor and ticket.variant in (None, p.variant.name)
            for p in self._profiles.on(ticket.model, device)
        )

    def _capacity(self, moment: float, now: float) -> float:
        """Seconds that all workers together can work from `now` until `moment`."""
        return sum(max(0.0, moment - max(now, free_at)) for free_at in self._free_at.values())

    # --- dispatch ----------------------------------------------------------------------

    def _next(self, now: float) -> Dispatch | None:
        """The next batch for one of the idle workers, or None if nothing can run now."""
        lanes = [lane for lane in self._lanes.values() if lane]
        lanes.sort(key=lambda lane: lane.head.due - lane.head.fastest.p99(lane.head.ticket.rows))
        tried: set[str] = set()
        for worker in self._idle:
            device = self._device[worker]
            if device in tried:
                continue
            tried.add(device)
            for lane in lanes:
                choice = self._choose(lane, worker, now)
                if choice is not None:
                    return self._dispatch(worker, *choice, now)
        return None

    def _choose(self, lane: Lane, worker: int, now: float) -> tuple[Profile, list[Entry]] | None:
        """The variant and batch for `worker` from this lane; None if it can serve none."""
        profiles = self._profiles.on(lane.model, self._device[worker])
        price = self._prices.get(self._device[worker], 0.0)
        if price:
            profiles = tuple(
                sorted(profiles, key=lambda p: price * p.row_cost - p.variant.accuracy)
            )
        for leader in lane:
            able = [p for p in profiles if leader.accepts(p) and _in_time(leader, p, now)]
            if able:
                break
        else:
            return None
        cheapest = min(able, key=lambda p: p.row_cost)
        for profile in able:
            members = _batch(lane, leader, profile, now)
            if profile is cheapest or self._spares(worker, profile, members, now):
                return profile, members
        return cheapest, _batch(lane, leader, cheapest, now)

    def _spares(self, worker: int, profile: Profile, members: Sequence[Entry], now: float) -> bool:
        """Can the tickets that go on waiting all be in time if this batch runs first?"""
        rows = sum(entry.ticket.rows for entry in members)
        until = now + profile.p99(rows)
        free = [
            until if other == worker else max(now, free_at)
            for other, free_at in self._free_at.items()
        ]
        leaving = sorted((entry.due, entry.work) for entry in members)
        left, gone = 0, 0.0
        for moment, demand in self._backlog.demand():
            while left < len(leaving) and leaving[left][0] <= moment:
                gone += leaving[left][1]
                left += 1
            capacity = sum(moment - at for at in free if at < moment)
            if demand - gone > capacity + ROUNDING:
                return False
        return True

    def _dispatch(
        self, worker: int, profile: Profile, members: Sequence[Entry], now: float
    ) -> Dispatch:
        rows = 0
        for entry in members:
            rows += entry.ticket.rows
            self._unqueue(entry)
            del self._entries[entry.ticket.id]
        del self._idle[worker]
        self._free_at[worker] = now + profile.p99(rows)
        self._next_dispatch += 1
        self._running[self._next_dispatch] = worker
        model = self._catalog.model(members[0].ticket.model)
        runnable = self._runnable[model.name]
        return Dispatch(
            id=self._next_dispatch,
            worker=worker,
            model=model,
            profile=profile,
            tickets=tuple(entry.ticket for entry in members),
            reasons=tuple(reason_for(entry.ticket, model, profile, runnable) for entry in members),
            rows=rows,
        )


def _in_time(entry: Entry, profile: Profile, now: float) -> bool:
    return entry.overdue or now + profile.p99(entry.ticket.rows) <= entry.due


def _batch(lane: Lane, leader: Entry, profile: Profile, now: float) -> list[Entry]:
    """`leader` and those behind it that may share its batch without making one late.

    No larger than the efficient batch: beyond it a row gets hardly cheaper, and everybody
    waits longer.
    """
    members = [leader]
    rows = leader.ticket.rows
    within = math.inf if leader.overdue else leader.due
    looked_at = 0
    for entry in lane:
        if rows >= profile.efficient_batch or looked_at >= LOOK_AHEAD:
            break
        if entry is leader or entry.key < leader.key:
            continue
        looked_at += 1
        if not entry.accepts(profile):
            continue
        more = rows + entry.ticket.rows
        until = min(within, math.inf if entry.overdue else entry.due)
        if more > profile.efficient_batch or now + profile.p99(more) > until:
            continue
        members.append(entry)
        rows, within = more, until
    return members


def _expired(entry: Entry, now: float) -> DeadlineExpired:
    return DeadlineExpired(
        f"waited {(now - entry.ticket.arrival) * 1e3:.3g} ms of a"
        f" {entry.ticket.budget * 1e3:.3g} ms budget; even {entry.fastest.variant.name!r}"
        f" (p99 {entry.fastest.p99(entry.ticket.rows) * 1e3:.3g} ms) would now be late"
    )
