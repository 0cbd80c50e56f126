"""What is known of a model's variants has changed: the model as it is now, its queue sorted anew.

Accuracies and standings are learned while the server runs. A lane and its strands rest on them,
so they are made anew and the waiting tickets moved over; what was learned about latencies and
arrivals stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gearshift.core.cascade import with_cascades
from gearshift.core.catalog import Cascade, Model, Standing, Variant
from gearshift.core.lane import Away, Lane, Out
from gearshift.core.request import Ticket
from gearshift.core.strand import Key, Strand
from gearshift.errors import RequestError


def revised(
    model: Model, accuracies: Mapping[str, float], standings: Mapping[str, Standing]
) -> Model:
    """The model with these accuracies and standings, by variant; what is not named stays.

    Accuracies may be those of cascades, too; one that is not named follows its variants. There is
    always a variant that serves: if none were left, all that were not canaries would.
    """
    changes = {
        variant.name: accuracies.get(variant.name, variant.accuracy) - variant.accuracy
        for variant in model.variants
    }
    variants = [
        replace(
            variant,
            accuracy=accuracies.get(variant.name, variant.accuracy),
            source=_source(variant, accuracies.get(variant.name, variant.accuracy)),
            standing=standings.get(variant.name, variant.standing),
        )
        for variant in model.variants
    ]
    if all(variant.standing is not Standing.SERVING for variant in variants):
        variants = [
            replace(variant, standing=before.standing)
            for variant, before in zip(variants, model.variants, strict=True)
        ]
    cascades = tuple(
        replace(
            cascade,
            accuracy=accuracies.get(cascade.name, follow(cascade, changes)),
        )
        for cascade in model.cascades
    )
    ordered = sorted(variants, key=lambda variant: -variant.accuracy)
    return replace(model, variants=tuple(ordered), cascades=cascades)


def shared(model: Model, other: Model) -> set[str]:
    """The names of those variants that two generations of a model have in common, by the hash of
    their artifacts, and of the cascades made of them: what is learned of one holds for both."""
    artifacts = {variant.name: variant.artifact_sha256 for variant in other.variants}
    names = {
        variant.name
        for variant in model.variants
        if variant.artifact_sha256 and artifacts.get(variant.name) == variant.artifact_sha256
    }
    made_of = {(c.name, c.first, c.then, c.threshold) for c in other.cascades}
    return names | {
        cascade.name
        for cascade in model.cascades
        if {cascade.first, cascade.then} <= names
        and (cascade.name, cascade.first, cascade.then, cascade.threshold) in made_of
    }


def _source(variant: Variant, accuracy: float) -> str:
    """Where an accuracy comes from that a variant is given: from labels, unless it is its card's
    or the one that it has."""
    if accuracy == variant.accuracy:
        return variant.source
    card = variant.card
    return "measured" if card is not None and accuracy == card.accuracy.value else "live"


def follow(cascade: Cascade, changes: Mapping[str, float]) -> float:
    """The accuracy of a cascade whose variants' accuracies have changed by so much: the rows that
    go on follow its second, the others its first."""
    first, then = changes[cascade.first], changes[cascade.then]
    return cascade.accuracy + (1.0 - cascade.escalated) * first + cascade.escalated * then


@dataclass(slots=True)
class Sorted:
    """A lane made anew: who waits where in it, and who has nobody left to answer, and why."""

    lane: Lane
    places: dict[int, tuple[Strand, Key]] = field(default_factory=dict)
    refused: list[tuple[Ticket, RequestError]] = field(default_factory=list)


def sorted_anew(old: Lane, model: Model, out: Out, now: float, away: Away | None = None) -> Sorted:
    """The lane of `model`, the same as before but for what is known of its variants, with those
    profiles out of it. With `away` these are what is not loaded from now on: who waits already may
    still run on what begins to leave."""
    alone = old.alone
    for profile in alone:
        profile.variant = model.by_name(profile.variant.name)
    lane = Lane(model, with_cascades(model, alone), out, old.away if away is None else away)
    lane.inherit(old)
    found = Sorted(lane)
    for strand in old.strands:
        early = bool(lane.away.leaving) and (away is not None or strand.before)
        for key in strand.keys[strand.start :]:
            ticket = key[2]
            # What has no deadline goes elsewhere if it can: nothing could leave for it.
            before = early and not (strand.lenient and _does_without(lane, ticket, now))
            try:
                lane.check(ticket, now, before=before)
            except RequestError as error:
                found.refused.append((ticket, error))
                continue
            place = lane.place(lane.key(ticket, lenient=strand.lenient, before=before), strand)
            place.add(key)
            found.places[ticket.id] = (place, key)
            lane.count += 1
    return found


def _does_without(lane: Lane, ticket: Ticket, now: float) -> bool:
    """Whether there is an answer for it without what leaves."""
    try:
        lane.check(ticket, now)
    except RequestError:
        return False
    return True
