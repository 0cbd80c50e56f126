"""Baseline: a mixed-integer program assigns one variant to each worker every 30 seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping

from gearshift.core.catalog import Catalog
from gearshift.core.decisions import Admitted, Dispatch, Refused
from gearshift.core.profile import Profiles
from gearshift.core.request import Ticket
from gearshift.simulate.policies.assignment import assign
from gearshift.simulate.policies.deadline_order import (
    DeadlineOrder,
    Queue,
    gather,
)
from gearshift.simulate.policies.needs import Demand, Need
from gearshift.simulate.policies.residency import Seat, settle

PERIOD = 30.0
"""Seconds between two plans, as in the paper."""

FIRST_WINDOW = 1.0
"""Seconds of traffic behind the first plan; waiting 30 for it would say nothing."""

MEMORY = 3.0
"""Seconds; time constant of the moving average of the demand."""


HEADROOM = 1.4
"""What the plan makes room for, in parts of the demand."""


class Proteus(DeadlineOrder):
    """Proteus (Ahmad et al., ASPLOS '24).

    Faithful: every worker holds one variant; a mixed-integer program over the last window's
    demand picks them, and how much of each model's demand goes to which of them, for the
    highest effective accuracy; a variant counts with the throughput of its largest batch
    within half the budget; requests are sent by the plan's shares as they arrive; batches
    grow with the queue as far as the first deadline allows.

    Approximations: workers of one device that hold the same variant are counted, not told
    apart, and share one queue (the paper has a queue a worker: this loses less). Where the
    demand exceeds what can be served, the program leaves some unserved; the paper lowers the
    demand until there is a solution. The plan makes room for more than the demand (the
    paper's factor beta; 1.4 did best of 1.05 to 1.6 on an earlier cluster scenario, 1.2
    with a plan every second), and workers that it can do without join the busiest. A worker runs
    what waits for it at once; the paper's waits for its batch to fill until the first
    deadline would be missed, which turns noise into lateness. Loading a variant and solving
    cost no virtual time, both in Proteus's favour.
    """

    def __init__(
        self,
        catalog: Catalog,
        profiles: Profiles,
        workers: Mapping[int, str],
        period: float = PERIOD,
        headroom: float = HEADROOM,
    ) -> None:
        """`period` is the time between two plans in seconds."""
        super().__init__(catalog, profiles, workers)
        self.plan_every = min(FIRST_WINDOW, period)
        self._period = period
        self._headroom = headroom
        self._demand = Demand(catalog, MEMORY)
        self._counts: dict[str, int] = {}
        for device in workers.values():
            self._counts[device] = self._counts.get(device, 0) + 1
        self._seats = [
            Seat(model, profile)
            for model in catalog.models
            for device in self._counts
            for profile in profiles.on(model, device)
        ]
        self._resident: dict[int, Seat | None] = dict.fromkeys(workers)
        self._at_seat: dict[Seat | None, Queue] = {
            seat: Queue("" if seat is None else seat.model) for seat in (None, *self._seats)
        }
        self._routed: dict[int, Seat | None] = {}
        self._shares: Mapping[Need, Mapping[Seat, float]] = {}
        self._credit: dict[Need, dict[Seat, float]] = {}

    # --- the plan ----------------------------------------------------------------------

    def plan(self, now: float) -> None:
        """Assign variants to workers for the demand of the window that ends now."""
        rates = self._demand.close_window(now)
        if rates:
            self.plan_every = self._period
        else:
            # Nothing is known yet: room for every model, in equal parts.
            rates = dict.fromkeys(((name, 0.0) for name in self._catalog.models), 1.0)
        budgets = {need: self._budget(need) for need in rates}
        wanted = {need: rate * self._headroom for need, rate in rates.items()}
        plan = assign(self._seats, self._counts, wanted, budgets)
        settle(self._resident, self._device, plan.workers)
        self._shares = plan.shares
        self._credit = {need: dict.fromkeys(share, 0.0) for need, share in plan.shares.items()}
        for ticket in sorted(self._waiting.values(), key=lambda t: (t.deadline, t.id)):
            self._queue_of(ticket).remove(ticket)
            self._enqueue(ticket)

    def _budget(self, need: Need) -> float:
        return self._demand.budget(need) if need in self._demand.needs else math.inf

    # --- requests ----------------------------------------------------------------------

    def admit(self, ticket: Ticket, now: float) -> Admitted | Refused:
        verdict = super().admit(ticket, now)
        if isinstance(verdict, Admitted):
            self._demand.count(ticket)
        return verdict

    def _queue_of(self, ticket: Ticket) -> Queue:
        return self._at_seat[self._routed[ticket.id]]

    def _enqueue(self, ticket: Ticket) -> None:
        seat = self._pick(ticket)
        self._routed[ticket.id] = seat
        self._at_seat[seat].add(ticket)

    def _pick(self, ticket: Ticket) -> Seat | None:
        """The seat whose share is furthest behind; without shares, any that is good enough."""
        need = self._demand.need_of(ticket)
        shares = self._shares.get(need)
        if shares:
            credit = self._credit[need]
            for seat, share in shares.items():
                credit[seat] += share
            behind = max(credit, key=credit.__getitem__)
            credit[behind] -= 1.0
            return behind
        able = {held for held in self._resident.values() if held and held.serves(need)}
        return min(able, key=lambda seat: len(self._at_seat[seat]), default=None)

    def _next(self, now: float) -> Dispatch | None:
        for device, idle in self._idle.items():
            for worker in idle:
                held = self._resident[worker]
                queue = self._at_seat[held]
                choice = gather(queue, held.profile, now) if held is not None and queue else None
                if choice is not None:
                    self._idle[device].remove(worker)
                    return self._dispatch(worker, *choice)
        return None
