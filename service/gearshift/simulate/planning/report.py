"""A plan in tables and sentences."""

from __future__ import annotations

from collections.abc import Iterator

from gearshift.simulate.planning.answer import Answer, served_rate
from gearshift.simulate.planning.choice import OneKind
from gearshift.simulate.planning.fleet import Fleet, Unmet
from gearshift.simulate.planning.goals import Measure, Standing, Verdict, enough_requests
from gearshift.simulate.planning.pod import VariantName
from gearshift.simulate.planning.trial import Trial
from gearshift.simulate.report import Grid, percent


def plan_grids(answer: Answer) -> list[Grid]:
    """The fleets, the goals, and what all models would cost on each kind alone."""
    grids = []
    if answer.plan.fleets:
        grids += [_fleets(answer), _goals(answer)]
    if len(answer.plan.kinds) > 1 or not answer.plan.fleets:
        grids.append(_kinds(answer))
    return grids


def sentences(answer: Answer) -> list[str]:
    """Why it is this answer, one sentence a reason."""
    if not answer.plan.fleets:
        return list(_unmet(answer))
    found = [_costs(answer)]
    for fleet in answer.plan.fleets:
        found += _why(fleet)
    if not answer.plan.separated and len(answer.plan.kinds) > 1 and len(answer.inputs.models) > 1:
        found.append("Only answers with all models on one kind were looked at.")
    return [*found, *answer.inputs.notes]


def _fleets(answer: Answer) -> Grid:
    rows = []
    for fleet in answer.plan.fleets:
        pods = f"{fleet.pods} + {fleet.spare}" if fleet.spare else str(fleet.pods)
        busy = ", ".join(f"{d} {percent(share)} %" for d, share in fleet.whole.busy.items())
        for number, (model, names) in enumerate(_resident(fleet).items()):
            first = (
                fleet.pod.kind.name,
                pods,
                f"{fleet.price:.4g}",
                f"{fleet.pod.needed:.0f} of {fleet.pod.kind.memory:g}",
                busy,
            )
            rows.append((*(first if number == 0 else ("",) * 5), model, ", ".join(names)))
    return Grid(
        f"The cheapest that holds every goal: {answer.plan.price:.4g} an hour",
        ("kind", "pods", "price/h", "MB a pod", "workers busy", "model", "resident"),
        tuple(rows),
    )


def _resident(fleet: Fleet) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for model, variant in fleet.pod.variants:
        found.setdefault(model, []).append(variant)
    return found


def _goals(answer: Answer) -> Grid:
    rows = []
    for fleet in answer.plan.fleets:
        fewer = {v.goal: v for v in fleet.fewer.verdicts} if fleet.fewer else {}
        for verdict in fleet.trial.verdicts:
            less = fewer.get(verdict.goal)
            rows.append(
                (
                    verdict.goal.group,
                    verdict.goal.measure.value,
                    f"{verdict.goal.least:g}",
                    f"{verdict.value:.5f}",
                    f"{verdict.low:.5f} to {verdict.high:.5f}",
                    str(verdict.requests),
                    "-" if less is None else f"{less.value:.5f}{_mark(less)}",
                )
            )
    return Grid(
        "Simulated" + (" with the spare pods gone" if answer.spare else ""),
        ("for", "goal", "at least", "found", "95 % interval", "requests", "one pod less"),
        tuple(rows),
    )


def _mark(verdict: Verdict) -> str:
    return " fails" if verdict.standing is Standing.FAILS else ""


def _kinds(answer: Answer) -> Grid:
    rows = [(kind.pod.kind.name, *_one_kind(kind, answer)) for kind in answer.plan.kinds]
    return Grid("All models on one kind", ("kind", "pods", "price/h", "why"), tuple(rows))


