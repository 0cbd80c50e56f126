"""A pod: one real scheduler with its planner and workers, and what it would show on /metrics."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from gearshift.core.catalog import Catalog
from gearshift.core.decisions import Admitted, Dispatch
from gearshift.core.profile import Profiles
from gearshift.core.request import Ticket
from gearshift.core.router import Reason
from gearshift.core.wanted import Wanted, worker_seconds
from gearshift.simulate.policies.gearshift import Gearshift


class Phase(StrEnum):
    """Where a pod is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


@dataclass(slots=True)
class Counters:
    """What Prometheus reads of a pod; everything but the last two only grows. Seconds."""

    answered: int = 0
    load_deficit: float = 0.0
    wanted: float = 0.0
    missed: int = 0
    """Shed or expired."""
    counted: int = 0
    """Requests that ended in a way that counts for attainment."""
    busy: float = 0.0
    workers: int = 0
    waiting: int = 0
    running: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """One request is answered by a variant of that accuracy, in time or late."""

    ticket: Ticket
    accuracy: float
    late: bool


@dataclass(frozen=True, slots=True)
class Missed:
    """One request ended without an answer, for want of workers or (`infeasible`) of any way."""

    ticket: Ticket
    infeasible: bool = False


class Pod:
    """Between `admit`, `finish` and `decide` time passes outside. Times in seconds."""

    def __init__(
        self,
        number: int,
        catalog: Catalog,
        profiles: Profiles,
        workers: Mapping[int, str],
        created: float,
        ready_at: float,
    ) -> None:
        self.number = number
        self.created, self.ready_at = created, ready_at
        self.phase = Phase.STARTING
        self.policy = Gearshift(catalog, profiles, workers)
        self.counters = Counters()
        self.open = 0
        """Requests that are not answered yet."""
        self.planned_at = -math.inf
        self.wake_at = math.inf
        self._workers = len(workers)
        self._wanted: dict[int, Wanted] = {}
        self._runs: dict[int, tuple[Dispatch, float]] = {}

    def start(self) -> None:
        """It has loaded everything and takes requests."""
        self.phase = Phase.READY
        self.counters.workers = self._workers

    def admit(self, ticket: Ticket, now: float) -> Missed | None:
        """None if it is taken in."""
        counters = self.counters
        verdict = self.policy.admit(ticket, now)
        if isinstance(verdict, Admitted):
            assert verdict.wanted is not None
            self._wanted[ticket.id] = verdict.wanted
            counters.waiting += 1
            self.open += 1
            return None
        if verdict.wanted:
            counters.missed += 1
            counters.counted += 1
            counters.wanted += verdict.wanted
            return Missed(ticket)
        return Missed(ticket, infeasible=True)

    def decide(
        self, now: float, noise: Iterator[float]
    ) -> tuple[list[tuple[float, int]], list[Missed]]:
        """The runs that begin, each as its end and its number, and who is dropped."""
        decisions = self.policy.decide(now)
        self.wake_at = decisions.wake_at
        begun: list[tuple[float, int]] = []
        dropped: list[Missed] = []
        counters = self.counters
        for action in decisions.actions:
            if isinstance(action, Dispatch):
                took = action.profile.p50(action.rows) * next(noise)
                self._runs[action.id] = (action, took)
                begun.append((now + took, action.id))
                counters.waiting -= len(action.tickets)
                counters.running += 1
                members = [(self._wanted[ticket.id], ticket) for ticket in action.tickets]
                counters.wanted += worker_seconds(members, action.rows)
            else:
                self._gone(action.ticket)
                counters.waiting -= 1
                counters.missed += 1
                counters.counted += 1
                counters.wanted += action.wanted
                dropped.append(Missed(action.ticket))
        return begun, dropped

    def finish(self, run: int, now: float) -> list[Answer]:
        """A run has ended."""
        dispatch, took = self._runs.pop(run)
        counters = self.counters
        counters.busy += took
        counters.running -= 1
        self.policy.finished(run, now, took)
        accuracy, best = dispatch.profile.variant.accuracy, dispatch.model.best_accuracy
        answers = []
        for ticket in dispatch.tickets:
            wanted = self._gone(ticket)
            counters.counted += 1
            counters.answered += 1
            if dispatch.reason(ticket) is Reason.LOAD:
                counters.load_deficit += max(0.0, min(wanted.accuracy, best) - accuracy)
            answers.append(Answer(ticket, accuracy, now > ticket.deadline))
        return answers

    def shown(self) -> Counters:
        """What a scrape reads at this moment."""
        return replace(self.counters)

    def _gone(self, ticket: Ticket) -> Wanted:
        self.open -= 1
        return self._wanted.pop(ticket.id)
