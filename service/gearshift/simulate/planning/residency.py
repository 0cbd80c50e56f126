"""Which variants a pod keeps loaded: those that fit into its memory and are worth most there."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from gearshift.core.profile import Profile
from gearshift.simulate.planning.pod import Pod, VariantName, parts
from gearshift.simulate.planning.traffic import Asking


def answered_by(pod: Pod, answers: Mapping[str, Mapping[str, int]]) -> Mapping[VariantName, int]:
    """How many answers each variant took part in; `answers` by model and gear, as counted."""
    counts = dict.fromkeys(pod.variants, 0)
    for model, gears in answers.items():
        cascades = {cascade.name: cascade for cascade in pod.catalog.models[model].cascades}
        for gear, count in gears.items():
            name, slash, stage = gear.rpartition("/")
            if slash and name in cascades:
                counts[model, cascades[name].first] += count
                if stage != "first":
                    counts[model, cascades[name].then] += count
            else:
                counts[model, gear] += count
    return counts


def idle_variants(pod: Pod, answers: Mapping[str, Mapping[str, int]]) -> tuple[VariantName, ...]:
    """Those that never answer, but for the last one of a model."""
    counts = answered_by(pod, answers)
    busy = {model for (model, _), count in counts.items() if count}
    return tuple(v for v, count in counts.items() if not count and v[0] in busy)


def fitting(
    pod: Pod, answers: Mapping[str, Mapping[str, int]], asking: Collection[Asking]
) -> tuple[VariantName, ...] | None:
    """What to leave out so that the pod's memory is enough; None if it never is.

    `answers` are those of pods with room for everything. First the largest variants go, as long as
    the others can answer every kind of request that all can. Into what room there is then, those
    come back whose answers are worth most for each megabyte: their number times the accuracy that
    is lost if a lesser variant gives them.
    """
    counts = answered_by(pod, answers)

    def size(variant: VariantName) -> float:
        return pod.memory.get(variant, 0.0)

    least = pod
    for variant in sorted(pod.variants, key=size, reverse=True):
        if size(variant) > 0 and _all_answered(least, variant, asking):
            least = least.without({variant})
    if least.needed > pod.kind.memory:
        return None
    kept = set(least.variants)
    room = pod.kind.memory - least.needed
    gone = [variant for variant in pod.variants if variant not in kept]
    worth = {v: counts[v] * _gain(least, pod, v) / size(v) for v in gone}
    for variant in sorted(gone, key=lambda v: -worth[v]):
        if worth[variant] > 0 and size(variant) <= room:
            room -= size(variant)
            kept.add(variant)
    return tuple(variant for variant in pod.variants if variant not in kept)


def _all_answered(pod: Pod, without: VariantName, asking: Collection[Asking]) -> bool:
    """Whether every kind of request that the pod can answer it can answer without it."""
    model = without[0]
    gears = pod.gears(model)
    kept: Sequence[Profile] = [gear for gear in gears if without[1] not in parts(gear)]
    return all(
        any(_able(gear, each) for gear in kept) or not any(_able(gear, each) for gear in gears)
        for each in asking
        if each.pair[0] == model
    ) and bool(kept)


def _able(gear: Profile, asking: Asking) -> bool:
    return gear.least_accuracy >= asking.floor and gear.p99(1) <= asking.budget


def _gain(least: Pod, pod: Pod, variant: VariantName) -> float:
    """By how much the variant is more accurate than the next lesser one that stays."""
    model = pod.catalog.models[variant[0]]
    accuracy = model.by_name(variant[1]).accuracy
    staying = [v.accuracy for v in least.catalog.models[model.name].variants]
    return accuracy - max((other for other in staying if other <= accuracy), default=0.0)
