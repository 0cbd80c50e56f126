"""Every mistake in a recipe is told with file, step and key, and what would be right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gearshift.compress import functions, recipe, recipe_file, store

GOOD: dict[str, Any] = {
    "model": "digits",
    "metric": "top1",
    "data": {"adapter": "data.py:rows"},
    "steps": [
        {"name": "large", "kind": "import", "onnx": "large.onnx"},
        {"name": "large-int8", "kind": "quantize", "of": "large"},
    ],
}
PATH = Path("a/recipe.toml")


def changed(**tables: Any) -> dict[str, Any]:
    return GOOD | tables


def with_step(**step: Any) -> dict[str, Any]:
    return changed(steps=[*GOOD["steps"], step])


def test_a_good_recipe_is_read_with_its_defaults() -> None:
    found = recipe_file.parse(GOOD, PATH)
    assert found.step("large-int8").calibration == ["minmax"]
    assert recipe.parents(found.step("large-int8")) == ("large",)
    assert found.output.activation == "softmax"


@pytest.mark.parametrize("model", ["fraud", "tumor", "garment", "face", "text"])
def test_the_shipped_recipes_are_good(model: str) -> None:
    path = Path(__file__).parents[2] / "model_repo" / model / "recipe.toml"
    assert recipe_file.read(path).model == model


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            with_step(name="x", kind="quantize", of="large", calibraton=["minmax"]),
            r"step 3 \('x'\): unknown key 'calibraton'; known are name, .*calibration",
        ),
        (
            with_step(name="x", kind="shrink", of="large"),
            r"step 3 \('x'\): unknown kind of step; known are import, train, prune",
        ),
        (
            with_step(name="x", kind="quantize", of="larg"),
            r"step 3 \('x'\): no earlier step is named 'larg'; there are large, large-int8",
        ),
        (with_step(name="large", kind="quantize", of="large"), "the name is taken"),
        (with_step(name="x", kind="import"), "either `onnx` .* or `network`"),
        (with_step(name="../x", kind="import", onnx="a"), "step 3 .*name: string should match"),
        (
            with_step(name="x", kind="prune", of="large", share=1.5),
            r"step 3 \('x'\): share: input should be less than 1",
        ),
        (
            with_step(name="x", kind="train", network="a.py:b", learning={"epoch": 3}),
            r"step 3 \('x'\): unknown key 'learning.epoch'; known are epochs",
        ),
        (changed(model_name="x"), "unknown key 'model_name'; known are model"),
        (changed(steps=[]), "steps: list should have at least 1 item"),
        (changed(data={}), "data: `training`, `calibration`, `evaluation` missing"),
        (
            changed(data={"adapter": "a:b", "training": "x.npz"}),
            "data: has both `adapter` and `training`",
        ),
        (
            changed(
                cross_fitting=2,
                data={"training": "a", "calibration": "b", "evaluation": "c", "licence": "d"},
            ),
            "cross_fitting: needs data.adapter",
        ),
        (
            changed(data={"training": "a", "calibration": "b", "evaluation": "c"}),
            "data: `licence` missing",
        ),
    ],
)
def test_a_mistake_is_told_where_it_is(table: dict[str, Any], message: str) -> None:
    with pytest.raises(recipe.RecipeError, match=rf"(?s)^a/recipe.toml: .*{message}"):
        recipe_file.parse(table, PATH)


def test_all_mistakes_are_told_together() -> None:
    table = changed(wrong=1, steps=[{"name": "x", "kind": "import", "onnx": "a", "nothing": 1}])
    with pytest.raises(recipe.RecipeError) as caught:
        recipe_file.parse(table, PATH)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "message"), [(None, "no such file"), ("steps = [", "not a TOML file")]
)
def test_a_file_that_is_none(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "recipe.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(recipe.RecipeError, match=message):
        recipe_file.read(path)


def keys(tmp_path: Path, table: dict[str, Any], data: str = "rows") -> dict[str, str]:
    (tmp_path / "large.onnx").write_bytes(b"a graph")
    return dict(store.keys(recipe_file.parse(table, tmp_path / "recipe.toml"), tmp_path, data))


def test_a_key_follows_all_that_decides_a_step_and_nothing_else(tmp_path: Path) -> None:
    steps = [dict(step) for step in GOOD["steps"]]
    before = keys(tmp_path, changed(steps=steps))
    steps[1] |= {"about": "told otherwise", "publish": False}
    assert keys(tmp_path, changed(steps=steps)) == before
    steps[1] |= {"rows": 7}
    after = keys(tmp_path, changed(steps=steps))
    assert after["large"] == before["large"]
    assert after["large-int8"] != before["large-int8"]
    for other in (keys(tmp_path, GOOD, "other rows"), keys(tmp_path, changed(seed=2))):
        assert not set(other.values()) & set(before.values())


def test_a_key_follows_the_source_of_a_function(tmp_path: Path) -> None:
    steps = [{"name": "x", "kind": "call", "function": "own.py:make"}]
    (tmp_path / "own.py").write_text("def make(): pass\n")
    before = keys(tmp_path, changed(steps=steps))
    (tmp_path / "own.py").write_text("def make(): return 1\n")
    assert keys(tmp_path, changed(steps=steps)) != before


def test_functions_are_found_in_files_and_packages(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def double(x):\n    return 2 * x\n")
    assert functions.resolve("own.py:double", tmp_path)(4) == 8
    assert functions.resolve("own.py:double", tmp_path) is functions.resolve(
        "own.py:double", tmp_path
    )
    assert functions.resolve("math:sqrt", tmp_path)(4) == 2


@pytest.mark.parametrize(
    ("spelled", "message"),
    [
        ("double", "names no function; expected `file.py:name`"),
        ("own.py:triple", "own.py has no function 'triple'; it has double"),
        ("missing.py:f", "no such file: .*missing.py"),
        ("no.such.module:f", "cannot import 'no.such.module'"),
        ("broken.py:f", "broken.py does not run: ZeroDivisionError"),
    ],
)
def test_a_function_that_is_not_there(tmp_path: Path, spelled: str, message: str) -> None:
    (tmp_path / "own.py").write_text("def double(x):\n    return 2 * x\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(functions.FunctionError, match=message):
        functions.resolve(spelled, tmp_path)
