"""What all baselines share: queues in deadline order, batches, and no hopeless work.

The baselines differ in which variant they give to whom. Everything else is the same for
all and as good as the core's, so that a comparison shows the choice of variants and not
somebody's poor queue:

- a queue a model, earliest deadline first; the lane whose head is due first is served first;
- a batch begins at the first request in deadline order that can still be in time, not at a
  doomed head, and grows as long as its first member stays in time;
- a request is refused if nothing that the policy could give it is accurate and fast enough
  even on an idle machine, and dropped once nothing is any more;
- floors are kept, a run is never interrupted, and a worker with something to do does it.

Lateness is judged by the profiles' p99.
"""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from heapq import heappop, heappush

from gearshift.core.catalog import Catalog
from gearshift.core.decisions import Admitted, Decisions, Dispatch, Drop, Refused
from gearshift.core.profile import Profile, Profiles
from gearshift.core.request import Ticket
from gearshift.core.router import fastest
from gearshift.errors import DeadlineExpired, RequestError

ADMITTED = Admitted()

Choice = tuple[Profile, list[Ticket]]
"""A variant on a device and the members of its batch, in deadline order."""


class Queue:
    """Waiting tickets of one model, earliest deadline first."""

    __slots__ = ("_keys", "_tickets", "model")

    def __init__(self, model: str) -> None:
        self.model = model
        self._keys: list[tuple[float, int]] = []
        self._tickets: dict[int, Ticket] = {}

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def first_deadline(self) -> float:
        return self._keys[0][0] if self._keys else math.inf

    def add(self, ticket: Ticket) -> None:
        insort(self._keys, (ticket.deadline, ticket.id))
        self._tickets[ticket.id] = ticket

    def remove(self, ticket: Ticket) -> None:
        del self._keys[bisect_left(self._keys, (ticket.deadline, ticket.id))]
        del self._tickets[ticket.id]

    def due_from(self, moment: float) -> Iterator[Ticket]:
        """The tickets with a deadline at `moment` or later, in order."""
        start = bisect_left(self._keys, (moment, -1))
        tickets = self._tickets
        return (tickets[number] for _, number in self._keys[start:])


