"""A plan as it is told: what was asked, what was found, under which conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from gearshift.simulate.mistakes import Mistakes
from gearshift.simulate.planning.choice import OneKind, Plan, choose
from gearshift.simulate.planning.fleet import Fleet, Sizing
from gearshift.simulate.planning.goals import Goal, Verdict, Wish, resolve
from gearshift.simulate.planning.inputs import Inputs
from gearshift.simulate.planning.residency import answered_by
from gearshift.simulate.planning.traffic import rates
from gearshift.simulate.planning.trial import Conditions, OnProgress, Trial, simulate, simulate_idle


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The plan for these inputs and goals. `rate` is how many requests a second there are."""

    plan: Plan
    goals: tuple[Goal, ...]
    inputs: Inputs
    conditions: Conditions
    spare: int
    rate: float

    @property
    def price_per_thousand(self) -> float:
        """Of a thousand answers in time, with all pods up."""
        served = sum(served_rate(fleet, self.inputs) for fleet in self.plan.fleets)
        return self.plan.price / (served * 3.6) if served else float("inf")


def work_out(
    inputs: Inputs,
    wishes: Sequence[Wish],
    conditions: Conditions,
    *,
    spare: int,
    together: bool,
    most: int,
    on_progress: OnProgress,
) -> Answer:
    """The cheapest fleets that hold the goals; ConfigurationInvalid for a goal that is nobody's.

    `most` is the largest number of pods of one fleet that is tried.
    """
    mistakes = Mistakes()
    asked = rates(inputs.traffic, inputs.models)
    goals = resolve(wishes, tuple(asked), mistakes)
    mistakes.raise_if_any()
    given: dict[str, Any] = {
        "traffic": inputs.traffic,
        "goals": goals,
        "conditions": conditions,
        "on_progress": on_progress,
    }
    sizing = Sizing(
        inputs.traffic,
        goals,
        door=conditions.door,
        spare=spare,
        most=most,
        attempt=partial(simulate, **given),
        idle=partial(simulate_idle, **given),
    )
    return Answer(
        plan=choose(inputs.pods, inputs.models, sizing, spare, together=together),
        goals=tuple(goals),
        inputs=inputs,
        conditions=conditions,
        spare=spare,
        rate=sum(asked.values()),
    )


def served_rate(fleet: Fleet, inputs: Inputs) -> float:
    """Answers in time a second that the whole fleet gives."""
    asked = rates(inputs.traffic, fleet.pod.catalog.models)
    found = 0.0
    for (model, service_class), rate in asked.items():
        tally = fleet.whole.tallies[f"{model}/{service_class}"]
        found += rate * (tally.served / tally.requests if tally.requests else 1.0)
    return found


def to_json(answer: Answer) -> dict[str, Any]:
    """Everything that was found, as JSON holds it; prices in the kinds file's currency."""
    plan = answer.plan
    return {
        "answer": None
        if not plan.fleets
        else {
            "price_per_hour": plan.price,
            "price_per_thousand_answers": answer.price_per_thousand,
            "fleets": [_fleet(fleet, answer) for fleet in plan.fleets],
        },
        "kinds": [_kind(kind) for kind in plan.kinds],
        "separated": plan.separated,
        "goals": [asdict(goal) for goal in answer.goals],
        "requests_per_second": answer.rate,
        "asking": [
            {
                "model": each.pair[0],
                "service_class": each.pair[1],
                "budget_ms": None if each.budget == float("inf") else 1e3 * each.budget,
                "min_accuracy": None if each.floor == -float("inf") else each.floor,
                "requests_per_second": each.rate,
            }
            for each in answer.inputs.traffic.asking
        ],
        "conditions": asdict(answer.conditions),
        "notes": list(answer.inputs.notes),
        "files": {role: asdict(source) for role, source in answer.inputs.sources.items()},
    }


def _fleet(fleet: Fleet, answer: Answer) -> dict[str, Any]:
    kind = fleet.pod.kind
    return {
        "kind": kind.name,
        "pods": fleet.pods,
        "spare": fleet.spare,
        "price_per_hour": fleet.price,
        "models": list(fleet.pod.catalog.models),
        "resident": _by_model(fleet.pod.variants),
        "idle": _by_model(fleet.idle),
        "no_room": _by_model(fleet.no_room),
        "memory_mb": fleet.pod.needed,
        "least_pods_by_bound": fleet.bound,
        "answered_by": {
            "/".join(variant): count
            for variant, count in answered_by(fleet.pod, fleet.whole.answers).items()
        },
        "goals_hold": _trial(fleet.trial),
        "all_pods": _trial(fleet.whole),
        "one_less_fails": None if fleet.fewer is None else _trial(fleet.fewer),
        "requests_per_second": sum(rates(answer.inputs.traffic, fleet.pod.catalog.models).values()),
    }


def _by_model(variants: Sequence[tuple[str, str]]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for model, variant in variants:
        found.setdefault(model, []).append(variant)
    return found


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "pods": trial.pods,
        "requests": trial.simulated,
        "busy": dict(trial.busy),
        "front_door": trial.door,
        "goals": [_verdict(verdict) for verdict in trial.verdicts],
        "answers": {model: dict(gears) for model, gears in trial.answers.items()},
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {**asdict(verdict), "goal": asdict(verdict.goal)}


def _kind(kind: OneKind) -> dict[str, Any]:
    found = kind.found
    told: dict[str, Any] = {"kind": kind.pod.kind.name, "least_pods_by_bound": kind.bound}
    if isinstance(found, Fleet):
        told |= {"pods": found.pods, "spare": found.spare, "price_per_hour": found.price}
        told["one_less_fails"] = None if found.fewer is None else _trial(found.fewer)
    elif found is not None:
        told["cannot"] = [reason.sentence for reason in found.reasons]
    return told
