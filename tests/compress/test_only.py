"""Some steps here and the others elsewhere: what a copied store is enough for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from compressing import card, laid_out, made
from gearshift.cli.commands import app
from gearshift.compress.build import prepare
from gearshift.compress.recipe import RecipeError


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return laid_out(tmp_path)


def test_only_some_steps_are_done_with_what_they_need_and_nothing_is_published(
    place: Path,
) -> None:
    lines: list[str] = []
    recipe, cache = place / "recipes" / "recipe.toml", place / "cache"
    prepare(recipe, cache, lines.append, ["half"])
    assert {path.name.rpartition("-")[0] for path in (cache / "blobs").iterdir()} == {
        "large",
        "slim",
        "half",
    }
    assert not (place / "repository").exists()
    assert sum("done before" in line for line in made(place)) == 3


def test_only_an_unknown_step_names_the_known(place: Path) -> None:
    recipe = place / "recipes" / "recipe.toml"
    with pytest.raises(RecipeError, match=r"no step is named 'lrage'; there are large, large-int8"):
        prepare(recipe, place / "cache", lambda line: None, ["half", "lrage"])


def test_the_command_does_only_what_it_is_told_and_not_a_search_too(place: Path) -> None:
    recipe, cache = str(place / "recipes" / "recipe.toml"), str(place / "cache")
    given = ["compress", recipe, "--repository", str(place / "repository"), "--cache", cache]
    refused = CliRunner().invoke(app, [*given, "--only", "slim", "--search"])
    assert (refused.exit_code, "leave out --search" in refused.output) == (2, True)
    done = CliRunner().invoke(app, [*given, "--only", "slim", "--only", "large"])
    assert done.exit_code == 0, done.output
    assert "[4/7] slim: optimize ..." in done.output
    assert "half" not in done.output
    assert not (place / "repository").exists()


def light(place: Path, name: str) -> Path:
    """Leave of a finished step what is known of it, as after a copy from another machine."""
    (folder,) = (place / "cache" / "blobs").glob(f"{name}-*")
    (folder / "artifact").unlink()
    return folder


def test_of_an_ingredient_its_facts_are_enough_until_something_needs_it(
    place: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("gearshift.compress.latency.ROUNDS", 5)
    made(place)
    folder = light(place, "slim")
    lines = made(place, results=True)
    assert sum("done before" in line for line in lines) == 7
    assert "| `slim` |" in (place / "results" / "blobs.md").read_text()
    assert not (folder / "artifact").exists()
    recipe = place / "recipes" / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('to = "fp16"', 'to = "bf16"'))
    lines = made(place)
    assert [line for line in lines if line.endswith("...")] == [
        "blobs [4/7] slim: optimize ...",
        "blobs [5/7] half: convert ...",
    ]
    assert (folder / "artifact").exists()


def test_a_published_step_needs_more_than_its_facts(place: Path) -> None:
    made(place)
    light(place, "half")
    assert any(line.endswith("half: convert ...") for line in made(place))


def test_the_card_names_the_versions_of_where_it_was_made(place: Path) -> None:
    made(place)
    (facts,) = (place / "cache" / "blobs").glob("large-int8-*/made.json")
    told = json.loads(facts.read_text())
    facts.write_text(json.dumps({**told, "versions": {"onnx": "9.9", "onnxruntime": "8.8"}}))
    made(place)
    assert card(place, "large-int8")["recipe"]["tools"] == {"onnx": "9.9", "onnxruntime": "8.8"}
