"""`model.toml` is people's file: new variants are added at its end, a number is used once."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from gearshift.compress.intent import IntentError, declare, withdraw
from gearshift.compress.recipe import Recipe
from gearshift.compress.recipe_file import parse

RECIPE: Recipe = parse(
    {
        "model": "m",
        "metric": "top1",
        "data": {"adapter": "a:b"},
        "steps": [{"name": "x", "kind": "import", "onnx": "x.onnx"}],
        "serve": {"max_batch_size": 16, "budget_ms": 40},
    },
    Path("recipe.toml"),
)


def versions(folder: Path) -> dict[str, int]:
    table = tomllib.loads((folder / "model.toml").read_text())
    return {entry["name"]: entry["version"] for entry in table["variants"]}


def test_a_missing_file_is_written(tmp_path: Path) -> None:
    declare(tmp_path / "m", RECIPE, ["large", "small"])
    table = tomllib.loads((tmp_path / "m" / "model.toml").read_text())
    assert table["metric"] == "top1"
    assert table["max_batch_size"] == 16
    assert table["classes"][table["default_class"]]["budget_ms"] == 40
    assert versions(tmp_path / "m") == {"large": 1, "small": 2}
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["model.toml"]


def test_what_is_there_stays_and_new_variants_get_new_numbers(tmp_path: Path) -> None:
    own = '# mine\nmetric = "top1"\n[[variants]]\nname = "large"\nversion = 7\nexecutor = "onnx"\n'
    (tmp_path / "model.toml").write_text(own)
    assert declare(tmp_path, RECIPE, ["large"]) == []
    assert (tmp_path / "model.toml").read_text() == own
    declare(tmp_path, RECIPE, ["small", "large"])
    assert (tmp_path / "model.toml").read_text().startswith(own)
    assert versions(tmp_path) == {"large": 7, "small": 8}


def test_the_number_of_a_withdrawn_variant_is_not_used_again(tmp_path: Path) -> None:
    declare(tmp_path, RECIPE, ["large", "small", "tiny"])
    withdraw(tmp_path, ["small", "tiny"])
    assert versions(tmp_path) == {"large": 1}
    declare(tmp_path, RECIPE, ["other"])
    assert versions(tmp_path) == {"large": 1, "other": 4}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('metric = "roc_auc"', "metric is 'roc_auc', the recipe measures 'top1'"),
        ("=", "not a TOML"),
    ],
)
def test_a_file_of_another_kind_is_left_alone(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "model.toml").write_text(text)
    with pytest.raises(IntentError, match=message):
        declare(tmp_path, RECIPE, ["large"])
    assert (tmp_path / "model.toml").read_text() == text
