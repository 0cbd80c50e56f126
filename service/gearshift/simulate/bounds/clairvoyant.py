"""The exact optimum of a small scenario for somebody who knows all arrivals in advance.

Dynamic programming over subsets of requests, in two stages (after Held and Karp, 1962). For
one worker of each device: every set of requests that it can answer in time by itself, as
the pairs of (time at which it is done, accuracy gained) that no other pair beats; a set
grows by one batch at its end, begun when the worker is free and the last member has
arrived, because beginning later helps nobody. Then the workers share the requests: the best
split of every set between the workers so far and one more.

Service times are the profiles' p50, without noise. Work grows with 3^requests: meant for
tests, with ten requests at the most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from gearshift.core.profile import Profile
from gearshift.core.request import Ticket
from gearshift.simulate.result import ROUNDING
from gearshift.simulate.scenario import Scenario

MOST_REQUESTS = 10

Front = list[tuple[float, float]]
"""(time done, accuracy gained), neither earlier nor more accurate than all others."""


def optimum(scenario: Scenario, *, speed_up: float = 1.0) -> float:
    """The highest effective accuracy that any schedule reaches, clairvoyant or not.

    Raises ValueError for more than ten requests.
    """
    tickets = scenario.workload.tickets(scenario.catalog, speed_up)
    if len(tickets) > MOST_REQUESTS:
        raise ValueError(
            f"{len(tickets)} requests; the exact optimum is for {MOST_REQUESTS} at the most"
        )
    if not tickets:
        return 0.0
    everybody = (1 << len(tickets)) - 1
    best = [0.0] * (everybody + 1)
    for device, count in Counter(scenario.workers.values()).items():
        alone = _one_worker(scenario, tickets, device)
        for _ in range(count):
            best = [
                max(alone[part] + best[whole ^ part] for part in _subsets(whole))
                for whole in range(everybody + 1)
            ]
    return best[everybody] / len(tickets)


def _one_worker(scenario: Scenario, tickets: list[Ticket], device: str) -> list[float]:
    """For each set of requests, the most accuracy one worker gains by answering all of it in
    time; minus infinity where it cannot."""
    batches = [
        _batches(scenario, tickets, device, members) if members else []
        for members in range(1 << len(tickets))
    ]
    fronts: list[Front] = [[(0.0, 0.0)]]
    for whole in range(1, len(batches)):
        found: Front = []
        for last in _subsets(whole):
            # The empty set has no batches.
            for ready, due, seconds, gain in batches[last]:
                for free, gained in fronts[whole ^ last]:
                    done = max(free, ready) + seconds
                    if done <= due:
                        found.append((done, gained + gain))
        fronts.append(_not_beaten(found))
    return [front[-1][1] if front else -float("inf") for front in fronts]


def _batches(
    scenario: Scenario, tickets: list[Ticket], device: str, members: int
) -> list[tuple[float, float, float, float]]:
    """The ways to answer exactly these requests as one batch: when it can begin, when it
    must end, how long it takes, what it gains."""
    chosen = [ticket for ticket in tickets if members >> ticket.id & 1]
    models = {ticket.model for ticket in chosen}
    if len(models) > 1:
        return []
    model = scenario.catalog.models[models.pop()]
    rows = sum(ticket.rows for ticket in chosen)
    if rows > model.max_batch_size:
        return []
    floor = max(ticket.floor for ticket in chosen)
    ready = max(ticket.arrival for ticket in chosen)
    due = min(ticket.deadline for ticket in chosen) + ROUNDING
    able: list[Profile] = [
        profile
        for profile in scenario.profiles.on(model.name, device)
        if profile.variant.accuracy >= floor
    ]
    return [(ready, due, p.p50(rows), p.variant.accuracy * len(chosen)) for p in able]


def _subsets(whole: int) -> Iterator[int]:
    """Every subset of `whole`, itself first and the empty one last."""
    part = whole
    while part:
        yield part
        part = (part - 1) & whole
    yield 0


def _not_beaten(found: Front) -> Front:
    """Earliest first, each more accurate than the one before."""
    front: Front = []
    for done, gained in sorted(found, key=lambda pair: (pair[0], -pair[1])):
        if not front or gained > front[-1][1]:
            front.append((done, gained))
    return front
