"""`model.toml`: written when there is none, extended by what is new, never changed otherwise."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

from gearshift.compress.recipe import Recipe
from gearshift.errors import GearshiftError

FILE = "model.toml"
WITHDRAWN = re.compile(r"^# version (\d+) was ", re.MULTILINE)
"""The line that keeps the number of a variant that is no longer shipped."""


class IntentError(GearshiftError):
    """A `model.toml` does not go with the recipe."""


def declare(folder: Path, recipe: Recipe, variants: Sequence[str]) -> list[str]:
    """Make `folder`/model.toml name all `variants`, best first; the lines that were added.

    Numbers that are in the file stay, new variants get the next ones: a number is never used
    twice.
    """
    path = folder / FILE
    if not path.exists():
        lines = [*_head(recipe), *_entries(variants, 1)]
        _write(path, "\n".join(lines) + "\n")
        return lines
    text = path.read_text(encoding="utf-8")
    try:
        known = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise IntentError(f"{path}: not a TOML file: {error}") from error
    if known.get("metric") != recipe.metric:
        raise IntentError(
            f"{path}: metric is {known.get('metric')!r}, the recipe measures {recipe.metric!r}; "
            "they must be the same"
        )
    entries = known.get("variants", [])
    there = {entry["name"] for entry in entries}
    fresh = [name for name in variants if name not in there]
    if not fresh:
        return []
    used = [entry["version"] for entry in entries] + [int(n) for n in WITHDRAWN.findall(text)]
    lines = _entries(fresh, 1 + max(used, default=0))
    _write(path, text.rstrip("\n") + "\n" + "\n".join(lines) + "\n")
    return lines


def withdraw(folder: Path, variants: Sequence[str]) -> None:
    """Take the tables of `variants` out of `folder`/model.toml; their numbers stay used."""
    path = folder / FILE
    text = path.read_text(encoding="utf-8")
    kept = []
    for block in _blocks(text):
        table = tomllib.loads(block).get("variants", [])
        if len(table) == 1 and table[0]["name"] in variants:
            kept.append(f"# version {table[0]['version']} was {table[0]['name']}\n")
        else:
            kept.append(block)
    _write(path, "".join(kept))


def _blocks(text: str) -> list[str]:
    """The text cut before every `[[variants]]`, and before whatever table follows one."""
    blocks = [""]
    for line in text.splitlines(keepends=True):
        if line.startswith("["):
            blocks.append("")
        blocks[-1] += line
    return blocks


def _head(recipe: Recipe) -> list[str]:
    return [
        f"metric = {json.dumps(recipe.metric)}",
        f"max_batch_size = {recipe.serve.max_batch_size}",
        'default_class = "standard"',
        "",
        "[classes.standard]",
        f"budget_ms = {recipe.serve.budget_ms:g}",
    ]


def _entries(variants: Sequence[str], first: int) -> list[str]:
    lines = []
    for version, name in enumerate(variants, start=first):
        lines += ["", "[[variants]]", f"name = {json.dumps(name)}", f"version = {version}"]
        lines.append('executor = "onnx"')
    return lines


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
