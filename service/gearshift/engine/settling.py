"""The requests in flight and how each of them ends: exactly once, here, and counted."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from gearshift.core.catalog import Catalog, Late, Model, Variant
from gearshift.core.decisions import Dispatch
from gearshift.core.request import Ticket
from gearshift.core.router import Reason
from gearshift.engine.cascade import completed
from gearshift.engine.flight import Answer, Flight, Run
from gearshift.engine.generations import Generations
from gearshift.errors import (
    Cancelled,
    DeadlineExpired,
    Ending,
    Outcome,
    RequestError,
    ending_of,
)
from gearshift.ports import (
    Answered,
    Array,
    Batch,
    Clock,
    Journal,
    Row,
    Served,
    Settled,
    Stage,
    Telemetry,
    Tensors,
    Trace,
    TraceIds,
)

GoOn = Callable[[Flight, Answer, Array], bool]
"""Lets the marked rows of a request go on to the second variant; False if there is no time."""


class Settling:
    """Holds who waits for an answer. `go_on` is asked where a cascade is not sure."""

    def __init__(
        self,
        clock: Clock,
        telemetry: Telemetry,
        journal: Journal | None,
        generations: Generations,
        go_on: GoOn,
    ) -> None:
        self._clock = clock
        self._telemetry = telemetry
        self._journal = journal
        self._generations = generations
        self._go_on = go_on
        self._flights: dict[int, Flight] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._flights)

    def __iter__(self) -> Iterator[Flight]:
        return iter(list(self._flights.values()))

    def __contains__(self, flight: Flight) -> bool:
        return flight.ticket.id in self._flights

    def of(self, ticket: Ticket) -> Flight:
        """Whose ticket this is."""
        return self._flights[ticket.id]

    def dispatched(self, dispatch: Dispatch, now: float) -> list[Flight]:
        """Whose tickets these are: they leave the queue."""
        flights = self._flights
        members = [flights[ticket.id] for ticket in dispatch.tickets]
        for member in members:
            member.dispatched_at = now
        for name, leaving in Counter([m.ticket.service_class for m in members]).items():
            self._telemetry.dequeued(dispatch.model.name, name, leaving)
        return members

    def add(self, flight: Flight) -> None:
        """One more waits."""
        if not self._flights:
            self._empty.clear()
        self._flights[flight.ticket.id] = flight

    def renamed(self, flight: Flight, ticket: Ticket) -> None:
        """It waits under another ticket from now on."""
        del self._flights[flight.ticket.id]
        flight.ticket = ticket
        self._flights[ticket.id] = flight

    async def empty(self) -> None:
        """Until nobody waits."""
        await self._empty.wait()

    # --- answers -----------------------------------------------------------------------

    def answer(
        self, dispatch: Dispatch, run: Run, batch: Sequence[Flight], inputs: Tensors
    ) -> list[Flight]:
        """Give each member its rows, or let it go on; the others of its batch are nothing to it.
        Returns who was answered, if there is a journal."""
        flights, unsure, cascade = self._flights, run.unsure, dispatch.profile.cascade
        spoiled = run.spoiled
        served: list[Served] = []
        rows: list[Row] = []
        answered: list[Flight] = []
        traced: list[tuple[Served, TraceIds]] = []
        row = 0
        for member in batch:
            ticket = member.ticket
            begin, row = row, row + ticket.rows
            if ticket.id not in flights:
                continue
            if spoiled is not None and spoiled[begin:row].any():
                continue  # of these, `Faults` has taken care
            if member.first is not None:
                second = completed(member.first, run, begin)
                self._give_alone(member, second, inputs if second.run is run else {})
                continue
            answer = Answer(run, ticket, dispatch.reason(ticket), begin, cascade)
            if unsure is not None and unsure[begin:row].any():
                if not self._go_on(member, answer, unsure[begin:row]):
                    self._give_alone(member, answer._replace(reason=Reason.FALLBACK), inputs)
                continue
            given = self._give(member, answer)
            if given is None:
                continue
            served.append(given)
            if member.trace is not None:
                traced.append((given, member.trace.ids))
            if self._journal is not None:
                answered.append(member)
                rows.append(Row(member.request_id, ticket.service_class, begin, ticket.rows))
        if served:
            self._tell(dispatch.model, answer, served, inputs, rows, traced)
        return answered

    def _give_alone(self, member: Flight, answer: Answer, inputs: Tensors) -> None:
        """One answer by itself, beside those that its batch was given."""
        served = self._give(member, answer)
        if served is not None:
            ticket, fallback = answer.ticket, answer.reason is Reason.FALLBACK
            row = Row(member.request_id, ticket.service_class, answer.row, ticket.rows, fallback)
            trace = member.trace
            traced = [] if trace is None else [(served, trace.ids)]
            self._tell(member.model, answer, [served], inputs, [row], traced)

    def _give(self, member: Flight, answer: Answer) -> Served | None:
        """Settle with an answer; None if it was too late for any, or could not be given."""
        run, ticket, now = answer.run, answer.ticket, self._clock.now()
        slack = ticket.deadline - now
        late = slack < 0.0
        if late and ticket.late is Late.DROP:
            self._end(member, too_late(ticket), run.variant)
            return None
        self._forget(member)
        if ticket.without is not None:
            self._telemetry.second_chance(ticket.model, ticket.without, answered=True)
        problem = member.reply(answer)
        if problem is not None:
            self._count(member, problem, ending_of(problem), run.variant)
            return None
        if member.trace is not None:
            self._traced(member.trace, answer, late, now)
        arrival, reason = ticket.arrival, answer.reason
        missed = 0.0
        if reason is Reason.LOAD or (reason is Reason.FALLBACK and answer.cascade is not None):
            missed = _load_deficit(member, answer)
        return Served(ticket.service_class, late, now - arrival, run.begun - arrival, slack, missed)

    def _traced(self, trace: Trace, answer: Answer, late: bool, settled: float) -> None:
        trace.answered(
            variant=answer.run.variant.name,
            accuracy=answer.accuracy,
            reason=answer.reason,
            cascade="" if answer.cascade is None else answer.cascade.name,
            rows=answer.run.rows,
            queue=answer.queue,
            compute=answer.compute,
            late=late,
            settled=settled,
            encoded=self._clock.now(),
        )

    def _tell(
        self,
        model: Model,
        answer: Answer,
        served: Sequence[Served],
        inputs: Tensors,
        rows: Sequence[Row],
        traced: Sequence[tuple[Served, TraceIds]],
    ) -> None:
        """Telemetry and the journal, of answers that were given like this one."""
        run, cascade = answer.run, answer.cascade
        variant, name = run.variant, "" if cascade is None else cascade.name
        deficit = max(0.0, model.best_accuracy - answer.accuracy)
        self._telemetry.answered(
            Answered(
                model.name,
                variant.name,
                variant.version,
                answer.accuracy,
                deficit,
                served,
                name,
                _stage(answer),
                traced,
            )
        )
        if self._journal is not None:
            self._journal.answered(Batch(model, variant, name, inputs, run.outputs, rows))

    # --- refusals ----------------------------------------------------------------------

    def fail(
        self,
        flight: Flight,
        error: RequestError,
        variant: Variant | None = None,
        wanted: float = 0.0,
    ) -> None:
        """Settle with an error, unless settled already; `variant` is who ran it, if anyone. Who
        has a first answer, and has not left, gets that. `wanted`: worker seconds that it would
        have cost on an idle server, of one that did not run."""
        if flight.ticket.id not in self._flights:
            return
        if flight.dispatched_at is None:
            self._telemetry.dequeued(flight.model.name, flight.ticket.service_class, 1)
        if flight.first is not None and not isinstance(error, Cancelled):
            self._give_alone(flight, flight.first.answer._replace(reason=Reason.FALLBACK), {})
        else:
            self._end(flight, error, variant, wanted)

    def _end(
        self, flight: Flight, error: RequestError, variant: Variant | None, wanted: float = 0.0
    ) -> None:
        ending = ending_of(error)
        if flight.dispatched_at is not None and isinstance(error, DeadlineExpired):
            ending = Ending(ending.status, Outcome.LATE)
        self._forget(flight)
        without = flight.ticket.without
        if without is not None and not isinstance(error, Cancelled):
            self._telemetry.second_chance(flight.ticket.model, without, answered=False)
        self._count(flight, error, ending, variant, wanted)
        flight.reply(error)

    def refused(
        self,
        catalog: Catalog,
        error: RequestError,
        arrival: float,
        model: str,
        ticket: Ticket | None,
        wanted: float,
        trace: Trace | None,
    ) -> None:
        """Count a request that never joined the queue; `model` may be any text of a caller."""
        known = catalog.models.get(model)
        pinned = known.pinned(ticket.variant) if known and ticket else None
        ending, now = ending_of(error), self._clock.now()
        if trace is not None:
            trace.failed(error, ending, now, ticket)
        self._telemetry.settled(
            Settled(
                model=known.name if known else "",
                service_class=ticket.service_class if ticket else "",
                variant=pinned.name if pinned else "",
                version=pinned.version if pinned else 0,
                outcome=ending.outcome,
                status=ending.status,
                duration=now - arrival,
                message=str(error),
                wanted=wanted,
                trace=None if trace is None else trace.ids,
            )
        )

    def _forget(self, flight: Flight) -> None:
        del self._flights[flight.ticket.id]
        if self._generations.leaving:
            self._generations.released(flight.model)
        if not self._flights:
            self._empty.set()

    def _count(
        self,
        flight: Flight,
        error: Exception,
        ending: Ending,
        variant: Variant | None,
        wanted: float = 0.0,
    ) -> None:
        """Count a request that ended without an answer."""
        ticket, now = flight.own, self._clock.now()
        if variant is None:
            variant = flight.model.pinned(ticket.variant)
        trace = flight.trace
        if trace is not None:
            trace.failed(error, ending, now)
        self._telemetry.settled(
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
                wanted=wanted,
                trace=None if trace is None else trace.ids,
            )
        )


def too_late(ticket: Ticket) -> DeadlineExpired:
    return DeadlineExpired(
        f"the run took longer than predicted: no answer within the"
        f" {ticket.budget * 1e3:.3g} ms budget"
    )


def _load_deficit(member: Flight, answer: Answer) -> float:
    """How far the answer is below the best that its budget allows on an idle server: the part of
    its accuracy deficit that is for want of workers."""
    wanted = min(member.wanted.accuracy, member.model.best_accuracy)
    return max(0.0, wanted - answer.accuracy)


def _stage(answer: Answer) -> Stage:
    if answer.reason is Reason.FALLBACK:
        return Stage.FALLBACK
    cascade = answer.cascade
    if cascade is not None and answer.run.variant.name == cascade.then:
        return Stage.THEN
    return Stage.FIRST
