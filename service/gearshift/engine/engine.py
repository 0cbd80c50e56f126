"""The asynchronous shell around the core: feeds it events, carries out what it decides.

The engine holds what the core must not: the tensors in flight, who waits for their answers,
the timers. It decides nothing. Every request that comes in is settled exactly once, in `_answer`
or in `_fail`, and counted there.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import count

import structlog

from gearshift.core.catalog import Catalog, Late, Variant
from gearshift.core.request import Request, Ticket, ticket_for
from gearshift.core.scheduler import Dispatch, Drop, Refused, Scheduler
from gearshift.engine.batch import assemble, check_outputs, failed
from gearshift.engine.flight import Answer, Flight, Guard, Reply, Run
from gearshift.engine.planning import Planning
from gearshift.errors import (
    Cancelled,
    DeadlineExpired,
    Ending,
    NotReady,
    Outcome,
    RequestError,
    ending_of,
)
from gearshift.ports import (
    EXPRESS,
    Answered,
    Clock,
    Executor,
    Ran,
    Served,
    Settled,
    Telemetry,
    Tensors,
    Timer,
    Worker,
)

log = structlog.get_logger(__name__)


class Engine:
    """Owns the scheduler and the requests in flight."""

    def __init__(
        self,
        catalog: Catalog,
        scheduler: Scheduler,
        workers: Sequence[Worker],
        executors: Mapping[str, Executor],
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self.catalog = catalog
        self.clock = clock
        self.telemetry = telemetry
        self._scheduler = scheduler
        self._workers = {worker.id: worker for worker in workers}
        self._executors = executors
        self._flights: dict[int, Flight] = {}
        self._runs: set[asyncio.Task[None]] = set()
        self._ids = count(1)
        self._accepting = False
        self._decide_planned = False
        self._wake: Timer | None = None
        self._wake_at = math.inf
        self._planning = Planning(scheduler, clock, lambda: bool(self._flights), self._decide)
        self._empty = asyncio.Event()
        self._empty.set()

    # --- life cycle --------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """True between start() and drain()."""
        return self._accepting

    def start(self) -> None:
        """Take requests from now on."""
        self._accepting = True

    async def drain(self, within: float) -> None:
        """Take nothing new, give admitted requests up to `within` seconds, refuse the rest."""
        self._accepting = False
        try:
            async with asyncio.timeout(within):
                await self._empty.wait()
        except TimeoutError:
            log.warning("drain ran out of time", unanswered=len(self._flights))
        for flight in list(self._flights.values()):
            self._scheduler.cancel(flight.ticket.id, self.clock.now())
            self._fail(flight, NotReady("the server is shutting down"))
        self._planning.cancel()
        if self._wake is not None:
            self._wake.cancel()
        for run in self._runs:
            run.cancel()

    # --- requests ----------------------------------------------------------------------

    def submit(self, request: Request, inputs: Tensors, arrival: float, reply: Reply) -> Flight:
        """Take one request in: `reply` is called once, with its answer or the RequestError that
        it ends with, unless it is abandoned before. Raises, and counts, what is refused.

        `inputs` are checked against the model's signature already; `arrival` is on the
        engine's clock. `reply` must not raise: a whole batch waits behind it.
        """
        ticket: Ticket | None = None
        try:
            if not self._accepting:
                raise NotReady("the server is starting or shutting down; try again shortly")
            model = self.catalog.model(request.model)
            ticket = ticket_for(request, model, next(self._ids), arrival)
            verdict = self._scheduler.admit(ticket, self.clock.now())
            if isinstance(verdict, Refused):
                raise verdict.error
        except RequestError as error:
            self.refused(error, arrival, request.model, ticket)
            raise
        flight = Flight(ticket, model, inputs, reply)
        if not self._flights:
            self._empty.clear()
        self._flights[ticket.id] = flight
        self.telemetry.admitted(ticket.model, ticket.service_class)
        self._planning.arrived(arrival)
        self._plan_decide()
        return flight

    def abandon(self, flight: Flight) -> None:
        """The caller left: its place is free at once, and nobody is told anything."""
        if flight.ticket.id in self._flights:
            self._scheduler.cancel(flight.ticket.id, self.clock.now())
            flight.reply = _to_nobody
            self._fail(flight, Cancelled("the caller left"))

    def refused(
        self, error: RequestError, arrival: float, model: str = "", ticket: Ticket | None = None
    ) -> None:
        """Count a request that never joined the queue; `model` may be any text of a caller."""
        known = self.catalog.models.get(model)
        pinned = known.by_name(ticket.variant) if known and ticket and ticket.variant else None
        ending = ending_of(error)
        self.telemetry.settled(
            Settled(
                model=known.name if known else "",
                service_class=ticket.service_class if ticket else "",
                variant=pinned.name if pinned else "",
                version=pinned.version if pinned else 0,
                outcome=ending.outcome,
                status=ending.status,
                duration=self.clock.now() - arrival,
                message=str(error),
            )
        )

    # --- decisions ---------------------------------------------------------------------

    def _plan_decide(self) -> None:
        """Decide once for everything that arrives in the same turn of the loop."""
        if not self._decide_planned:
            self._decide_planned = True
            asyncio.get_running_loop().call_soon(self._decide)

    def _decide(self) -> None:
        self._decide_planned = False
        now = self.clock.now()
        decisions = self._scheduler.decide(now)
        here: list[tuple[Dispatch, list[Flight]]] = []
        for action in decisions.actions:
            if isinstance(action, Drop):
                self._fail(self._flights[action.ticket.id], action.error)
            elif action.profile.device == EXPRESS:
                here.append((action, self._dequeue(action, now)))
            else:
                self._start(action, self._dequeue(action, now), now)
        if decisions.wake_at != self._wake_at:
            if self._wake is not None:
                self._wake.cancel()
            self._wake_at = decisions.wake_at
            self._wake = (
                self.clock.call_at(self._wake_at, self._woken) if self._wake_at < math.inf else None
            )
        for dispatch, members in here:
            self._run_here(dispatch, members)

    def _woken(self) -> None:
        self._wake, self._wake_at = None, math.inf
        self._decide()

    def _dequeue(self, dispatch: Dispatch, now: float) -> list[Flight]:
        members = [self._flights[ticket.id] for ticket in dispatch.tickets]
        for member in members:
            member.dispatched_at = now
        for name, leaving in Counter([m.ticket.service_class for m in members]).items():
            self.telemetry.dequeued(dispatch.model.name, name, leaving)
        return members

    def _start(self, dispatch: Dispatch, members: list[Flight], now: float) -> None:
        run = asyncio.get_running_loop().create_task(self._run(dispatch, members, now))
        self._runs.add(run)
        run.add_done_callback(self._runs.discard)

    async def _run(self, dispatch: Dispatch, members: list[Flight], begun: float) -> None:
        """Run one batch and settle its members.

        A member that left before the run began is taken out; one that leaves during the run
        keeps its rows, so that its neighbours get the answers to their own inputs.
        """
        variant = dispatch.profile.variant
        worker = self._workers[dispatch.worker]
        batch = [m for m in members if m.ticket.id in self._flights]
        rows = sum(member.ticket.rows for member in batch)
        assembled = begun
        outcome: Tensors | RequestError = {}
        guard = Guard(
            self.clock, batch, lambda late: self._fail(late, _too_late(late.ticket), variant)
        )
        try:
            if batch:
                inputs = assemble(dispatch.model, batch)
                assembled = self.clock.now()
                outcome = await self._executors[variant.executor].run(
                    worker, dispatch.model.name, variant.name, inputs
                )
                check_outputs(dispatch.model, outcome, rows)
        except Exception as error:  # noqa: BLE001 - whatever broke, every member must hear of it
            outcome = failed(dispatch.model, variant, error)
        finished = self.clock.now()
        guard.cancel()
        # The worker first: it must not idle while answers are taken apart.
        self._scheduler.finished(dispatch.id, finished, finished - begun)
        self._decide()
        # In the next turn: what has just been decided begins in this one.
        asyncio.get_running_loop().call_soon(
            self._end, dispatch, batch, outcome, begun, assembled, finished
        )

    def _run_here(self, dispatch: Dispatch, batch: list[Flight]) -> None:
        """Run one batch on the spot and settle its members; who has left in this very turn keeps
        its rows."""
        variant = dispatch.profile.variant
        begun = assembled = self.clock.now()
        outcome: Tensors | RequestError
        try:
            inputs = assemble(dispatch.model, batch)
            assembled = self.clock.now()
            outcome = self._executors[variant.executor].run_here(
                dispatch.model.name, variant.name, inputs
            )
            check_outputs(dispatch.model, outcome, dispatch.rows)
        except Exception as error:  # noqa: BLE001 - whatever broke, every member must hear of it
            outcome = failed(dispatch.model, variant, error)
        finished = self.clock.now()
        self._scheduler.finished(dispatch.id, finished, finished - begun)
        # In a later turn: what has come in meanwhile takes part in it.
        self._plan_decide()
        self._end(dispatch, batch, outcome, begun, assembled, finished)

    def _end(
        self,
        dispatch: Dispatch,
        batch: Sequence[Flight],
        outcome: Tensors | RequestError,
        begun: float,
        assembled: float,
        finished: float,
    ) -> None:
        """Settle the members of a batch that has run, with its outputs or with what broke."""
        variant, worker = dispatch.profile.variant, self._workers[dispatch.worker]
        rows = sum(member.ticket.rows for member in batch)
        if isinstance(outcome, RequestError):
            for member in batch:
                self._fail(member, outcome, variant)
        else:
            self._answer(dispatch, Run(variant, outcome, rows, begun, finished), batch)
        if batch:
            self.telemetry.ran(
                Ran(
                    model=dispatch.model.name,
                    variant=variant.name,
                    version=variant.version,
                    worker=worker.id,
                    device=worker.device,
                    requests=len(batch),
                    rows=rows,
                    queue=sum(begun - member.ticket.arrival for member in batch),
                    input=assembled - begun,
                    compute=finished - assembled,
                    output=self.clock.now() - finished,
                    failed=isinstance(outcome, RequestError),
                )
            )

    # --- settling ----------------------------------------------------------------------

    def _answer(self, dispatch: Dispatch, run: Run, batch: Sequence[Flight]) -> None:
        """Give each member its rows; the others of its batch are nothing to it."""
        variant, flights, clock = run.variant, self._flights, self.clock
        served: list[Served] = []
        row = 0
        for member in batch:
            ticket = member.ticket
            first, row = row, row + ticket.rows
            if ticket.id not in flights:
                continue
            now = clock.now()
            slack = ticket.deadline - now
            late = slack < 0.0
            if late and ticket.late is Late.DROP:
                self._fail(member, _too_late(ticket), variant)
                continue
            self._forget(member)
            problem = member.reply(Answer(run, ticket, dispatch.reason(ticket), first))
            if problem is not None:
                self._count(member, problem, ending_of(problem), variant)
                continue
            arrival = ticket.arrival
            served.append(
                Served(ticket.service_class, late, now - arrival, run.begun - arrival, slack)
            )
        if served:
            deficit = dispatch.model.best_accuracy - variant.accuracy
            names = dispatch.model.name, variant.name, variant.version
            self.telemetry.answered(Answered(*names, variant.accuracy, deficit, served))

    def _fail(self, flight: Flight, error: RequestError, variant: Variant | None = None) -> None:
        """Settle with an error, unless settled already; `variant` is who ran it, if anyone."""
        if flight.ticket.id not in self._flights:
            return
        ending = ending_of(error)
        if flight.dispatched_at is None:
            self.telemetry.dequeued(flight.model.name, flight.ticket.service_class, 1)
        elif isinstance(error, DeadlineExpired):
            ending = Ending(ending.status, Outcome.LATE)
        self._forget(flight)
        self._count(flight, error, ending, variant)
        flight.reply(error)

    def _forget(self, flight: Flight) -> None:
        del self._flights[flight.ticket.id]
        if not self._flights:
            self._empty.set()

    def _count(
        self, flight: Flight, error: Exception, ending: Ending, variant: Variant | None
    ) -> None:
        """Count a request that ended without an answer."""
        ticket, now = flight.ticket, self.clock.now()
        if variant is None and ticket.variant is not None:
            variant = flight.model.by_name(ticket.variant)
        self.telemetry.settled(
            Settled(
                model=ticket.model,
                service_class=ticket.service_class,
                variant=variant.name if variant else "",
                version=variant.version if variant else 0,
                outcome=ending.outcome,
                status=ending.status,
                duration=now - ticket.arrival,
                slack=ticket.deadline - now if ticket.deadline < math.inf else None,
                message=str(error) if isinstance(error, RequestError) else "internal error",
            )
        )


def _to_nobody(ending: Answer | Exception) -> Exception | None:
    """The reply to a caller who left."""
    return None


def _too_late(ticket: Ticket) -> DeadlineExpired:
    return DeadlineExpired(
        f"the run took longer than predicted: no answer within the"
        f" {ticket.budget * 1e3:.3g} ms budget"
    )
