"""Baseline: the cheapest variant that meets deadline and floor, replicated with the load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gearshift.core.catalog import Catalog
from gearshift.core.decisions import Admitted, Dispatch, Refused
from gearshift.core.profile import Profile, Profiles
from gearshift.core.request import Ticket
from gearshift.simulate.policies.deadline_order import (
    Choice,
    DeadlineOrder,
    Queue,
    gather,
    leader,
)
from gearshift.simulate.policies.needs import Demand, Need, alone, throughput
from gearshift.simulate.policies.residency import Seat, settle

SCALE_EVERY = 1.0
"""Seconds between two looks at the load."""

MEMORY = 1.5
"""Seconds; time constant of the moving average of the load."""


class Infaas(DeadlineOrder):
    """INFaaS (Romero et al., ATC '21), as far as a fixed set of workers has room for it.

    Faithful: a request gets the cheapest variant that meets its accuracy and its latency,
    never a better one for the sake of accuracy; every worker holds one variant; variants
    are replicated as their load grows, each on the hardware where it does most.

    Approximations: cheapest means least worker time per row (the paper has prices of cloud
    machines, here a second of any worker costs the same). The autoscaler looks at the load
    of all workers every second and divides them so that the most loaded need gets the next
    worker; the paper scales each worker by itself and adds machines, which a fixed cluster
    cannot. Loading a variant costs no time. A need whose variant no worker holds takes over
    the first idle worker.
    """

    plan_every = SCALE_EVERY

    def __init__(self, catalog: Catalog, profiles: Profiles, workers: Mapping[int, str]) -> None:
        super().__init__(catalog, profiles, workers)
        self._demand = Demand(catalog, MEMORY)
        self._resident: dict[int, Seat | None] = dict.fromkeys(workers)

    def admit(self, ticket: Ticket, now: float) -> Admitted | Refused:
        verdict = super().admit(ticket, now)
        if isinstance(verdict, Admitted):
            self._demand.count(ticket)
        return verdict

    def plan(self, now: float) -> None:
        """Divide the workers among the needs by their load."""
        rates = self._demand.close_window(now)
        if not rates:
            return
        left = dict.fromkeys(self._devices, 0)
        for device in self._device.values():
            left[device] += 1
        targets: dict[Seat, int] = {}
        able = dict.fromkeys(rates, 0.0)
        # Of each need, the throughput of one worker by device, with the variant used there.
        ways = {need: self._ways(need) for need in rates}
        while any(left.values()):
            open_needs = [n for n in rates if any(left[device] for device in ways[n])]
            if not open_needs:
                break
            need = max(open_needs, key=lambda n: (rates[n] + 1e-3) / (able[n] + 1e-6))
            device = max((d for d in ways[need] if left[d]), key=lambda d: ways[need][d][0])
            rows_a_second, profile = ways[need][device]
            able[need] += rows_a_second
            left[device] -= 1
            target = Seat(need[0], profile)
            targets[target] = targets.get(target, 0) + 1
        settle(self._resident, self._device, targets)

    def _ways(self, need: Need) -> Mapping[str, tuple[float, Profile]]:
        model, floor = need
        budget = self._demand.budget(need)
        ways = {}
        for device in self._devices:
            gears = [
                profile
                for profile in self._profiles.on(model, device)
                if profile.variant.accuracy >= floor and profile.p99(1) <= budget
            ]
            if gears:
                cheapest = min(gears, key=_cost)
                ways[device] = (throughput(cheapest, budget) or alone(cheapest, budget), cheapest)
        return ways

    def _next(self, now: float) -> Dispatch | None:
        idle = [worker for workers in self._idle.values() for worker in workers]
        if not idle:
            return None
        for queue in self._by_urgency():
            found = self._best(queue, idle, now)
            if found is not None:
                worker, (profile, members) = found
                self._idle[profile.device].remove(worker)
                return self._dispatch(worker, profile, members)
        return None

    def _best(self, queue: Queue, idle: Sequence[int], now: float) -> tuple[int, Choice] | None:
        """The idle worker that serves this queue most cheaply, and its batch."""
        best = None
        tried = set()
        for worker in idle:
            device, held = self._device[worker], self._resident[worker]
            if (device, held) in tried or (held is not None and held.model != queue.model):
                continue
            tried.add((device, held))
            if held is None:
                choice = self._choose(queue, device, now)
            else:
                choice = gather(queue, held.profile, now)
            if choice is not None and (best is None or _cost(choice[0]) < _cost(best[1][0])):
                best = worker, choice
        return best or self._take_over(queue, idle, now)

    def _take_over(
        self, queue: Queue, idle: Sequence[int], now: float
    ) -> tuple[int, Choice] | None:
        """Where no worker holds a variant that is good enough, an idle one loads it."""
        held = [h.profile.variant for h in self._resident.values() if h and h.model == queue.model]
        for worker in idle:
            choice = self._choose(queue, self._device[worker], now)
            if choice is not None:
                profile, members = choice
                if any(variant.accuracy >= members[0].floor for variant in held):
                    return None
                self._resident[worker] = Seat(queue.model, profile)
                return worker, choice
        return None

    def _choose(self, queue: Queue, device: str, now: float) -> Choice | None:
        try:
            _, able = leader(queue, self._profiles.on(queue.model, device), now)
        except LookupError:
            return None
        return gather(queue, min(able, key=_cost), now)


def _cost(profile: Profile) -> tuple[float, float]:
    return profile.row_cost, -profile.variant.accuracy
