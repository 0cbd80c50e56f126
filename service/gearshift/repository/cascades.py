"""Loading cascades: what model.toml declares, with what was learned for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

from gearshift.core.card import CASCADE_SCHEMA, CascadeCard
from gearshift.core.catalog import Cascade, Signature, Variant
from gearshift.engine.confidence import check_confidence
from gearshift.repository.cards import Mistake, inconsistent, read_card
from gearshift.repository.files import ABSENT, Root
from gearshift.repository.findings import Findings
from gearshift.repository.intent import Intent
from gearshift.repository.schema import CascadeEntry, CascadeFile

CASCADE_FILE = "cascade.json"


class CascadeLoader:
    """Reads the cascades of one model; what it cannot use it writes into the findings."""

    def __init__(self, root: Root, folder: Path, file: str, findings: Findings) -> None:
        """`file` is how messages name the model.toml in `folder`."""
        self._root = root
        self._folder = folder
        self._file = file
        self._findings = findings

    def load(
        self,
        intent: Intent,
        known: Sequence[Variant],
        signature: Signature | None,
        *,
        unlearned: bool,
    ) -> tuple[Cascade, ...]:
        """All cascades that are sound, in the order of the file. `known` are the variants that
        could be read; with `unlearned` nobody looks at what was learned."""
        if intent.cascades and intent.metric is not None and signature is not None:
            try:
                check_confidence(intent.metric, signature)
            except ValueError as error:
                self._findings.add(self._file, "cascades", str(error))
        variants = {variant.name: variant for variant in known}
        found = []
        for index, entry in intent.cascades.items():
            mistakes = list(_mistakes(index, entry, intent, variants))
            for key, message in mistakes:
                self._findings.add(self._file, f"cascades[{index}].{key}", message)
            if mistakes or not {entry.first, entry.then} <= variants.keys():
                continue
            first, then = variants[entry.first], variants[entry.then]
            if unlearned:
                found.append(_cascade(entry, 0.0, 0.0, first.accuracy))
                continue
            card = self._card(entry, intent, first, then)
            if card is not None:
                value = card.accuracy.value
                found.append(_cascade(entry, card.threshold, card.escalated, value))
        return tuple(found)

    def _card(
        self, entry: CascadeEntry, intent: Intent, first: Variant, then: Variant
    ) -> CascadeCard | None:
        path = self._folder / entry.name / CASCADE_FILE
        file = self._root.relative(path)
        complaint = self._root.complaint(path)
        if complaint is not None:
            hint = f"; learn it with `{_command(self._folder)}`" if complaint == ABSENT else ""
            self._findings.add(file, "", complaint + hint)
            return None
        held = read_card(self._root, path, self._findings, CascadeFile)
        if held is None:
            return None
        card = held.card
        mistakes = list(
            _contradictions(card, entry, self._folder, intent.metric, first=first, then=then)
        )
        for key, message in mistakes:
            self._findings.add(file, key, message)
        return None if mistakes else card


def _cascade(entry: CascadeEntry, threshold: float, escalated: float, accuracy: float) -> Cascade:
    return Cascade(
        name=entry.name,
        first=entry.first,
        then=entry.then,
        threshold=threshold,
        escalated=escalated,
        accuracy=accuracy,
    )


def _mistakes(
    index: int, entry: CascadeEntry, intent: Intent, variants: dict[str, Variant]
) -> Iterator[Mistake]:
    """What is wrong with a table of model.toml, by key."""
    declared = [variant.name for variant in intent.variants.values()]
    for key, name in (("first", entry.first), ("then", entry.then)):
        if name not in declared:
            near = get_close_matches(name, declared, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            there = ", ".join(map(repr, declared)) or "none"
            yield key, f"no variant is named {name!r}; {hint}there are: {there}"
    if entry.first == entry.then:
        yield "then", f"{entry.then!r} is the first variant, too; a cascade needs two"
    elif entry.first in variants and entry.then in variants:
        first, then = variants[entry.first], variants[entry.then]
        if first.accuracy >= then.accuracy:
            yield (
                "first",
                f"{first.name!r} with {first.accuracy:.4f} must be less accurate than"
                f" {then.name!r} with {then.accuracy:.4f}",
            )
    if entry.name in declared:
        yield "name", f"{entry.name!r} is a variant's name; every cascade needs its own"
    for place, other in intent.cascades.items():
        if place < index and other.name == entry.name:
            yield "name", f"{entry.name!r} is taken by cascades[{place}]; every one needs its own"
            break


def _contradictions(
    card: CascadeCard,
    entry: CascadeEntry,
    folder: Path,
    metric: str | None,
    *,
    first: Variant,
    then: Variant,
) -> Iterator[Mistake]:
    """Where what was learned is not about this cascade, these artifacts, or contradicts itself."""
    again = f"run `{card.command or _command(folder)}` again"
    if card.schema != CASCADE_SCHEMA:
        yield "schema", f"{card.schema} is not the format read here; expected {CASCADE_SCHEMA}"
    for key, said, expected in (
        ("model", card.model, folder.name),
        ("cascade", card.cascade, entry.name),
        ("first", card.first, entry.first),
        ("then", card.then, entry.then),
    ):
        if said != expected:
            yield key, f"was learned for {said!r}; here it is {expected!r}; {again}"
    for key, said, variant in (
        ("first_sha256", card.first_sha256, first),
        ("then_sha256", card.then_sha256, then),
    ):
        if said != variant.artifact_sha256:
            yield (
                key,
                f"was learned with another artifact: {said[:12]!r}..., but that of"
                f" {variant.name!r} has {variant.artifact_sha256[:12]!r}...; {again}",
            )
    if metric is not None and card.accuracy.metric != metric:
        yield (
            "accuracy.metric",
            f"measured {card.accuracy.metric!r}, but the metric of the model is {metric!r};"
            f" {again}",
        )
    for key, value in (("threshold", card.threshold), ("escalated", card.escalated)):
        if not 0.0 <= value <= 1.0:
            yield key, f"{value} is no share; expected a number between 0 and 1"
    yield from inconsistent("accuracy", card.accuracy)
    yield from inconsistent("difference", card.difference)


def _command(folder: Path) -> str:
    return f"gearshift cascade {folder.name}"
