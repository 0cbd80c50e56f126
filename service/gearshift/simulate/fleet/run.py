"""The loop of a fleet in virtual time: arrivals, ends of runs, plans, scrapes, scaling, pods."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from heapq import heappop, heappush

import numpy as np

from gearshift.core.catalog import Catalog
from gearshift.core.profile import Profiles
from gearshift.core.request import Ticket
from gearshift.simulate.fleet.balance import BALANCERS
from gearshift.simulate.fleet.control import EVERY, Control
from gearshift.simulate.fleet.pod import Answer, Missed, Phase, Pod
from gearshift.simulate.fleet.result import FleetResult, Moment, Tally
from gearshift.simulate.fleet.scalers import Scaler, Seen
from gearshift.simulate.fleet.scraped import Scraped

BLOCK = 4096


class _Kind(IntEnum):
    """What happens next; at the same moment in this order."""

    FINISH = 0
    READY = 1
    WAKE = 2
    PLAN = 3
    SCRAPE = 4
    SCALE = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """What the pods are and how long things take. Seconds. `workers` of a pod by id and device;
    `start` from a pod's creation until it is ready (scheduling, image, models, warm-up); `noise`
    the coefficient of variation of the service times; `plan_every` how often prices are set;
    `leave` from the order to go until the balancer has stopped sending."""

    catalog: Catalog
    profiles: Profiles
    workers: Mapping[int, str]
    balancer: str = "least_request"
    start: float = 60.0
    leave: float = 2.0
    scrape_every: float = 15.0
    plan_every: float = 0.1
    noise: float = 0.05


def run_fleet(
    plant: Plant,
    tickets: Sequence[Ticket],
    scaler: Scaler,
    control: Callable[[], Control],
    first: int,
    seed: int = 0,
) -> FleetResult:
    """Send the tickets, which are in order of arrival, to a fleet of at first `first` pods that
    are ready. Equal arguments give equal results."""
    return _Run(plant, tickets, scaler, control(), first, seed).to_end()


@dataclass
class _Run:
    plant: Plant
    tickets: Sequence[Ticket]
    scaler: Scaler
    control: Control
    first: int
    seed: int
    pods: dict[int, Pod] = field(default_factory=dict)
    ready: list[Pod] = field(default_factory=list)
    events: list[tuple[float, int, int, int]] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    scraped: Scraped = field(default_factory=Scraped)
    moments: list[Moment] = field(default_factory=list)
    made: int = 0
    most: int = 0
    pod_seconds: float = 0.0
    deficits: float = 0.0
    answered: int = 0

    def __post_init__(self) -> None:
        self.balancer = BALANCERS[self.plant.balancer]()
        self.noise = _factors(self.plant.noise, self.seed)
        self.leaving: dict[int, float] = {}

    def to_end(self) -> FleetResult:
        begin = self.tickets[0].arrival
        end = self.tickets[-1].arrival
        for _ in range(self.first):
            self._begin_pod(self._create(begin, 0.0), begin)
        heappush(self.events, (begin, _Kind.SCRAPE, 0, 0))
        heappush(self.events, (begin + EVERY, _Kind.SCALE, 0, 0))
        for ticket in self.tickets:
            self._until(ticket.arrival, end)
            self._arrive(ticket)
        self._until(math.inf, end)
        for pod in self.pods.values():
            self.pod_seconds += end - pod.created
            self.deficits += pod.counters.load_deficit
            self.answered += pod.counters.answered
        tally = self.tally
        counted = len(self.tickets) - tally.infeasible
        return FleetResult(
            scaler=self.scaler.name,
            seed=self.seed,
            requests=len(self.tickets),
            served=tally.served,
            late=tally.late,
            missed=tally.missed,
            infeasible=tally.infeasible,
            pod_seconds=self.pod_seconds,
            most_pods=self.most,
            served_accuracy=tally.accuracy / max(1, tally.served),
            effective_accuracy=tally.accuracy / max(1, counted),
            load_deficit=self.deficits / max(1, self.answered),
            shedding=len(tally.shed_seconds),
            moments=self.moments,
        )

    # --- what happens ------------------------------------------------------------------

    def _until(self, moment: float, end: float) -> None:
        """Everything before `moment`. Behind the last arrival nothing is scaled any more."""
        events = self.events
        while events and events[0][0] <= moment:
            now, kind, number, run = heappop(events)
            if kind >= _Kind.SCRAPE:
                if now <= end:
                    self._look(kind, now)
                continue
            pod = self.pods.get(number)
            if pod is None:
                continue
            if kind == _Kind.FINISH:
                self._answer(pod, pod.finish(run, now))
                self._decide(pod, now)
            elif kind == _Kind.READY:
                if pod.phase is Phase.STARTING:
                    self._begin_pod(pod, now)
            elif kind == _Kind.WAKE:
                if pod.wake_at <= now:
                    self._decide(pod, now)
            elif pod.open or now < end:
                pod.policy.plan(now)
                self._decide(pod, now)
                heappush(events, (now + self.plant.plan_every, _Kind.PLAN, number, 0))

    def _arrive(self, ticket: Ticket) -> None:
        now = ticket.arrival
        if not self.ready:
            self.tally.miss(now, infeasible=False)
            return
        pod = self.balancer.choose(self.ready)
        missed = pod.admit(ticket, now)
        if missed is None:
            self._decide(pod, now)
        else:
            self.tally.miss(now, infeasible=missed.infeasible)

    def _decide(self, pod: Pod, now: float) -> None:
        before = pod.wake_at
        begun, dropped = pod.decide(now, self.noise)
        for ends, run in begun:
            heappush(self.events, (ends, _Kind.FINISH, pod.number, run))
        for each in dropped:
            self._miss(each, now)
        if pod.wake_at < math.inf and pod.wake_at != before:
            heappush(self.events, (pod.wake_at, _Kind.WAKE, pod.number, 0))
        self._end_drained(pod, now)

    def _answer(self, pod: Pod, answers: Sequence[Answer]) -> None:
        for each in answers:
            self.tally.answer(each.accuracy, late=each.late)

    def _miss(self, missed: Missed, now: float) -> None:
        self.tally.miss(now, infeasible=missed.infeasible)

    # --- pods --------------------------------------------------------------------------

    def _create(self, now: float, delay: float) -> Pod:
        self.made += 1
        plant = self.plant
        pod = Pod(self.made, plant.catalog, plant.profiles, plant.workers, now, now + delay)
        self.pods[pod.number] = pod
        return pod

    def _begin_pod(self, pod: Pod, now: float) -> None:
        pod.start()
        self.ready.append(pod)
        heappush(self.events, (now + self.plant.plan_every, _Kind.PLAN, pod.number, 0))

    def _remove(self, now: float) -> None:
        """As a ReplicaSet: who is not ready yet goes first, then the youngest."""
        staying = [pod for pod in self.pods.values() if pod.phase is not Phase.DRAINING]
        pod = max(staying, key=lambda p: (p.phase is Phase.STARTING, p.number))
        if pod.phase is Phase.READY:
            self.ready.remove(pod)
        pod.phase = Phase.DRAINING
        self._end_drained(pod, now)

    def _end_drained(self, pod: Pod, now: float) -> None:
        if pod.phase is Phase.DRAINING and not pod.open and pod.number in self.pods:
            del self.pods[pod.number]
            self.pod_seconds += now + self.plant.leave - pod.created
            self.deficits += pod.counters.load_deficit
            self.answered += pod.counters.answered

    # --- looks -------------------------------------------------------------------------

    def _look(self, kind: int, now: float) -> None:
        if kind == _Kind.SCRAPE:
            self.scraped.scrape(self.pods.values(), now)
            self._note(now)
            heappush(self.events, (now + self.plant.scrape_every, _Kind.SCRAPE, 0, 0))
            return
        heappush(self.events, (now + EVERY, _Kind.SCALE, 0, 0))
        staying = sum(pod.phase is not Phase.DRAINING for pod in self.pods.values())
        seen = Seen(self.scraped, now, staying, len(self.ready), len(self.plant.workers))
        proposals = self.scaler.proposals(seen)
        if not proposals:
            return
        wished = self.control.pods(staying, proposals, now)
        for _ in range(wished - staying):
            pod = self._create(now, self.plant.start)
            heappush(self.events, (pod.ready_at, _Kind.READY, pod.number, 0))
        for _ in range(staying - wished):
            self._remove(now)

    def _note(self, now: float) -> None:
        every = self.plant.scrape_every
        rate = self.scraped.rate
        counted = rate(lambda c: c.counted, every, now)
        answered = rate(lambda c: c.answered, every, now)
        self.most = max(self.most, len(self.pods))
        self.moments.append(
            Moment(
                at=now,
                pods=len(self.pods),
                ready=len(self.ready),
                rate=counted,
                deficit=rate(lambda c: c.load_deficit, every, now) / answered if answered else 0.0,
                shed=rate(lambda c: c.missed, every, now) / counted if counted else 0.0,
            )
        )


def _factors(noise: float, seed: int) -> Iterator[float]:
    """Of mean 1, lognormal."""
    if noise == 0:
        while True:
            yield 1.0
    sigma = math.sqrt(math.log1p(noise * noise))
    stream = np.random.default_rng(seed)
    while True:
        yield from stream.lognormal(-sigma * sigma / 2, sigma, BLOCK).tolist()
