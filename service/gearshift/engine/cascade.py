"""Cascades in the engine: which rows go on, and one answer out of two."""

from __future__ import annotations

import numpy as np

from gearshift.core.cascade import second_ticket
from gearshift.core.catalog import Cascade, Model
from gearshift.core.request import Ticket
from gearshift.engine.confidence import confidence
from gearshift.engine.flight import Answer, First, Flight, Run
from gearshift.ports import Array


def unsure_rows(model: Model, cascade: Cascade, run: Run) -> Array:
    """Which rows of a batch the first variant is not sure enough of, (rows,) bool."""
    found: Array = confidence(run.outputs, model) < cascade.threshold
    return found


def second_of(flight: Flight, answer: Answer, unsure: Array, ticket_id: int, now: float) -> Ticket:
    """The ticket under which the marked rows of a request would wait for the second variant."""
    cascade = answer.cascade
    assert cascade is not None
    rows = int(np.count_nonzero(unsure))
    return second_ticket(flight.ticket, flight.model, cascade, ticket_id, rows, now)


def gone_on(flight: Flight, answer: Answer, unsure: Array, now: float) -> None:
    """The request waits again, with its marked rows only; `answer` is what it has so far."""
    flight.first = First(answer, unsure)
    flight.inputs = {name: array[unsure] for name, array in flight.inputs.items()}
    flight.dispatched_at = None
    if flight.trace is not None:
        flight.trace.went_on(flight.ticket, now)


def completed(first: First, run: Run, begin: int) -> Answer:
    """The answer to a request whose marked rows are those of `run` from `begin` on; the others
    keep their first answer. It is the second variant that answers."""
    answer, unsure = first.answer, first.unsure
    if unsure.all():
        return answer._replace(run=run, row=begin)
    rows, end = len(unsure), begin + int(np.count_nonzero(unsure))
    merged = {}
    for name, array in answer.run.outputs.items():
        merged[name] = array[answer.row : answer.row + rows].copy()
        merged[name][unsure] = run.outputs[name][begin:end]
    whole = Run(run.variant, merged, rows, run.begun, run.finished)
    return answer._replace(run=whole, row=0)
