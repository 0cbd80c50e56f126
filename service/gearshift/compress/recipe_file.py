"""Reading a recipe: every mistake in the file at once, each with its step, its key and a remedy."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from gearshift.compress.recipe import KINDS, Data, Recipe, RecipeError, parents


def read(path: Path) -> Recipe:
    """The recipe in the file `path`; every mistake in it is in the one error."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file; expected a recipe") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{path}: not a TOML file: {error}") from error
    return parse(table, path)


def parse(table: Mapping[str, Any], path: Path) -> Recipe:
    """A recipe from the table of its file."""
    try:
        recipe = Recipe.model_validate(table)
    except ValidationError as error:
        lines = [_told(entry, table) for entry in error.errors()]
        raise RecipeError("\n".join(f"{path}: {line}" for line in lines)) from None
    mistakes = [*_order(recipe), *_sources(recipe.data), *_folding(recipe)]
    if mistakes:
        raise RecipeError("\n".join(f"{path}: {line}" for line in mistakes))
    return recipe


def _told(entry: Any, table: Mapping[str, Any]) -> str:
    """One of pydantic's findings in our words: which step, which key, what would be right."""
    place = [part for part in entry["loc"] if part not in KINDS]
    where = ""
    if place and place[0] == "steps" and len(place) > 1:
        index = place[1]
        steps = table.get("steps")
        named = steps[index].get("name") if isinstance(steps, list) else None
        where = f"step {index + 1}" + (f" ({named!r})" if named else "") + ": "
        place = place[2:]
    key = ".".join(str(part) for part in place)
    if entry["type"] == "extra_forbidden":
        known = _known(entry["loc"], table)
        return f"{where}unknown key {key!r}" + (f"; known are {', '.join(known)}" if known else "")
    if entry["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return f"{where}unknown kind of step; known are {', '.join(KINDS)}"
    message = entry["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return f"{where}{key}: {message}" if key else f"{where}{message}"


def _known(location: tuple[Any, ...], table: Mapping[str, Any]) -> list[str]:
    """The keys of the table in which an unknown one was found."""
    model: Any = Recipe
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        if part in KINDS:
            model = KINDS[part]
            continue
        if part == "steps":
            continue
        annotation = model.model_fields[part].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        model = next(
            (c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None
        )
        if model is None:
            return []
    return list(model.model_fields)


def _order(recipe: Recipe) -> list[str]:
    """Steps that name what does not come before them, or have a name that is taken."""
    mistakes = []
    before: set[str] = set()
    for index, step in enumerate(recipe.steps, start=1):
        where = f"step {index} ({step.name!r}): "
        if step.name in before:
            mistakes.append(f"{where}the name is taken by an earlier step")
        mistakes.extend(
            f"{where}no earlier step is named {name!r}; there are "
            f"{', '.join(sorted(before)) or 'none'}"
            for name in parents(step)
            if name not in before
        )
        before.add(step.name)
    return mistakes


def _folding(recipe: Recipe) -> list[str]:
    if recipe.cross_fitting is None:
        return []
    if recipe.cross_validation is not None:
        return ["cross_fitting: cannot be had together with cross_validation"]
    if recipe.data.adapter is None:
        return ["cross_fitting: needs data.adapter, a function with the options fold and folds"]
    return []


def _sources(data: Data) -> list[str]:
    files = {
        "training": data.training,
        "calibration": data.calibration,
        "evaluation": data.evaluation,
    }
    given = [name for name, path in files.items() if path is not None]
    if data.adapter is not None and given:
        return [f"data: has both `adapter` and {', '.join(f'`{name}`' for name in given)}"]
    missing = [name for name in files if name not in given]
    if data.adapter is None and missing:
        return [
            f"data: {', '.join(f'`{name}`' for name in missing)} missing; expected three .npz "
            "files, or an `adapter`"
        ]
    if data.adapter is None and not data.licence:
        return ["data: `licence` missing; say under which terms the rows may be used"]
    return []
