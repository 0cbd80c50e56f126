"""What docs/compress.md shows is what the recipe reader takes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from gearshift.compress.recipe import KINDS, Learning, Teaching
from gearshift.compress.recipe_file import parse

GUIDE = (Path(__file__).parents[2] / "docs" / "compress.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)


def table(*blocks: str) -> dict[str, Any]:
    return tomllib.loads("\n".join(blocks))


def test_the_recipes_of_the_guide_are_read() -> None:
    first, network, search = BLOCKS
    parse(table(first), Path("recipe.toml"))
    whole = parse(table(first, network, search), Path("recipe.toml"))
    assert [step.name for step in whole.steps][-1] == "student-int8"
    assert whole.search is not None


def test_the_guide_tells_every_setting_of_every_step() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", GUIDE, re.MULTILINE))
    assert set(rows) == set(KINDS)
    common = {"name", "about", "publish", "tools", "kind"}
    for kind, step in KINDS.items():
        told = set(re.findall(r"`(\w+)`", rows[kind]))
        assert told == set(step.model_fields) - common, kind
    for settings in (Learning, Teaching):
        for key in settings.model_fields:
            assert f"`{key}`" in GUIDE, key
