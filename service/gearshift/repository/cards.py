"""Reading a card, and holding it against the artifact and the model that it speaks of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from gearshift.core.card import SCHEMA, Card, Measurement
from gearshift.repository.files import Root, read_text
from gearshift.repository.findings import Findings, shown
from gearshift.repository.schema import CardFile, CascadeFile

Mistake = tuple[str, str]
"""A key inside the card, and what is wrong there."""


LARGEST_COUNT = 2**53
"""Of bytes, parameters or examples: beyond it numbers are no longer exact in other readers."""

MOST_LISTED = 200
"""Further measurements, or tools, of one card."""

Holder = TypeVar("Holder", CardFile, CascadeFile)


def read_card(root: Root, path: Path, findings: Findings, holder: type[Holder]) -> Holder | None:
    """What `path` holds; None, and the mistakes in `findings`, if it is no such card."""
    file = root.relative(path)
    try:
        text = read_text(root, path)
    except ValueError as error:
        findings.add(file, "", str(error))
        return None
    try:
        json.loads(text, object_pairs_hook=_without_repeats)
    except RecursionError:
        findings.add(file, "", "is nested too deeply; a card needs three levels")
        return None
    except json.JSONDecodeError as error:
        findings.add(file, "", f"is not JSON: {error}")
        return None
    except ValueError as error:
        findings.add(file, "", str(error))
        return None
    # Validated as JSON and not as parsed values: only there is a list as good as a tuple.
    try:
        return holder.model_validate_json(f'{{"card":{text}}}')
    except ValidationError as error:
        findings.add_invalid(file, error, holder, within=("card",))
        return None


def _without_repeats(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A table in which every key stands once: of two, readers take one or the other."""
    table = dict(pairs)
    if len(table) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"has the key {shown(twice)} twice in one table")
    return table


def contradictions(
    card: Card, *, model: str, variant: str, metric: str | None
) -> Iterator[Mistake]:
    """Where the card does not fit the variant in whose folder it lies, or contradicts itself."""
    if card.schema != SCHEMA:
        yield "schema", f"{card.schema} is not the format read here; expected {SCHEMA}"
    if card.model != model:
        yield "model", f"is a card of model {card.model!r}; this folder belongs to {model!r}"
    if card.variant != variant:
        yield "variant", f"is a card of variant {card.variant!r}; expected {variant!r}"
    if metric is not None and card.accuracy.metric != metric:
        yield (
            "accuracy.metric",
            f"measured {card.accuracy.metric!r}, but the metric of the model is {metric!r}",
        )
    for key, number in (("artifact_bytes", card.artifact_bytes), ("parameters", card.parameters)):
        if not 0 <= number <= LARGEST_COUNT:
            yield key, f"{shown(number)} cannot be; expected a number from 0 to {LARGEST_COUNT}"
    for key, listed in (("further", card.further), ("recipe.tools", card.recipe.tools)):
        if len(listed) > MOST_LISTED:
            yield key, f"lists {len(listed)}; {MOST_LISTED} are the most"
    yield from inconsistent("accuracy", card.accuracy)
    for index, further in enumerate(card.further):
        yield from inconsistent(f"further[{index}]", further)
    if card.data.training_sha256 == card.data.evaluation_sha256:
        yield (
            "data.evaluation_sha256",
            "is the training data; accuracy counts only where it was measured on held-out rows",
        )


def foreign_artifact(card: Card, *, artifact: str, sha256: str, size: int) -> Iterator[Mistake]:
    """Where the card was measured on another artifact than the one beside it."""
    remedy = "measure it again, or put the artifact back that was measured"
    if card.artifact != artifact:
        yield "artifact", f"speaks of {card.artifact!r}; the artifact here is {artifact!r}"
    if card.artifact_sha256 != sha256:
        yield (
            "artifact_sha256",
            f"is a card for another artifact: {card.artifact_sha256[:12]!r}..., but the file"
            f" has {sha256[:12]!r}...; {remedy}",
        )
    elif card.artifact_bytes != size:
        yield "artifact_bytes", f"says {card.artifact_bytes}, but the file has {size}; {remedy}"


def inconsistent(key: str, measurement: Measurement) -> Iterator[Mistake]:
    """Where a measurement contradicts itself."""
    if not measurement.low <= measurement.value <= measurement.high:
        yield (
            f"{key}.value",
            f"{measurement.value} lies outside its own interval"
            f" [{measurement.low}, {measurement.high}]",
        )
    if measurement.n < 1:
        told = shown(measurement.n)
        yield f"{key}.n", f"{told} examples cannot measure anything; expected 1 or more"
    elif measurement.n > LARGEST_COUNT:
        yield f"{key}.n", f"{shown(measurement.n)} is more than {LARGEST_COUNT} examples"
