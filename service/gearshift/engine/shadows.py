"""Shadows: requests that a lesser variant answered, run again on the best one in spare time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gearshift.core.catalog import Model, Variant
from gearshift.core.decisions import Dispatch
from gearshift.core.request import Ticket
from gearshift.core.scheduler import Scheduler
from gearshift.engine.batch import failed
from gearshift.engine.flight import Flight
from gearshift.engine.outputs import check_outputs, spoiled_rows
from gearshift.ports import EXPRESS, Batch, Clock, Executor, Journal, Row, Tensors, Worker


@dataclass(frozen=True, slots=True)
class Shadow:
    """One request that has its answer, and what is needed to run it again."""

    request_id: bytes
    service_class: str
    rows: int
    inputs: Tensors


class Shadows:
    """Offers an even `share` of such requests to the scheduler, and tells the journal of those
    for which there was time."""

    def __init__(
        self,
        scheduler: Scheduler,
        clock: Clock,
        journal: Journal | None,
        share: float,
        ids: Iterator[int],
    ) -> None:
        self._scheduler = scheduler
        self._clock = clock
        self._journal = journal
        self._share = share if journal is not None else 0.0
        self._ids = ids
        self._owed: dict[str, float] = {}
        """By model: how much of a request is still to be offered."""
        self._waiting: dict[int, Shadow] = {}

    def follow(self, dispatch: Dispatch, answered: Sequence[Flight]) -> None:
        """These were answered by this dispatch: offer some of them."""
        model, best = dispatch.model, dispatch.model.best
        if not self._share or dispatch.profile.runs.variant.name == best.name:
            return
        owed = self._owed.get(model.name, 0.0) + self._share * len(answered)
        whole = min(int(owed), len(answered))
        self._owed[model.name] = owed - int(owed)
        for index in range(whole):
            # Spread over the batch: its first member has waited longest and is not like the rest.
            self._offer(answered[(2 * index + 1) * len(answered) // (2 * whole)], best)

    def _offer(self, flight: Flight, best: Variant) -> None:
        ticket, now = flight.ticket, self._clock.now()
        again = Ticket(
            id=next(self._ids),
            model=ticket.model,
            service_class=ticket.service_class,
            arrival=now,
            deadline=now,
            floor=ticket.floor,
            rows=ticket.rows,
            variant=best.name,
            fallback=True,
            generation=ticket.generation,
        )
        self._waiting[again.id] = Shadow(
            flight.request_id, ticket.service_class, ticket.rows, flight.inputs
        )
        given_up = self._scheduler.offer(again)
        if given_up is not None:
            del self._waiting[given_up.id]

    def dropped(self, ticket: Ticket) -> bool:
        """There was no time for it; False if it is none of these."""
        return self._waiting.pop(ticket.id, None) is not None

    def forget(self, model: str) -> None:
        """It is not served any more."""
        self._owed.pop(model, None)

    async def run(
        self, dispatch: Dispatch, executors: Mapping[str, Executor], worker: Worker
    ) -> Exception | None:
        """Run what nobody waits for, and tell of it. Returns what broke, if anything did."""
        variant, shadow, model = dispatch.profile.variant, self._of(dispatch), dispatch.model
        executor = executors[variant.executor]
        try:
            if dispatch.profile.device == EXPRESS:
                outputs = executor.run_here(model, variant, shadow.inputs)
            else:
                outputs = await executor.run(worker, model, variant, shadow.inputs)
            check_outputs(model, outputs, dispatch.rows)
            if spoiled_rows(model, outputs, dispatch.rows) is not None:
                raise ValueError("it holds values that are not finite")
        except Exception as error:  # noqa: BLE001 - nobody waits for it; it stands in the log
            failed(model, variant, error, [shadow.request_id])
            return error
        self._ran(shadow, model, variant, outputs)
        return None

    def _of(self, dispatch: Dispatch) -> Shadow:
        """What is run now, and waits no longer."""
        return self._waiting.pop(dispatch.tickets[0].id)

    def _ran(self, shadow: Shadow, model: Model, variant: Variant, outputs: Tensors) -> None:
        """It has run, on this variant."""
        assert self._journal is not None
        row = Row(shadow.request_id, shadow.service_class, 0, shadow.rows)
        self._journal.shadowed(Batch(model, variant, "", shadow.inputs, outputs, [row]))
