"""The asynchronous shell around the core: feeds it events, carries out what it decides.

The engine holds what the core must not: the tensors in flight, who waits for their answers,
the timers. It decides nothing. How requests end is `gearshift.engine.settling`'s business.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import count

import structlog

from gearshift.core.catalog import Catalog, Model, Standing
from gearshift.core.decisions import Drop, Refused
from gearshift.core.explain import Explanation
from gearshift.core.lane import Away
from gearshift.core.limits import Usage
from gearshift.core.profile import Profile, Profiles
from gearshift.core.request import Request, Ticket, ticket_for
from gearshift.core.revision import revised
from gearshift.core.scheduler import Scheduler
from gearshift.engine.accepting import Accepting
from gearshift.engine.batch import bytes_of
from gearshift.engine.cascade import gone_on, second_of
from gearshift.engine.clock import Alarm
from gearshift.engine.doorkeeper import SOMEBODY, Caller, Doorkeeper
from gearshift.engine.explaining import UNUSED, explained
from gearshift.engine.faults import Faults
from gearshift.engine.flight import Answer, Flight, Reply, to_nobody
from gearshift.engine.generations import Generations, Retired, gone, staying
from gearshift.engine.log_keys import of_requests
from gearshift.engine.planning import Planning
from gearshift.engine.running import Running
from gearshift.engine.settling import Settling
from gearshift.engine.shadows import Shadows
from gearshift.engine.traced import TracedBatches
from gearshift.engine.watch import HUNG_AFTER
from gearshift.errors import Cancelled, NotReady, Overloaded, RequestError, TooMany
from gearshift.ports import (
    EXPRESS,
    Array,
    Clock,
    Executor,
    Journal,
    Telemetry,
    Tensors,
    Trace,
    Tracing,
    Worker,
)

log = structlog.get_logger(__name__)

Counts = Callable[[Ticket, Model], None]


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
        journal: Journal | None = None,
        shadow_share: float = 0.0,
        tracing: Tracing | None = None,
        *,
        usage: Usage | None = None,
        hung_after: float = HUNG_AFTER,
        seed: int | None = None,
    ) -> None:
        """`shadow_share` of the requests that a lesser variant answers are run again on the best
        one, in spare time, for the journal. `tracing` is told of batches with traced members.
        A worker that is busy with one run for `hung_after` seconds or more may be given up
        (`gearshift.core.watchdog`). The same `seed` spreads tries of failing variants alike."""
        self.catalog = catalog
        self.clock = clock
        self.telemetry = telemetry
        self.traced = TracedBatches(tracing)
        self.usage = usage or Usage()
        """What callers make the server keep, and how much of it they may."""
        self.doorkeeper = Doorkeeper(clock)
        self.counts: Counts | None = None
        """Is told of each request that the quotas let in, whatever becomes of it."""
        self._scheduler = scheduler
        self._workers = {worker.id: worker for worker in workers}
        self._executors = executors
        self._generations = Generations(scheduler)
        self._settling = Settling(
            clock, telemetry, journal, self._generations, self._go_on, self.usage
        )
        self._ids = count(1)
        self._accepting = Accepting()
        self._decide_planned = False
        self._alarm = Alarm(clock, self._decide)
        self._shadows = Shadows(scheduler, clock, journal, shadow_share, self._ids)
        self._planning = Planning(scheduler, clock, lambda: len(self._settling) > 0, self._decide)
        self._faults = Faults(
            scheduler,
            self._settling,
            clock,
            telemetry,
            self._ids,
            self._plan_decide,
            random.Random(seed),
        )
        self._running = Running(
            scheduler,
            self._settling,
            self._shadows,
            self._faults,
            self._generations,
            self._workers,
            executors,
            clock,
            telemetry,
            self.traced,
            hung_after,
            self._decide,
            self._plan_decide,
        )

    # --- life cycle --------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """True between start() and drain(), while it is alive."""
        return self._accepting.all and self.alive

    @property
    def alive(self) -> bool:
        """False once so many runs hang that workers cannot be replaced: only another process helps.
        What can still be answered is."""
        return self._running.alive

    def start(self) -> None:
        """Take requests from now on."""
        self._accepting.begin()

    async def drain(self, within: float) -> None:
        """Take nothing new, give admitted and foreseen requests up to `within` seconds, refuse the
        rest."""
        self._accepting.drain()
        try:
            async with asyncio.timeout(within):
                await self._accepting.nobody_foreseen()
                await self._settling.empty()
        except TimeoutError:
            keys = of_requests([flight.request_id for flight in self._settling])
            log.warning("drain ran out of time", **keys)
        self._accepting.end()
        for flight in self._settling:
            self._scheduler.cancel(flight.ticket.id, self.clock.now())
            self._settling.fail(flight, NotReady("the server is shutting down"))
        self._planning.cancel()
        self._alarm.ring_at(math.inf)
        self._running.cancel()

    # --- requests ----------------------------------------------------------------------

    def submit(
        self,
        request: Request,
        inputs: Tensors,
        arrival: float,
        reply: Reply,
        request_id: bytes = b"",
        trace: Trace | None = None,
        caller: Caller = SOMEBODY,
        *,
        foreseen: bool = False,
    ) -> Flight:
        """Take one request in: `reply` is called once, with its answer or the RequestError that
        it ends with, unless it is abandoned before. Raises, and counts, what is refused.

        `inputs` are checked against the model's signature already; `arrival` is on the
        engine's clock. `reply` must not raise: a whole batch waits behind it. `request_id` is
        that of the answer; `trace` is told how the request fares. `caller` has passed
        `doorkeeper.turn_away`.
        """
        ticket: Ticket | None = None
        missed = 0.0
        try:
            self._accepting.check(foreseen=foreseen)
            model = self.catalog.model(request.model)
            ticket = ticket_for(request, model, next(self._ids), arrival)
            self.doorkeeper.check(caller, ticket)
            if self.counts is not None:
                self.counts(ticket, model)
            size = bytes_of(inputs)
            self.usage.check_queue(size)
            verdict = self._scheduler.admit(ticket, self.clock.now())
            if isinstance(verdict, Refused):
                missed = verdict.wanted
                self._no_room(verdict.error, caller)
                raise verdict.error
        except RequestError as error:
            self.refused(error, arrival, request.model, ticket, missed, trace)
            raise
        assert verdict.wanted is not None
        flight = Flight(
            ticket, model, inputs, reply, verdict.wanted, request_id, trace=trace, size=size
        )
        self._settling.add(flight)
        if trace is not None:
            trace.admitted(ticket, self.clock.now())
        self.telemetry.admitted(ticket.model, ticket.service_class)
        self._planning.arrived(arrival)
        self._plan_decide()
        return flight

    def foresee(self, request: Request, arrival: float, caller: Caller) -> Ticket:
        """The ticket that a request will become whose inputs are not made yet; a drain waits for it
        until it `comes`. Raises, and does not count, what it would be refused for at this moment;
        nothing is taken in."""
        self._accepting.check()
        model = self.catalog.model(request.model)
        ticket = ticket_for(request, model, UNUSED, arrival)
        refused = self._scheduler.refusal(ticket, self.clock.now())
        if refused is not None:
            if self.counts is not None:
                self.counts(ticket, model)
            self._no_room(refused, caller)
            raise refused
        self._accepting.foresee()
        return ticket

    def comes(self) -> None:
        """A request that was foreseen is submitted in this turn of the loop, as `foreseen`, or is
        not. To be called once for each."""
        self._accepting.comes()

    def _no_room(self, error: RequestError, caller: Caller) -> None:
        if isinstance(error, TooMany):
            self.usage.reach("max_queue")
        if isinstance(error, Overloaded):
            self.doorkeeper.shed(caller, error)

    def abandon(self, flight: Flight) -> None:
        """The caller left: its place is free at once, and nobody is told anything."""
        if flight in self._settling:
            self._scheduler.cancel(flight.ticket.id, self.clock.now())
            flight.reply = to_nobody
            self._settling.fail(flight, Cancelled("the caller left"))

    def refused(
        self,
        error: RequestError,
        arrival: float,
        model: str = "",
        ticket: Ticket | None = None,
        wanted: float = 0.0,
        trace: Trace | None = None,
    ) -> None:
        """Count a request that never joined the queue; `model` may be any text of a caller.
        `wanted`: worker seconds that it would have cost on an idle server."""
        self._settling.refused(self.catalog, error, arrival, model, ticket, wanted, trace)

    def exchange(self, catalog: Catalog, profiles: Profiles, retired: Retired) -> None:
        """Serve this catalog from now on. A model of the generation that is served stays untouched,
        with all that has been learned of it; one of another generation takes its place, with its
        `profiles`; one that the catalog lacks takes no new requests. Requests in flight end on the
        generation that admitted them.

        `retired` is called on the loop once for each generation that has left: nothing runs on it
        any more, and nothing will. ValueError, and nothing has changed, if a new model runs on none
        of the workers' devices, or if its generation had left and not been retired yet.
        """
        now, models = self.clock.now(), staying(self.catalog, catalog)
        for ticket in self._scheduler.exchange(models, profiles, now):
            self._shadows.dropped(ticket)
        held = [*[flight.model for flight in self._settling], *self._running.models]

        def over(model: Model) -> None:
            self._faults.forget(model)
            retired(model)

        for model in gone(self.catalog, models):
            self._generations.leave(model, held, over)
            self._shadows.forget(model.name)
        self.catalog = replace(catalog, models=models)
        self._plan_decide()

    def generations(self, model: str) -> int:
        """How many generations of the model are loaded: the one that is served, and those that
        requests in flight still end on."""
        return (model in self.catalog.models) + self._generations.count(model)

    def employ(self, worker: Worker) -> None:
        """One more worker, from now on. ValueError if its number is taken, or there are too many
        (`gearshift.core.workers`)."""
        first = worker.device == EXPRESS
        self._scheduler.employ(worker.id, worker.device, self.clock.now(), first=first)
        self._workers[worker.id] = worker
        self._plan_decide()

    # --- what is loaded where ------------------------------------------------------------

    @property
    def devices(self) -> Mapping[str, int]:
        """How many workers there are, by device."""
        return Counter(worker.device for worker in self._workers.values())

    def profiles(self, model: str) -> Sequence[Profile]:
        """Of the variants of this model, as it is served now, on all devices that have workers."""
        return self._scheduler.lane(self.catalog.models[model]).alone

    def not_resident(self, model: str) -> Collection[str]:
        """The names of those that are loaded nowhere."""
        return self._scheduler.lane(self.catalog.models[model]).not_resident

    def reside(self, model: str, away: Away) -> None:
        """Only what is not `away` is loaded of this model, as it is served now."""
        for drop in self._scheduler.reside(self.catalog.models[model], away, self.clock.now()):
            self._settling.fail(self._settling.of(drop.ticket), drop.error)
        self._plan_decide()

    def in_use(self, model: str, profile: Profile) -> bool:
        """Whether something runs on this profile that leaves, or waits that may."""
        return self._scheduler.in_use(self.catalog.models[model], profile)

    # --- what has been learned -----------------------------------------------------------

    def try_again(self, executor: str) -> None:
        """What kept variants of this executor from running is over."""
        self._faults.try_again(executor)

    def revise(
        self, model: str, accuracies: Mapping[str, float], standings: Mapping[str, Standing]
    ) -> None:
        """Go by these accuracies and standings from now on, by variant; others stay. They hold for
        what an older generation has in common with the one that is served, too."""
        served = self.catalog.model(model)
        found = revised(served, accuracies, standings)
        self.catalog = replace(self.catalog, models={**self.catalog.models, model: found})
        for each in (found, *self._generations.revised(served, accuracies, standings)):
            for drop in self._scheduler.revise(each, self.clock.now()):
                self._settling.fail(self._settling.of(drop.ticket), drop.error)
        self._plan_decide()

    def _go_on(self, flight: Flight, answer: Answer, unsure: Array) -> bool:
        """Let the marked rows wait for the second variant of the cascade, if there is time."""
        now = self.clock.now()
        ticket = second_of(flight, answer, unsure, next(self._ids), now)
        if isinstance(self._scheduler.admit(ticket, now), Refused):
            return False
        self._settling.renamed(flight, ticket)
        gone_on(flight, answer, unsure, now)
        self.telemetry.admitted(ticket.model, ticket.service_class)
        self._plan_decide()
        return True

    def explain(self, request: Request) -> Explanation:
        """What would become of such a request now. Raises as `submit` does what is wrong with it;
        nothing is taken in, and nothing is counted."""
        self._accepting.check()
        return explained(self._scheduler, self.catalog, request, self.clock.now())

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
        here: list[Callable[[], None]] = []
        for action in decisions.actions:
            if isinstance(action, Drop):
                if not self._shadows.dropped(action.ticket):
                    self._settling.fail(
                        self._settling.of(action.ticket), action.error, wanted=action.wanted
                    )
            else:
                on_the_spot = self._running.begin(action, now)
                if on_the_spot is not None:
                    here.append(on_the_spot)
        self._alarm.ring_at(decisions.wake_at)
        for run in here:
            run()
