"""What no number of pods of a kind can give: the goals out of reach, and the nearest that would
not be.

On an idle pod a request is answered by the most accurate gear whose p99 is within its budget,
and refused where there is none; more pods can come near that, and not beyond.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gearshift.core.profile import Profile
from gearshift.simulate.planning.goals import ROUNDING, Goal, Measure
from gearshift.simulate.planning.pod import Pod
from gearshift.simulate.planning.traffic import Asking, Traffic


@dataclass(frozen=True, slots=True)
class OutOfReach:
    """A goal that pods of this kind do not reach: the most that they would, if that is known,
    and in a sentence why, with the nearest that would work."""

    goal: Goal | None
    reachable: float | None
    sentence: str


def out_of_reach(pod: Pod, traffic: Traffic, goals: Sequence[Goal]) -> list[OutOfReach]:
    """Every goal for the pod's models that is out of reach, whatever the number of pods."""
    idle = [
        (asking, idle_gear(pod, asking))
        for asking in traffic.asking
        if asking.pair[0] in pod.catalog.models
    ]
    found = []
    for goal in goals:
        mine = [(asking, gear) for asking, gear in idle if goal.covers(asking.pair)]
        if not mine:
            continue
        whole = sum(asking.rate for asking, _ in mine)
        answered = sum(asking.rate for asking, gear in mine if gear is not None)
        gained = sum(a.rate * gear.variant.accuracy for a, gear in mine if gear is not None)
        if goal.measure is Measure.ATTAINMENT:
            most = answered / whole
        elif goal.measure is Measure.SERVED:
            most = gained / answered if answered else 0.0
        else:
            most = gained / whole
        if most >= goal.least - ROUNDING * max(1.0, goal.least):
            continue
        if goal.measure is Measure.ATTAINMENT:
            refused = max((a for a, gear in mine if gear is None), key=lambda each: each.rate)
            sentence = _unanswerable(pod, goal, refused, 1 - most)
        else:
            sentence = _inaccurate(pod, goal, mine, most)
        found.append(OutOfReach(goal, most, sentence))
    return found


def idle_gear(pod: Pod, asking: Asking) -> Profile | None:
    """The gear in which an idle pod answers, if there is one."""
    able = [
        gear
        for gear in pod.gears(asking.pair[0])
        if gear.least_accuracy >= asking.floor and gear.p99(1) <= asking.budget
    ]
    return max(able, key=lambda gear: gear.variant.accuracy, default=None)


def _unanswerable(pod: Pod, goal: Goal, asking: Asking, share: float) -> str:
    """Why `share` of the requests cannot be answered, by the kind that most of them are."""
    gears = pod.gears(asking.pair[0])
    accurate = [gear for gear in gears if gear.least_accuracy >= asking.floor]
    floor = f" with an accuracy of at least {asking.floor:g}" if asking.floor > 0 else ""
    sentence = (
        f"{100 * share:.3g} % of the requests of {goal.group} cannot be answered by any number of"
        f" {pod.kind.name} pods: nothing answers {'/'.join(asking.pair)} within"
        f" {ms(asking.budget)}{floor} there"
    )
    nearest = []
    if accurate:
        quick = min(accurate, key=lambda gear: gear.p99(1))
        nearest.append(f"a budget of {ms(quick.p99(1))} ({quick.variant.name})")
    in_time = [gear for gear in gears if gear.p99(1) <= asking.budget]
    if in_time:
        best = max(in_time, key=lambda gear: gear.least_accuracy)
        nearest.append(f"a floor of {best.least_accuracy:.4g} ({best.variant.name})")
    return f"{sentence}; what would work: {' or '.join(nearest)}" if nearest else sentence


def _inaccurate(
    pod: Pod, goal: Goal, mine: Sequence[tuple[Asking, Profile | None]], most: float
) -> str:
    """What stands in the way of accuracy: the budget of the kind of request that loses most."""
    best = {each.pair[0]: pod.gears(each.pair[0]) for each, _ in mine}

    def lost(pair: tuple[Asking, Profile | None]) -> float:
        asking, gear = pair
        top = max((g.variant.accuracy for g in best[asking.pair[0]]), default=0.0)
        return asking.rate * (top - (gear.variant.accuracy if gear else 0.0))

    asking, gear = max(mine, key=lost)
    sentence = (
        f"no number of {pod.kind.name} pods gives {goal.group} a {goal.measure} of"
        f" {goal.least:g}: it is {most:.4f} at the most"
    )
    if gear is not None:
        sentence += f", because {gear.variant.name} is the best within {ms(asking.budget)}"
    better = [
        g
        for g in best[asking.pair[0]]
        if g.variant.accuracy >= goal.least and g.p99(1) > asking.budget
    ]
    work = f"a goal of {rounded_down(most)}"
    if better:
        quick = min(better, key=lambda g: g.p99(1))
        work += (
            f" or a budget of {ms(quick.p99(1))} for {'/'.join(asking.pair)}"
            f" ({quick.variant.name}, {quick.variant.accuracy:.4g})"
        )
    return f"{sentence}; what would work: {work}"


def rounded_down(value: float) -> str:
    """Four digits that are not above the value: what is recommended must be within reach."""
    return f"{math.floor(value * 1e4 + 1e-6) / 1e4:.4f}"


def ms(seconds: float) -> str:
    """A time as people read it."""
    return "unlimited time" if seconds == math.inf else f"{seconds * 1e3:.3g} ms"
