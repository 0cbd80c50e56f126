"""Cascades in virtual time: which requests go on, and who answers them in the end.

As in the engine: a request that goes on is offered to the policy as a second ticket, and keeps its
first answer, which is what it gets if the second one is refused, dropped or late. Whether the first
variant is sure of a request is drawn by chance once, whatever the policy, so that all of them
meet the same requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from gearshift.core.cascade import as_variant, second_ticket
from gearshift.core.catalog import Cascade, Catalog, Model, Variant
from gearshift.core.decisions import Refused
from gearshift.core.request import Ticket
from gearshift.engine.flight import LEAD
from gearshift.ports import Stage
from gearshift.simulate.policy import Policy
from gearshift.simulate.result import Record


@dataclass(frozen=True, slots=True)
class _First:
    """A request that has gone on: its own ticket, the worker seconds of its first answer, and the
    columns of the cascade in the record."""

    ticket: Ticket
    seconds: float
    columns: Mapping[Stage, int]


class GoingOn:
    """The requests that wait for, or run on, the second variant of a cascade.

    An answer counts with the cascade's accuracy, one that is a fallback with the first variant's.
    """

    def __init__(self, catalog: Catalog, record: Record, requests: int, seed: int) -> None:
        self._record = record
        self._next_id = requests
        self._columns = {
            (model.name, cascade.name): {
                stage: record.column(model.name, _answering(model, cascade, stage))
                for stage in Stage
            }
            for model in catalog.models.values()
            for cascade in model.cascades
        }
        # By request, from 0 to 1: how hard it is. Of its own stream: what is drawn for the service
        # times stays the same.
        self._hard = np.random.default_rng((seed, 1)).random(requests if self._columns else 0)
        self._firsts: dict[int, _First] = {}

    def first_ran(
        self,
        ticket: Ticket,
        model: Model,
        cascade: Cascade,
        policy: Policy,
        now: float,
        seconds: float,
    ) -> bool:
        """The first variant has run, at so many worker seconds for this request. True if it waits
        for the second now, False if it is settled."""
        first = _First(ticket, seconds, self._columns[model.name, cascade.name])
        if self._hard[ticket.id] >= cascade.escalated:
            self._answer(first, Stage.FIRST, now)
            return False
        second = second_ticket(ticket, model, cascade, self._next_id, ticket.rows, now)
        if isinstance(policy.admit(second, now), Refused):
            self._answer(first, Stage.FALLBACK, now)
            return False
        self._next_id += 1
        self._firsts[second.id] = first
        return True

    def second_ran(self, ticket: Ticket, now: float, seconds: float) -> None:
        """The second variant has run. Nobody has waited for it beyond the deadline: the first
        answer was given just before."""
        first = self._firsts.pop(ticket.id)
        by = ticket.deadline - LEAD
        if now < by:
            self._answer(first, Stage.THEN, now, seconds)
        else:
            self._answer(first, Stage.FALLBACK, by, seconds)

    def dropped(self, ticket: Ticket, now: float) -> None:
        """The second variant will not run for this ticket."""
        self._answer(self._firsts.pop(ticket.id), Stage.FALLBACK, now)

    def _answer(self, first: _First, stage: Stage, now: float, seconds: float = 0.0) -> None:
        ticket = first.ticket
        column = first.columns[stage]
        self._record.answer(ticket.id, column, ticket.deadline, now, first.seconds + seconds)


def _answering(model: Model, cascade: Cascade, stage: Stage) -> Variant:
    """Who answers at this stage, as the record calls it."""
    accuracy = cascade.accuracy
    if stage is Stage.FALLBACK:
        accuracy = model.by_name(cascade.first).accuracy
    return as_variant(replace(cascade, name=f"{cascade.name}/{stage.value}", accuracy=accuracy))