class DeadlineOrder(ABC):
    """A policy that is finished by saying what runs next where something can."""

    def __init__(self, catalog: Catalog, profiles: Profiles, workers: Mapping[int, str]) -> None:
        """`workers` maps each worker's id to its device."""
        self._catalog = catalog
        self._profiles = profiles
        self._device = dict(workers)
        self._devices = tuple(dict.fromkeys(workers.values()))
        self._idle: dict[str, list[int]] = {device: [] for device in self._devices}
        for worker, device in workers.items():
            self._idle[device].append(worker)
        self._queues = {name: Queue(name) for name in catalog.models}
        self._waiting: dict[int, Ticket] = {}
        self._latest_starts: list[tuple[float, int]] = []
        self._running: dict[int, int] = {}
        self._dispatches = 0

    # --- what a policy says ------------------------------------------------------------

    def _permitted(self, ticket: Ticket) -> Sequence[Profile]:
        """Every variant on every device that the policy might give to this ticket."""
        return [
            profile
            for device in self._devices
            for profile in self._profiles.on(ticket.model, device)
        ]

    @abstractmethod
    def _next(self, now: float) -> Dispatch | None:
        """The next batch for one of the idle workers; None if nothing can run now."""

    # --- the contract ------------------------------------------------------------------

    def admit(self, ticket: Ticket, now: float) -> Admitted | Refused:
        """Queue the ticket unless the policy could never answer it in time."""
        model = self._catalog.model(ticket.model)
        try:
            quickest = fastest(ticket, model, self._permitted(ticket))
        except RequestError as error:
            return Refused(error)
        self._waiting[ticket.id] = ticket
        self._enqueue(ticket)
        latest_start = ticket.deadline - quickest.p99(ticket.rows)
        if latest_start < math.inf:
            heappush(self._latest_starts, (latest_start, ticket.id))
        return ADMITTED

    def cancel(self, ticket_id: int, now: float) -> None:
        """The caller left; a waiting ticket gives up its place."""
        ticket = self._waiting.pop(ticket_id, None)
        if ticket is not None:
            self._queue_of(ticket).remove(ticket)

    def finished(self, dispatch_id: int, now: float, measured: float) -> None:
        """The worker of this run is free again."""
        worker = self._running.pop(dispatch_id)
        self._idle[self._device[worker]].append(worker)

    def decide(self, now: float) -> Decisions:
        """Drop what is hopeless, then give every idle worker what it can do in time."""
        actions: list[Dispatch | Drop] = list(self._expire(now))
        while self._waiting:
            dispatch = self._next(now)
            if dispatch is None:
                break
            actions.append(dispatch)
        return Decisions(tuple(actions), self._wake_at())

    # --- how it is done ----------------------------------------------------------------

    def _expire(self, now: float) -> list[Drop]:
        drops = []
        while self._latest_starts and self._latest_starts[0][0] < now:
            ticket = self._waiting.get(heappop(self._latest_starts)[1])
            if ticket is not None:
                self._take(ticket)
                drops.append(Drop(ticket, DeadlineExpired("its latest start has passed")))
        return drops

    def _wake_at(self) -> float:
        while self._latest_starts:
            latest_start, ticket_id = self._latest_starts[0]
            if ticket_id in self._waiting:
                return math.nextafter(latest_start, math.inf)
            heappop(self._latest_starts)
        return math.inf

    def _queue_of(self, ticket: Ticket) -> Queue:
        return self._queues[ticket.model]

    def _enqueue(self, ticket: Ticket) -> None:
        self._queue_of(ticket).add(ticket)

    def _by_urgency(self) -> list[Queue]:
        """The queues in which somebody waits, the one whose head is due first at the front."""
        queues = [queue for queue in self._queues.values() if queue]
        queues.sort(key=lambda queue: queue.first_deadline)
        return queues

    def _take(self, ticket: Ticket) -> None:
        del self._waiting[ticket.id]
        self._queue_of(ticket).remove(ticket)

    def _dispatch(self, worker: int, profile: Profile, members: Sequence[Ticket]) -> Dispatch:
        for ticket in members:
            self._take(ticket)
        self._dispatches += 1
        self._running[self._dispatches] = worker
        return Dispatch(
            id=self._dispatches,
            worker=worker,
            model=self._catalog.models[members[0].model],
            profile=profile,
            tickets=tuple(members),
            rows=sum(ticket.rows for ticket in members),
        )


def accepts(ticket: Ticket, profile: Profile) -> bool:
    """May this variant answer the ticket: accurate enough, and the pinned one if any is."""
    variant = profile.variant
    return variant.accuracy >= ticket.floor and ticket.variant in (None, variant.name)


def gather(queue: Queue, profile: Profile, now: float, most: int = sys.maxsize) -> Choice | None:
    """The batch of this variant from this queue, of at most `most` rows; None if nobody's.

    It begins at the first ticket that the variant can serve in time and takes those behind
    it that accept the variant, as long as the first stays in time.
    """
    members: list[Ticket] = []
    rows = 0
    for ticket in queue.due_from(now + profile.p99(1)):
        if not accepts(ticket, profile):
            continue
        if not members:
            most = min(most, profile.rows_within(ticket.deadline - now))
        if rows + ticket.rows > most:
            if members:
                break
            continue
        members.append(ticket)
        rows += ticket.rows
        if rows == most:
            break
    return (profile, members) if members else None


def leader(queue: Queue, profiles: Sequence[Profile], now: float) -> tuple[Ticket, list[Profile]]:
    """The first ticket that one of `profiles` can serve in time, and those that can.

    Raises LookupError if there is none.
    """
    if profiles:
        quickest = min(profile.p99(1) for profile in profiles)
        for ticket in queue.due_from(now + quickest):
            able = [
                profile
                for profile in profiles
                if accepts(ticket, profile) and now + profile.p99(ticket.rows) <= ticket.deadline
            ]
            if able:
                return ticket, able
    raise LookupError(queue.model)
