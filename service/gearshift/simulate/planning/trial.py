"""One trial: so many pods of a kind, simulated with the scheduler that serves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gearshift.core.decisions import Dispatch
from gearshift.simulate.planning.goals import (
    Goal,
    Measure,
    Standing,
    Tally,
    Verdict,
    enough_requests,
    judge,
)
from gearshift.simulate.planning.pod import Pod
from gearshift.simulate.planning.traffic import Traffic, rates
from gearshift.simulate.policies.gearshift import gearshift_policy
from gearshift.simulate.result import Result
from gearshift.simulate.runner import Drift, run
from gearshift.simulate.scenario import Scenario
from gearshift.simulate.workload_file import Workload

LOOKS = (1, 2, 4)
"""Times the planned number of requests, after which a trial that has decided nothing by then is
looked at: a look after every seed would stop at the luckiest moment."""

SHORTEST_GAP = 0.02
"""Seconds between two requests for an idle pod."""

SEEN = 30
"""Requests missed until a trial is given up."""

OnProgress = Callable[[str, int, int], None]
"""Called with what is being simulated, how many requests are done, and how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """How trials are simulated. `noise` is the coefficient of variation of service times; each of
    `seeds` simulates about `requests` requests, and the last is the one that reaches as many as
    all of them should; where that tells too little, up to four times as many are simulated.
    `door` is what receiving and answering one request takes of a core, in seconds."""

    noise: float = 0.1
    seeds: int = 3
    requests: int = 10_000
    door: float = 95e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What `pods` pods did. `simulated` counts requests over all seeds; `busy` is the share of
    the workers' time by device, `door` that of one core's time at the front door; `answers` by
    model and gear, as `Result.variants`; `tallies` by `model/class`."""

    pods: int
    simulated: int
    verdicts: tuple[Verdict, ...]
    busy: Mapping[str, float]
    door: float
    answers: Mapping[str, Mapping[str, int]]
    tallies: Mapping[str, Tally]

    @property
    def holds(self) -> bool:
        return all(verdict.standing is not Standing.FAILS for verdict in self.verdicts)

    @property
    def failed(self) -> Verdict:
        """The goal that is missed by most, beside what may be missed; ValueError if none is."""
        failed = [v for v in self.verdicts if v.standing is Standing.FAILS]
        if not failed:
            raise ValueError("every goal holds")

        def missed(verdict: Verdict) -> float:
            if verdict.goal.measure is Measure.ATTAINMENT:
                return (1 - verdict.value) / (1 - verdict.goal.least)
            return verdict.goal.least / max(verdict.value, 1e-12)

        return max(failed, key=missed)


Attempt = Callable[[Pod, int], Trial]
"""Simulates so many pods that are like this one."""

IDLE_REQUESTS = 4_000
"""Of an idle pod."""


class _Count:
    """What the runs of a trial add up to."""

    def __init__(self, pod: Pod, traffic: Traffic, goals: Sequence[Goal]) -> None:
        self._asked = rates(traffic, pod.catalog.models)
        self._goals = [goal for goal in goals if goal.model in pod.catalog.models]
        self._busy: dict[str, float] = {}
        self._answers: dict[str, dict[str, int]] = {}
        self._tallies = {f"{model}/{name}": Tally() for model, name in self._asked}
        self._runs = 0

    @property
    def requests(self) -> int:
        return sum(tally.requests for tally in self._tallies.values())

    def add(self, result: Result) -> None:
        self._runs += 1
        for device, share in result.utilisation_per_device.items():
            self._busy[device] = self._busy.get(device, 0.0) + share
        for model, gears in result.variants.items():
            known = self._answers.setdefault(model, {})
            for gear, answered in gears.items():
                known[gear] = known.get(gear, 0) + answered
        for label, figures in result.per_model_class.items():
            self._tallies[label] += Tally.of(figures)

    def _pooled(self, goal: Goal) -> Tally:
        parts = [self._tallies["/".join(pair)] for pair in self._asked if goal.covers(pair)]
        return sum(parts, Tally())

    def verdicts(self) -> tuple[Verdict, ...]:
        found = [(goal, self._pooled(goal)) for goal in self._goals]
        return tuple(judge(goal, tally) for goal, tally in found if tally.requests)

    def undecided(self, more: float) -> bool:
        """Whether `more` times the requests could tell what these cannot: a goal lies within its
        interval, or was never missed by too few requests to show it."""
        return not any(v.high < v.goal.least for v in self.verdicts()) and any(
            v.standing is Standing.FAILS
            or (
                v.standing is Standing.UNSHOWN
                and v.requests * more >= enough_requests(v.goal.least)
            )
            for v in self.verdicts()
        )

    def hopeless(self, left: int) -> bool:
        """Whether an attainment is missed even if all `left` requests that are still to come are
        for it and are served; so that one bad moment is not all that is known, not at once."""
        for goal in self._goals:
            tally = self._pooled(goal)
            missed = tally.requests - tally.served
            allowed = (1 - goal.least) * (tally.requests + left)
            if goal.measure is Measure.ATTAINMENT and missed > max(SEEN, allowed):
                return True
        return False

    def trial(self, pods: int, door: float) -> Trial:
        return Trial(
            pods=pods,
            simulated=self.requests,
            verdicts=self.verdicts(),
            busy={device: share / self._runs for device, share in self._busy.items()},
            door=door,
            answers=self._answers,
            tallies=self._tallies,
        )


def simulate(
    pod: Pod,
    pods: int,
    traffic: Traffic,
    goals: Sequence[Goal],
    conditions: Conditions,
    on_progress: OnProgress,
) -> Trial:
    """Try `pods` pods for the requests for the pod's models. It ends early where a goal is
    missed for certain, which shows in `simulated`."""
    models = tuple(pod.catalog.models)
    door = sum(rates(traffic, models).values()) / pods * conditions.door
    # Receiving and answering takes time that a worker on the same cores does not have.
    slower = 1.0 if pod.kind.gpus else 1.0 / max(1.0 - door / pod.kind.cpus, 1e-3)
    count = _Count(pod, traffic, goals)
    what = f"{pods} x {pod.kind.name}"
    planned, seed = conditions.seeds * conditions.requests, 0
    for factor in LOOKS:
        while seed < conditions.seeds * factor and count.requests < planned * factor:
            parts = traffic.pods(pods, seed, models, conditions.requests)
            for number, (left, workload) in enumerate(parts):
                done, total = count.requests, max(planned * factor, count.requests + left)

                def tell(part: int, whole: int, done: int = done, total: int = total) -> None:
                    on_progress(what, done + part, total)

                count.add(_run(pod, workload, conditions, (seed << 20) + number, slower, tell))
                if count.hopeless(left - len(workload)):
                    return count.trial(pods, door)
            seed += 1
        if not count.undecided(LOOKS[-1] / factor):
            break
    return count.trial(pods, door)


def simulate_idle(
    pod: Pod,
    traffic: Traffic,
    goals: Sequence[Goal],
    conditions: Conditions,
    on_progress: OnProgress,
) -> Trial:
    """One pod on which every request is alone: what ever more pods come near to."""
    models = tuple(pod.catalog.models)
    count = _Count(pod, traffic, goals)
    gears = [gear for model in models for gear in pod.gears(model)]
    gap = max(SHORTEST_GAP, 3 * max(gear.p99(1) for gear in gears))
    for _, whole in traffic.pods(1, 0, models, IDLE_REQUESTS):
        kept = np.arange(0, len(whole), max(1, len(whole) // IDLE_REQUESTS))
        alone = Workload(
            source=whole.source,
            lines=[whole.lines[index] for index in kept.tolist()],
            arrivals=np.linspace(0.0, gap * len(kept), len(kept)),
            models=[whole.models[index] for index in kept.tolist()],
            budgets=whole.budgets[kept],
            floors=whole.floors[kept],
            classes=[whole.classes[index] for index in kept.tolist()],
        )

        def tell(part: int, total: int) -> None:
            on_progress(f"an idle {pod.kind.name}", part, total)

        count.add(_run(pod, alone, conditions, 0, 1.0, tell))
    return count.trial(0, 0.0)


def _run(
    pod: Pod,
    workload: Workload,
    conditions: Conditions,
    seed: int,
    slower: float,
    on_progress: Callable[[int, int], None],
) -> Result:
    scenario = Scenario(pod.catalog, pod.profiles, workload, pod.workers, {})
    policy = gearshift_policy(pod.catalog, pod.profiles, pod.workers)
    drift: Drift | None = None if slower == 1.0 else _constant(slower)
    return run(
        scenario,
        policy,
        "gearshift",
        noise=conditions.noise,
        seed=seed,
        on_progress=on_progress,
        drift=drift,
    )


def _constant(factor: float) -> Drift:
    def slower(dispatch: Dispatch, now: float) -> float:
        return factor

    return slower
