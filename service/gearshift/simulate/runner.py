"""The runner: a workload in virtual time through any policy that has the core's contract.

One loop over what happens next: an arrival, the end of a run, the moment a policy asked to
be woken, the moment of its next plan. Everything that happens at one moment is told to the
policy before it decides once. The runner is also the judge: a policy that answers a request
twice or never, below its floor, or on a busy worker, ends the simulation.

A run's true time is the p50 of its (variant, device, rows) times a lognormal factor of mean
1. The factors are one stream from the seed, taken in order of dispatch, so that all
policies meet comparable noise.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from heapq import heappop, heappush
from time import perf_counter_ns

import numpy as np

from gearshift.core.decisions import Dispatch, Drop, Refused
from gearshift.core.request import Ticket
from gearshift.errors import Outcome, ending_of
from gearshift.simulate.cascades import GoingOn
from gearshift.simulate.policy import ContractBroken, Planned, Policy
from gearshift.simulate.result import Conditions, Loading, Record, Result, summarise
from gearshift.simulate.scenario import Scenario
from gearshift.simulate.shelves import Shelved

PROGRESS_EVERY = 2048
"""Arrivals between two calls of `on_progress`."""

MANY = 2000
"""Requests from which on setting them aside costs less than it saves."""

MOST_SPINS = 1000
"""Decisions in a row at one moment, after which a policy is taken to wake itself for ever."""

OnProgress = Callable[[int, int], None]
"""Called with how many requests have arrived and how many there are."""

Drift = Callable[[Dispatch, float], float]
"""By what factor a run that starts at this moment is slower than its profile says."""


def run(
    scenario: Scenario,
    policy: Policy,
    name: str,
    *,
    speed_up: float = 1.0,
    noise: float = 0.0,
    seed: int = 0,
    on_progress: OnProgress | None = None,
    drift: Drift | None = None,
) -> Result:
    """Drive `policy`, called `name`, through the scenario's workload.

    `noise` is the coefficient of variation of the true service times. Equal arguments give
    equal results, except for the measured times. Raises ContractBroken.
    """
    tickets = scenario.workload.tickets(scenario.catalog, speed_up)
    record = Record(len(tickets))
    with _measuring(len(tickets)):
        going_on = GoingOn(scenario.catalog, record, len(tickets), seed)
        factors = _factors(noise, seed)
        _Run(scenario, policy, tickets, record, going_on, factors, on_progress, drift).to_end()
    conditions = Conditions(policy=name, seed=seed, speed_up=speed_up, noise=noise)
    loading = None
    if isinstance(policy, Shelved):
        shelves = policy.shelves
        loading = Loading(
            limits=shelves.memory.limits, loads=shelves.loads, seconds=shelves.seconds
        )
    return summarise(scenario, conditions, record, loading)


@contextmanager
def _measuring(requests: int) -> Iterator[None]:
    """The tickets are no part of what is measured: collecting garbage must not walk them."""
    if requests < MANY:
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _factors(noise: float, seed: int) -> Iterator[float]:
    if noise == 0:
        while True:
            yield 1.0
    sigma = math.sqrt(math.log1p(noise * noise))
    stream = np.random.default_rng(seed)
    while True:
        yield from stream.lognormal(-sigma * sigma / 2, sigma, 4096).tolist()


class _Run:
    """One pass through a workload."""

    __slots__ = (
        "_begun",
        "_columns",
        "_devices",
        "_drift",
        "_ends",
        "_factors",
        "_going_on",
        "_on_progress",
        "_policy",
        "_record",
        "_shelves",
        "_tickets",
        "_times",
        "_waiting",
    )

    def __init__(
        self,
        scenario: Scenario,
        policy: Policy,
        tickets: list[Ticket],
        record: Record,
        going_on: GoingOn,
        factors: Iterator[float],
        on_progress: OnProgress | None,
        drift: Drift | None,
    ) -> None:
        self._policy = policy
        self._tickets = tickets
        self._record = record
        self._going_on = going_on
        self._factors = factors
        self._on_progress = on_progress
        self._drift = drift
        self._devices = scenario.workers
        if scenario.memory is not None and not isinstance(policy, Shelved):
            raise ContractBroken("memory is limited, and the policy does not say what it loads")
        self._shelves = policy.shelves if isinstance(policy, Shelved) else None
        # By (model, variant, device): its column in the record, and p50 by rows.
        self._times: dict[tuple[str, str, str], tuple[int, list[float]]] = {}
        for model in scenario.catalog.models.values():
            for profile in scenario.profiles.everywhere(model.name):
                times = [profile.p50(rows) for rows in range(1, model.max_batch_size + 1)]
                key = (model.name, profile.variant.name, profile.device)
                self._times[key] = (record.column(model.name, profile.variant), [0.0, *times])
        self._waiting = bytearray(len(tickets))
        self._ends: list[tuple[float, int]] = []
        self._begun: dict[int, tuple[Dispatch, float, int]] = {}

    def to_end(self) -> None:
        policy, record, tickets, ends = self._policy, self._record, self._tickets, self._ends
        total = len(tickets)
        arrived = 0
        now = first = tickets[0].arrival if tickets else 0.0
        wake = math.inf
        planner = policy if isinstance(policy, Planned) else None
        next_plan = first if planner else math.inf
        spins = 0
        while record.settled < total:
            upcoming = min(
                tickets[arrived].arrival if arrived < total else math.inf,
                ends[0][0] if ends else math.inf,
                wake,
                next_plan,
            )
            if upcoming == math.inf:
                raise ContractBroken(
                    f"{total - record.settled} request(s) wait, nothing runs, and the policy"
                    f" asked for no further decision"
                )
            spins = spins + 1 if upcoming <= now else 0
            if spins > MOST_SPINS:
                raise ContractBroken(f"the policy wakes itself at {now} s again and again")
            now = max(now, upcoming)
            while ends and ends[0][0] <= now:
                self._finish(heappop(ends)[1], now)
            if arrived < total and tickets[arrived].arrival <= now:
                arrived = self._admit(arrived, now)
            if planner is not None and next_plan <= now:
                started = perf_counter_ns()
                planner.plan(now)
                record.plan_ns.append(perf_counter_ns() - started)
                next_plan += planner.plan_every
            started = perf_counter_ns()
            decisions = policy.decide(now)
            took = perf_counter_ns() - started
            dispatches = 0
            for action in decisions.actions:
                if isinstance(action, Dispatch):
                    dispatches += 1
                    self._start(action, now)
                else:
                    self._drop(action, now)
            record.decide_ns.append(took // (dispatches or 1))
            wake = decisions.wake_at
        record.span = now - first

    def _admit(self, arrived: int, now: float) -> int:
        """Offers everything that has arrived by `now`; how many have arrived then."""
        tickets, policy, record, waiting = self._tickets, self._policy, self._record, self._waiting
        total = len(tickets)
        while arrived < total:
            ticket = tickets[arrived]
            if ticket.arrival > now:
                break
            started = perf_counter_ns()
            verdict = policy.admit(ticket, now)
            record.admit_ns.append(perf_counter_ns() - started)
            if isinstance(verdict, Refused):
                record.refuse(arrived, _unanswered(verdict.error))
            else:
                waiting[arrived] = 1
            arrived += 1
            if self._on_progress is not None and arrived % PROGRESS_EVERY == 0:
                self._on_progress(arrived, total)
        if arrived == total and self._on_progress is not None:
            self._on_progress(arrived, total)
        return arrived

    def _take(self, ticket: Ticket) -> None:
        if not self._waiting[ticket.id]:
            raise ContractBroken(f"request {ticket.id} does not wait, but the policy settles it")
        self._waiting[ticket.id] = 0

    def _drop(self, drop: Drop, now: float) -> None:
        self._take(drop.ticket)
        outcome = _unanswered(drop.error)
        if drop.ticket.fallback:
            self._going_on.dropped(drop.ticket, now)
        else:
            self._record.refuse(drop.ticket.id, outcome)

    def _start(self, dispatch: Dispatch, now: float) -> None:
        worker, record = dispatch.worker, self._record
        if record.busy_worker(worker):
            raise ContractBroken(f"worker {worker} is busy, but the policy gives it a batch")
        variant, rows = dispatch.profile.runs.variant, 0
        for ticket in dispatch.tickets:
            self._take(ticket)
            rows += ticket.rows
            least = dispatch.profile.least_accuracy
            if least < ticket.floor or ticket.model != dispatch.model.name:
                raise ContractBroken(
                    f"request {ticket.id} asks for model {ticket.model!r} with an accuracy of at"
                    f" least {ticket.floor}, but the policy answers with {variant.name!r} of"
                    f" {dispatch.model.name!r} ({least})"
                )
        column, times = self._times[dispatch.model.name, variant.name, self._devices[worker]]
        if not 0 < rows < len(times):
            raise ContractBroken(
                f"a batch of {rows} rows; model {dispatch.model.name!r} takes 1 to {len(times) - 1}"
            )
        took = times[rows] * next(self._factors)
        if self._drift is not None:
            took *= self._drift(dispatch, now)
        record.begin(worker)
        if self._shelves is not None:
            self._shelves.begin(dispatch.model.name, dispatch.profile)
        self._begun[dispatch.id] = (dispatch, took, column)
        heappush(self._ends, (now + took, dispatch.id))

    def _finish(self, dispatch_id: int, now: float) -> None:
        dispatch, took, column = self._begun.pop(dispatch_id)
        record, going_on = self._record, self._going_on
        record.end(dispatch.worker, took)
        if self._shelves is not None:
            self._shelves.end(dispatch.model.name, dispatch.profile)
        share = took / len(dispatch.tickets)
        self._policy.finished(dispatch_id, now, took)
        cascade = dispatch.profile.cascade
        for ticket in dispatch.tickets:
            if ticket.fallback:
                going_on.second_ran(ticket, now, share)
            elif cascade is None:
                record.answer(ticket.id, column, ticket.deadline, now, share)
            elif going_on.first_ran(ticket, dispatch.model, cascade, self._policy, now, share):
                # Its second ticket: they are numbered from the last request on.
                self._waiting.append(1)


def _unanswered(error: Exception) -> Outcome:
    outcome = ending_of(error).outcome
    if outcome not in (Outcome.SHED, Outcome.INFEASIBLE, Outcome.EXPIRED):
        raise ContractBroken(f"a request of a workload cannot end with {error!r}")
    return outcome
