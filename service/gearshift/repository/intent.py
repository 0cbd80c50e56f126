"""Reading `model.toml`: what people decided, as far as it can be understood.

A mistake in one table does not hide the others: what is valid is handed on, so that the
files of the sound variants are still checked and everything is reported in one go.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from gearshift.repository.files import Root, read_text
from gearshift.repository.findings import Findings
from gearshift.repository.schema import (
    MOST_STEPS,
    CascadeEntry,
    ClassEntry,
    ModelFile,
    VariantEntry,
)

MOST_ENTRIES = 1_000
MOST_DOTS = 64
"""In one line."""

Entry = TypeVar("Entry", bound=BaseModel)


@dataclass(slots=True, kw_only=True)
class Intent:
    """The valid parts of one model.toml. `variants` and `cascades` keep each one's place in it;
    `before` and `after` are as written: each kind of step has its own keys (`repository.steps`).

    `file` is None unless the whole document is valid; only then may a model be built.
    """

    metric: str | None = None
    classes: Mapping[str, ClassEntry] = field(default_factory=dict)
    variants: Mapping[int, VariantEntry] = field(default_factory=dict)
    cascades: Mapping[int, CascadeEntry] = field(default_factory=dict)
    before: Sequence[Mapping[str, Any]] = ()
    after: Sequence[Mapping[str, Any]] = ()
    file: ModelFile | None = None


def read_intent(root: Root, path: Path, findings: Findings) -> Intent | None:
    """Read and validate `path`; None if it is not even TOML."""
    file = root.relative(path)
    try:
        document = tomllib.loads(_plain(read_text(root, path)))
    except tomllib.TOMLDecodeError as error:
        findings.add(file, "", f"is not TOML: {error}")
        return None
    except RecursionError:
        findings.add(file, "", "is nested too deeply; a model needs two levels")
        return None
    except ValueError as error:
        findings.add(file, "", str(error))
        return None
    return intent_of(document, file, findings)


def intent_of(document: dict[str, Any], file: str, findings: Findings) -> Intent | None:
    """The same of a document that was read already; `file` is whence, for messages."""
    if _too_many(document):
        findings.add(file, "", f"lists more than {MOST_ENTRIES} entries of one kind")
        return None
    intent = _validated(document, file, findings)
    _check_default_class(document, file, findings)
    _check_priorities(intent.classes, document.get("default_class"), file, findings)
    for attribute in ("name", "version"):
        _check_unique(intent.variants, attribute, file, findings)
    if intent.variants and all(entry.canary is not None for entry in intent.variants.values()):
        findings.add(
            file, "variants", "are all canaries; somebody must serve: leave out one's `canary`"
        )
    return intent


def _plain(text: str) -> str:
    """The text, if no key in it has so many parts that reading it takes minutes: tomllib's time
    goes with their square. ValueError with the line otherwise."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > MOST_DOTS and not line.lstrip().startswith("#"):
            raise ValueError(f"has more than {MOST_DOTS} dots in line {number}; no key has so many")
    return text


def _too_many(document: dict[str, Any]) -> bool:
    """More than are worth a message each."""
    return any(
        isinstance(entries, (list, dict)) and len(entries) > MOST_ENTRIES
        for entries in (document, *document.values())
    )


def _validated(document: dict[str, Any], file: str, findings: Findings) -> Intent:
    try:
        model = ModelFile.model_validate(document)
    except ValidationError as error:
        findings.add_invalid(file, error, ModelFile)
        metric = document.get("metric")
        return Intent(
            metric=metric if isinstance(metric, str) else None,
            classes={str(name): entry for name, entry in _valid(document, "classes", ClassEntry)},
            variants=_listed(document, "variants", VariantEntry),
            cascades=_listed(document, "cascades", CascadeEntry),
            before=_tables(document, "before"),
            after=_tables(document, "after"),
        )
    return Intent(
        metric=model.metric,
        classes=model.classes,
        variants=dict(enumerate(model.variants)),
        cascades=dict(enumerate(model.cascades)),
        before=model.before,
        after=model.after,
        file=model,
    )


def _tables(document: dict[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    """The steps that are tables at all; none where there are too many."""
    value = document.get(key)
    if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
        return ()
    return value if len(value) <= MOST_STEPS else ()


def _listed(document: dict[str, Any], key: str, schema: type[Entry]) -> Mapping[int, Entry]:
    return {i: entry for i, entry in _valid(document, key, schema) if isinstance(i, int)}


def _valid(
    document: dict[str, Any], key: str, schema: type[Entry]
) -> Iterator[tuple[int | str, Entry]]:
    """The entries of a list or table that are valid on their own, by index or name."""
    value = document.get(key)
    entries: list[tuple[int | str, Any]] = []
    if isinstance(value, list):
        entries.extend(enumerate(value))
    elif isinstance(value, dict):
        entries.extend(value.items())
    for place, entry in entries:
        try:
            yield place, schema.model_validate(entry)
        except ValidationError:  # reported already, with its place in the whole document
            continue


def _check_default_class(document: dict[str, Any], file: str, findings: Findings) -> None:
    # Against the names as written: a class with a mistake inside is declared all the same.
    default, classes = document.get("default_class"), document.get("classes")
    if not isinstance(default, str) or not isinstance(classes, dict) or default in classes:
        return
    near = get_close_matches(default, classes, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    declared = ", ".join(repr(name) for name in classes) or "none"
    findings.add(file, "default_class", f"{default!r} is not declared; {hint}there are: {declared}")


def _check_priorities(
    classes: Mapping[str, ClassEntry], default: object, file: str, findings: Findings
) -> None:
    """Each leads to one class, and all others to the default class: clients must be able to name
    that as well, as in Triton (`default_priority_level`)."""
    first: dict[int, str] = {}
    for name, each in classes.items():
        if each.priority in first:
            findings.add(
                file,
                f"classes.{name}.priority",
                f"{each.priority} is that of {first[each.priority]!r}; every class needs its own",
            )
        elif each.priority is not None:
            first[each.priority] = name
    entry = classes.get(default) if isinstance(default, str) else None
    if first and entry is not None and entry.priority is None:
        findings.add(
            file,
            f"classes.{default}.priority",
            "is missing; where others have one, the default class needs one, too",
        )


def _check_unique(
    variants: Mapping[int, VariantEntry], attribute: str, file: str, findings: Findings
) -> None:
    values = {index: getattr(variant, attribute) for index, variant in variants.items()}
    counts = Counter(values.values())
    first: dict[object, int] = {}
    for index, value in values.items():
        if counts[value] > 1 and value in first:
            findings.add(
                file,
                f"variants[{index}].{attribute}",
                f"{value!r} is taken by variants[{first[value]}]; every variant needs its own"
                f" {attribute}",
            )
        first.setdefault(value, index)
