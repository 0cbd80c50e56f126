"""One fleet: equal pods for some models. How many there must be, shown by simulating them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gearshift.simulate.planning.bound import demands, least_pods
from gearshift.simulate.planning.goals import Goal, Verdict
from gearshift.simulate.planning.limits import OutOfReach, out_of_reach, rounded_down
from gearshift.simulate.planning.pod import Pod, VariantName
from gearshift.simulate.planning.residency import fitting, idle_variants
from gearshift.simulate.planning.traffic import Traffic, rates
from gearshift.simulate.planning.trial import Attempt, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """`pods` + `spare` pods like `pod` hold the goals, also while `spare` of them are gone.

    `trial` is that of `pods`, `whole` that of all of them, `fewer` that of one less than `pods`
    (None for one pod), which fails even with all variants that have room. `bound` is how many the
    demand bound asks for. Not loaded are the `idle` variants, which never answered, and those
    that had `no_room`.
    """

    pod: Pod
    pods: int
    spare: int
    bound: int
    trial: Trial
    whole: Trial
    fewer: Trial | None
    idle: tuple[VariantName, ...]
    no_room: tuple[VariantName, ...]

    @property
    def price(self) -> float:
        """An hour."""
        return (self.pods + self.spare) * self.pod.kind.price


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmet:
    """Pods of this kind cannot hold the goals for these models, and why."""

    pod: Pod
    reasons: tuple[OutOfReach, ...]
    trial: Trial | None = None


class Sizing:
    """Finds fleets for the same traffic and goals.

    `attempt` simulates so many pods and `idle` one on which every request is alone; `most` is the
    largest number of pods that is tried.
    """

    def __init__(
        self,
        traffic: Traffic,
        goals: Sequence[Goal],
        *,
        door: float,
        spare: int,
        most: int,
        attempt: Attempt,
        idle: Callable[[Pod], Trial],
    ) -> None:
        self._traffic = traffic
        self._goals = goals
        self._door = door
        self._spare = spare
        self._most = most
        self._attempt = attempt
        self._idle_trial = idle

    def least(self, pod: Pod) -> int:
        """At least so many pods, by the demand bound."""
        mine = [goal for goal in self._goals if goal.model in pod.catalog.models]
        asked: Mapping[tuple[str, str], float] = rates(self._traffic, pod.catalog.models)
        found = demands(pod, self._traffic, mine)
        return least_pods(pod, found, sum(asked.values()), self._door)

    def unreachable(self, pod: Pod) -> list[OutOfReach]:
        """What no number of such pods gives."""
        missing = [name for name in pod.catalog.models if not pod.profiles.everywhere(name)]
        if missing:
            devices = " or ".join(pod.kind.devices)
            return [
                OutOfReach(None, None, f"{name} has no profile on {devices} ({pod.kind.name})")
                for name in missing
            ]
        return out_of_reach(pod, self._traffic, self._goals)

    def size(self, pod: Pod, known: int) -> Fleet | Unmet:
        """The smallest fleet of such pods for the pod's models; fewer than `known` are known to be
        too few."""
        reasons = self.unreachable(pod)
        if reasons:
            return Unmet(pod=pod, reasons=tuple(reasons))
        bound = self.least(pod)
        tried: dict[int, Trial] = {}
        found = self._smallest(pod, max(bound, known), tried)
        if isinstance(found, Unmet):
            return found
        no_room: tuple[VariantName, ...] = ()
        if pod.needed > pod.kind.memory:
            left_out = fitting(pod, tried[found].answers, self._traffic.asking)
            if left_out is None:
                return Unmet(pod=pod, reasons=(self._too_small(pod),))
            no_room = left_out
            pod = pod.without(no_room)
            reasons = self.unreachable(pod)
            if reasons:
                return Unmet(pod=pod, reasons=tuple(_without(r, no_room) for r in reasons))
            tried = {}
            bound = self.least(pod)
            found = self._smallest(pod, max(found, bound), tried)
            if isinstance(found, Unmet):
                return found
        if found > 1 and found - 1 not in tried:
            tried[found - 1] = self._attempt(pod, found - 1)
        if found + self._spare not in tried:
            tried[found + self._spare] = self._attempt(pod, found + self._spare)
        idle = self._idle(pod, [tried[n] for n in tried if n >= found - 1])
        trial, whole = tried[found], tried[found + self._spare]
        if idle:
            smaller = pod.without(idle)
            confirmed = self._attempt(smaller, found)
            if confirmed.holds:
                pod, trial = smaller, confirmed
                whole = self._attempt(smaller, found + self._spare) if self._spare else confirmed
            else:
                idle = ()
        return Fleet(
            pod=pod,
            pods=found,
            spare=self._spare,
            bound=bound,
            trial=trial,
            whole=whole,
            fewer=tried.get(found - 1),
            idle=idle,
            no_room=no_room,
        )

    def _smallest(self, pod: Pod, bound: int, tried: dict[int, Trial]) -> int | Unmet:
        """Grow from the bound until the goals hold, then halve what lies between."""

        def holds(count: int) -> bool:
            if count not in tried:
                tried[count] = self._attempt(pod, count)
            return tried[count].holds

        low, step, count = bound - 1, 1, bound
        looked = False
        while not holds(count):
            low = count
            if count > 2 * bound and not looked:
                # It does not come near: will it ever?
                looked = True
                idle = self._idle_trial(pod)
                short = [v for v in idle.verdicts if v.high < v.goal.least]
                if short:
                    reasons = tuple(_even_idle(verdict, pod) for verdict in short)
                    return Unmet(pod=pod, reasons=reasons, trial=tried[count])
            if count >= self._most:
                return Unmet(pod=pod, reasons=(_not_enough(tried[count], pod),), trial=tried[count])
            count = min(self._most, count + step)
            step *= 2
        high = count
        while high - low > 1:
            middle = (low + high) // 2
            if holds(middle):
                high = middle
            else:
                low = middle
        return high

    @staticmethod
    def _idle(pod: Pod, trials: Sequence[Trial]) -> tuple[VariantName, ...]:
        """What never answers, neither in the plan nor when a pod is lost."""
        unused = [set(idle_variants(pod, trial.answers)) for trial in trials]
        return tuple(v for v in pod.variants if all(v in each for each in unused))

    def _too_small(self, pod: Pod) -> OutOfReach:
        held = sum(
            min(
                (pod.memory.get(v, 0.0) for v in pod.variants if v[0] == model),
                default=0.0,
            )
            for model in pod.catalog.models
        )
        return OutOfReach(
            None,
            None,
            f"{', '.join(pod.catalog.models)} do not fit into the {pod.kind.memory:g} MB of a"
            f" {pod.kind.name} pod: the server and the smallest variant of each take"
            f" {pod.server + held:.0f} MB, everything {pod.needed:.0f} MB",
        )


def _without(reason: OutOfReach, left_out: Sequence[VariantName]) -> OutOfReach:
    listed = ", ".join("/".join(variant) for variant in left_out)
    return OutOfReach(
        reason.goal, reason.reachable, f"{reason.sentence} (without {listed}, which have no room)"
    )


def _even_idle(verdict: Verdict, pod: Pod) -> OutOfReach:
    goal = verdict.goal
    return OutOfReach(
        goal,
        verdict.value,
        f"no number of {pod.kind.name} pods gives {goal.group} a {goal.measure} of"
        f" {goal.least:g}: on an idle one, with service times that vary as they do, it is"
        f" {verdict.value:.4f}; what would work: a goal of {rounded_down(verdict.low)}, or a"
        f" longer budget",
    )


def _not_enough(trial: Trial, pod: Pod) -> OutOfReach:
    failed = trial.failed
    return OutOfReach(
        failed.goal,
        failed.value,
        f"with {trial.pods} {pod.kind.name} pods the {failed.goal.measure} of"
        f" {failed.goal.group} is {failed.value:.4f} and not {failed.goal.least:g}; more were not"
        f" tried (--most)",
    )
