"""How many pods there must be at the least, whoever schedules them: the demand bound.

A fluid: requests may be cut into pieces, batches are the best that end within the budget, nobody
waits for anybody, and all workers of all pods are one. What the goals ask for then costs a least
amount of worker time, and pods that have less of it in some window of time cannot hold them:

* attainment A of n requests: at least A * n are answered, each in its cheapest gear; all that
  are not may be the dearest ones;
* accuracy: served accuracy S at attainment A, or effective accuracy E, is an accuracy gained of
  at least max(E, A * S) * n in all. The gears of a request on the concave hull from (no work, no
  accuracy) up are steps with falling gain for each second; taking the best steps of all requests
  first reaches the gain with the least work (the fractional knapsack, Dantzig 1957).

Within a window everybody outside of it may be answered perfectly, which leaves the window the
least. A request that arrives in a window is answered until its deadline, so the window's workers
have the longest budget longer. Requests without a budget have to be answered as they come.
Service times are the profiles' p50; that noise may make one run quicker changes no mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gearshift.core.cascade import Together
from gearshift.core.profile import Profile
from gearshift.simulate.bounds.demand import Column, least_work, upper_hull
from gearshift.simulate.planning.goals import Goal, Measure
from gearshift.simulate.planning.pod import Pod
from gearshift.simulate.planning.traffic import Asking, Traffic

WINDOWS = (1, 4, 16, 64)
"""Into so many parts the traffic is cut: a crowd shows in a short one, a long day in a long one."""

BUSIEST_DOOR = 0.9
"""Of one core's time, what receiving and answering requests may take at the most: from there on
requests wait for the door and no longer for a worker."""


@dataclass(frozen=True, slots=True)
class Demand:
    """At least so much worker time, in seconds, within `seconds` of time."""

    work: float
    seconds: float


def demands(pod: Pod, traffic: Traffic, goals: Sequence[Goal]) -> list[Demand]:
    """What `goals` cost at the least on pods of this kind, window by window; the sum over
    models, of whose goals none touches another model's requests."""
    asking = [each for each in traffic.asking if each.pair[0] in pod.catalog.models]
    number = {id(each): index for index, each in enumerate(traffic.asking)}
    ways = {id(each): _Ways.of(pod, each) for each in asking}
    finite = [each.budget for each in asking if math.isfinite(each.budget)]
    longest = max(finite, default=0.0)
    found = []
    for parts in WINDOWS:
        windows = traffic.windows(parts)
        whole = [sum(counts[i] for _, counts in windows) for i in range(len(traffic.asking))]
        steady = math.isinf(traffic.seconds)
        for length, counts in windows:
            work = 0.0
            for model in pod.catalog.models:
                mine = [each for each in asking if each.pair[0] == model]
                if parts > 1:
                    # They can wait until the crowd is gone.
                    mine = [each for each in mine if math.isfinite(each.budget)]
                costs = [
                    (goal.service_class, _work(goal, goals, mine, number, whole, counts, ways))
                    for goal in goals
                    if goal.model == model
                ]
                work += _together(costs)
            found.append(Demand(work, length if steady else length + longest))
        if steady:
            break
    return found


def least_pods(pod: Pod, found: Sequence[Demand], rate: float, door: float) -> int:
    """At least so many, for `rate` requests a second of which each takes `door` seconds of the
    front door's core."""
    workers = len(pod.workers)
    by_work = max((each.work / (workers * each.seconds) for each in found), default=0.0)
    by_door = rate * door / BUSIEST_DOOR
    return max(1, math.ceil(max(by_work, by_door) - 1e-9))


def _work(
    goal: Goal,
    goals: Sequence[Goal],
    asking: Sequence[Asking],
    number: dict[int, int],
    whole: Sequence[float],
    counts: Sequence[float],
    ways: dict[int, _Ways],
) -> float:
    """Seconds of work that one goal costs in a window with these counts, of `whole` in all."""
    covered = [each for each in asking if goal.covers(each.pair)]
    total = sum(whole[number[id(each)]] for each in covered)
    inside = [(each, counts[number[id(each)]]) for each in covered]
    outside = [(each, whole[number[id(each)]] - count) for each, count in inside]
    if goal.measure is Measure.ATTAINMENT:
        answered = goal.least * total - sum(count for _, count in outside)
        return _cheapest_first([(ways[id(each)].least, count) for each, count in inside], answered)
    share = goal.least
    if goal.measure is Measure.SERVED:
        # Without a goal for attainment served accuracy can be had by refusing everybody else.
        share *= max(
            (
                other.least
                for other in goals
                if other.measure is Measure.ATTAINMENT
                and all(other.covers(each.pair) for each in covered)
            ),
            default=0.0,
        )
    wanted = share * total - sum(ways[id(each)].most * count for each, count in outside)
    pieces = [
        (step.work / step.accuracy, step.accuracy * count)
        for each, count in inside
        for step in ways[id(each)].steps
    ]
    return _cheapest_first(pieces, wanted)


def _cheapest_first(pieces: Sequence[tuple[float, float]], wanted: float) -> float:
    """The least sum of price * amount that makes up `wanted`, from (price, amount) each; what
    cannot be made up costs nothing more, because then another reason stands against it."""
    spent = 0.0
    for price, amount in sorted(pieces):
        if wanted <= 0 or math.isinf(price):
            break
        taken = min(amount, wanted)
        spent += price * taken
        wanted -= taken
    return spent


def _together(costs: Sequence[tuple[str | None, float]]) -> float:
    """What goals of one model, by class, cost at the least: those of different classes are about
    different requests, all others may be met by the same work."""
    by_class: dict[str | None, float] = {}
    for service_class, work in costs:
        by_class[service_class] = max(work, by_class.get(service_class, 0.0))
    whole = by_class.pop(None, 0.0)
    return max(whole, sum(by_class.values()))


@dataclass(frozen=True, slots=True)
class _Ways:
    """How a kind of request may be answered. `steps` are the hull of its gears from nothing up,
    each with the accuracy and the work that it adds; `most` is the highest accuracy and `least`
    the least work of any gear, in seconds a row of the best batch."""

    steps: Sequence[Column]
    most: float
    least: float

    @classmethod
    def of(cls, pod: Pod, asking: Asking) -> _Ways:
        gears = _gears(pod, asking)
        steps = []
        before = Column(0, 0.0, 0.0)
        for way in upper_hull([gear for gear in gears if gear.accuracy > 0]):
            steps.append(Column(0, way.accuracy - before.accuracy, way.work - before.work))
            before = way
        return cls(steps, before.accuracy, min((gear.work for gear in gears), default=math.inf))


def _gears(pod: Pod, asking: Asking) -> list[Column]:
    """The request's gears: accuracy, and seconds of work a row in the best batch."""
    model = pod.catalog.models[asking.pair[0]]
    found = []
    for gear in pod.gears(model.name):
        if gear.least_accuracy < asking.floor:
            continue
        work = _row_work(gear, model.max_batch_size, asking.budget)
        if work < math.inf:
            found.append(Column(0, gear.variant.accuracy, work))
    return found


def _row_work(gear: Profile, largest: int, budget: float) -> float:
    if isinstance(gear, Together):
        first = least_work(gear.first, min(largest, gear.first.max_batch), budget)
        then = least_work(gear.then, min(largest, gear.then.max_batch), budget)
        return first + gear.cascade.escalated * then
    return least_work(gear, min(largest, gear.max_batch), budget)
