"""The real engine, whose every request and reply is entered into the history."""

from __future__ import annotations

from collections import Counter
from typing import Any

from gearshift.core.request import Request
from gearshift.engine import Answer, Engine, Flight
from gearshift.engine.flight import Reply
from gearshift.errors import RequestError, ending_of
from gearshift.ports import Tensors
from simulation.history import History, Taken
from simulation.requests import parts_of


class WatchedEngine(Engine):
    """Enters into the history who was taken in, and every reply."""

    history: History

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.flights: dict[Flight, Taken] = {}
        self.refusals: Counter[str] = Counter()
        """By outcome: who never joined the queue."""

    def refused(self, error: RequestError, *about: Any, **more: Any) -> None:
        self.refusals[ending_of(error).outcome] += 1
        super().refused(error, *about, **more)

    def submit(
        self,
        request: Request,
        inputs: Tensors,
        arrival: float,
        reply: Reply,
        *more: Any,
        **named: Any,
    ) -> Flight:
        history = self.history
        number, _ = parts_of(inputs["x"][0, 0])
        taken = Taken(number, self.clock.now(), standing=self.ready)
        history.taken.setdefault(number, []).append(taken)

        def told(ending: Answer | Exception) -> Exception | None:
            now = self.clock.now()
            text = str(ending)[:200] if isinstance(ending, Exception) else ending.run.variant.name
            entry = history.note(now, "replies", number, text)
            problem = reply(ending)
            taken.endings.append((entry, now, ending if problem is None else problem))
            return problem

        try:
            flight = super().submit(request, inputs, arrival, told, *more, **named)
        except RequestError as error:
            taken.refused = error
            reply_entry = history.note(self.clock.now(), "refuses", number, str(error)[:200])
            taken.endings.append((reply_entry, self.clock.now(), error))
            raise
        taken.model, taken.ticket = flight.model, flight.ticket
        self.flights[flight] = taken
        self._look(flight.model.name)
        return flight

    def _look(self, model: str) -> None:
        """At what is kept for callers."""
        limits, usage = self.usage.limits, self.usage
        waiting = sum(
            lane.count for lane in self._scheduler._lanes.every if lane.model.name == model
        )
        for kept, name in ((usage.queued, "max_queue_bytes"), (waiting, "max_queue")):
            if kept > getattr(limits, name):
                self.history.above.append(f"{kept} of {name} {getattr(limits, name)}")

    def abandon(self, flight: Flight) -> None:
        taken = self.flights[flight]
        if not taken.left:
            taken.left = self.history.note(self.clock.now(), "leaves", taken.number)
        super().abandon(flight)