def _one_kind(kind: OneKind, answer: Answer) -> tuple[str, str, str]:
    found, price = kind.found, kind.pod.kind.price
    if isinstance(found, Unmet):
        return "-", "-", "cannot: see below"
    if found is None:
        least = kind.bound + answer.spare
        why = "no scheduler needs less, and that is no cheaper than the answer"
        return f">= {least}", f">= {least * price:.4g}", why
    if found.fewer is None:
        return str(found.pods + found.spare), f"{found.price:.4g}", "one pod is the least there is"
    failed = found.fewer.failed
    why = f"one less: {failed.goal.group} {failed.goal.measure} {failed.value:.4f}"
    return str(found.pods + found.spare), f"{found.price:.4g}", why


def _costs(answer: Answer) -> str:
    served = sum(served_rate(fleet, answer.inputs) for fleet in answer.plan.fleets)
    return (
        f"It costs {answer.plan.price:.4g} an hour, {answer.price_per_thousand:.4g} for a thousand"
        f" answers in time, at {served:.4g} of them a second ({answer.rate:.4g} requests)."
    )


def _why(fleet: Fleet) -> Iterator[str]:
    kind, name = fleet.pod.kind, fleet.pod.kind.name
    yield _proof(fleet)
    if fleet.spare:
        gone = f"{name} pod is" if fleet.spare == 1 else f"{name} pods are"
        yield f"The goals also hold while {fleet.spare} {gone} gone."
    else:
        yield _lost(fleet)
    if fleet.idle:
        yield f"Not needed on {name}, because they never answer: {_listed(fleet.idle)}."
    if fleet.no_room:
        yield (
            f"Left out on {name}, because {kind.memory:g} MB are too few for all and their answers"
            f" lose least: {_listed(fleet.no_room)}."
        )
    for verdict in fleet.trial.verdicts:
        if verdict.standing is Standing.UNSHOWN:
            yield (
                f"{verdict.goal.group}: none of {verdict.requests} simulated requests was missed,"
                f" which shows {verdict.low:.4f} and no more; {enough_requests(verdict.goal.least)}"
                f" would show {verdict.goal.least:g} (--requests, --seeds, or a longer workload)."
            )


def _proof(fleet: Fleet) -> str:
    name = fleet.pod.kind.name
    bound = f"no scheduler could do with fewer than {fleet.bound}"
    if fleet.fewer is None:
        return f"One {name} pod is enough; there is nothing less."
    less = fleet.fewer
    told = f"{less.pods} {name} {'pod fails' if less.pods == 1 else 'pods fail'}: {_missed(less)}"
    return f"{told}; {bound}."


def _missed(trial: Trial) -> str:
    failed = trial.failed
    beside = "not" if failed.high < failed.goal.least else "which does not show"
    return (
        f"{failed.goal.group} has {_article(failed.goal.measure)} {failed.goal.measure} of"
        f" {failed.value:.4f} ({failed.low:.4f} to {failed.high:.4f}), {beside}"
        f" {failed.goal.least:g}"
    )


def _article(measure: Measure) -> str:
    return "a" if measure is Measure.SERVED else "an"


def _lost(fleet: Fleet) -> str:
    kind = fleet.pod.kind
    until = f"for the {kind.start_seconds:g} s until another one serves"
    if fleet.fewer is None:
        return f"If the {kind.name} pod is lost, nothing is answered {until}; --spare 1 adds one."
    worst = min(
        (v for v in fleet.fewer.verdicts if v.goal.measure is Measure.ATTAINMENT),
        key=lambda verdict: verdict.value,
        default=None,
    )
    suffers = (
        fleet.fewer.failed.goal.group + " falls below its goal"
        if worst is None
        else f"{100 * worst.value:.4g} % of {worst.goal.group} are answered in time"
    )
    return f"If one {kind.name} pod is lost, {suffers} {until}; --spare 1 adds one."


def _listed(variants: tuple[VariantName, ...]) -> str:
    return ", ".join("/".join(variant) for variant in variants)


def _unmet(answer: Answer) -> Iterator[str]:
    yield "No answer holds every goal."
    told = set()
    for kind in answer.plan.kinds:
        if not isinstance(kind.found, Unmet):
            continue
        for reason in kind.found.reasons:
            if reason.sentence not in told:
                told.add(reason.sentence)
                yield f"{reason.sentence}."
