"""Cascades: declared in model.toml, learned into cascade.json, checked against each other."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gearshift.core.card import CASCADE_SCHEMA, CascadeCard, Measurement, RelativeCost
from gearshift.core.catalog import Cascade, Signature, TensorSpec
from gearshift.repository import load

from .conftest import SIGNATURE, Folder, artifact_of, inspect

TOML = "fraud/model.toml"
FILE = "fraud/both/cascade.json"
TABLE = """
[[cascades]]
name = "both"
first = "small"
then = "large"
"""


def measured(value: float) -> Measurement:
    return Measurement(
        metric="average_precision", value=value, n=100, low=value - 0.1, high=value + 0.1, method=""
    )


def write(folder: Folder, **changes: Any) -> None:
    """Declare the cascade and write what was learned for it."""
    folder.toml.write_text(folder.toml.read_text() + TABLE)
    sha256 = {v: json.loads(folder.card(v).read_text())["artifact_sha256"] for v in VARIANTS}
    card = CascadeCard(
        schema=CASCADE_SCHEMA,
        model="fraud",
        cascade="both",
        first="small",
        then="large",
        first_sha256=sha256["small"],
        then_sha256=sha256["large"],
        threshold=0.75,
        escalated=0.2,
        accuracy=measured(0.84),
        difference=measured(-0.01),
        costs=(RelativeCost(batch=1, share=0.4),),
        data="d",
        rows_sha256="b",
        command="gearshift cascade fraud --within 0.2",
    )
    (folder.model / "both").mkdir()
    document = json.loads(card.to_json()) | changes
    (folder.model / "both" / "cascade.json").write_text(json.dumps(document))


VARIANTS = ("small", "large")


def test_what_was_learned_is_a_gear_of_the_model(folder: Folder) -> None:
    write(folder)
    (model,) = folder.load().models.values()
    assert model.cascades == (
        Cascade(
            name="both", first="small", then="large", threshold=0.75, escalated=0.2, accuracy=0.84
        ),
    )


def test_a_model_without_cascades_has_none(folder: Folder) -> None:
    assert folder.load().models["fraud"].cascades == ()


def test_what_was_not_learned_says_how(folder: Folder) -> None:
    folder.toml.write_text(folder.toml.read_text() + TABLE)
    (problem,) = folder.problems()
    assert problem.file == FILE
    assert "does not exist; learn it with `gearshift cascade fraud`" in problem.message


def test_who_learns_it_sees_it_as_declared(folder: Folder) -> None:
    folder.toml.write_text(folder.toml.read_text() + TABLE)
    catalog = load(folder.root, {"onnx": inspect}, unlearned=True)
    (cascade,) = catalog.models["fraud"].cascades
    assert (cascade.first, cascade.then) == VARIANTS
    assert (cascade.threshold, cascade.escalated) == (0.0, 0.0)


def test_another_artifact_is_to_be_learned_again(folder: Folder) -> None:
    write(folder)
    folder.put("small", artifact_of(SIGNATURE, "another"), 0.7)
    (problem,) = folder.problems()
    assert (problem.file, problem.key) == (FILE, "first_sha256")
    assert "run `gearshift cascade fraud --within 0.2` again" in problem.message


@pytest.mark.parametrize(
    ("changes", "key", "part"),
    [
        ({"schema": 9}, "schema", "expected 1"),
        ({"model": "other"}, "model", "learned for 'other'"),
        ({"cascade": "none"}, "cascade", "learned for 'none'"),
        ({"first": "large"}, "first", "learned for 'large'"),
        ({"then": "small"}, "then", "here it is 'large'"),
        ({"then_sha256": "0" * 64}, "then_sha256", "another artifact: '000000000000'"),
        ({"threshold": 1.5}, "threshold", "between 0 and 1"),
        ({"threshold": "half"}, "threshold", "is not a number"),
        ({"escalated": -0.5}, "escalated", "between 0 and 1"),
        ({"treshold": 0.5}, "treshold", "did you mean 'threshold'"),
        ({"accuracy": {"metric": "top1"}}, "accuracy.value", "missing"),
        ({"costs": 3}, "costs", "is not a list"),
    ],
)
def test_mistakes_in_cascade_json(folder: Folder, changes: Any, key: str, part: str) -> None:
    write(folder, **changes)
    found = [p for p in folder.problems() if (p.file, p.key) == (FILE, key)]
    assert any(part in problem.message for problem in found), folder.problems()


def test_a_measurement_of_another_metric(folder: Folder) -> None:
    write(folder)
    path = folder.model / "both" / "cascade.json"
    path.write_text(
        path.read_text().replace('"average_precision", "value": 0.84', '"f1", "value": 0.84')
    )
    assert [p.key for p in folder.problems()] == ["accuracy.metric"]


@pytest.mark.parametrize("text", ["", "{", "\x00", "[]"])
def test_what_is_no_card_at_all(folder: Folder, text: str) -> None:
    write(folder)
    (folder.model / "both" / "cascade.json").write_text(text)
    assert [p.file for p in folder.problems()] == [FILE]


@pytest.mark.parametrize(
    ("old", "new", "key", "part"),
    [
        ('first = "small"', 'first = "smal"', "cascades[0].first", "did you mean 'small'"),
        ('then = "large"', 'then = "x"', "cascades[0].then", "there are: 'small', 'large'"),
        ('then = "large"', 'then = "small"', "cascades[0].then", "needs two"),
        (
            'first = "small"\nthen = "large"',
            'first = "large"\nthen = "small"',
            "cascades[0].first",
            "must be less accurate than 'small' with 0.7000",
        ),
        ('name = "both"', 'name = "small"', "cascades[0].name", "is a variant's name"),
        ('name = "both"', 'name = "Both"', "cascades[0].name", "lower-case"),
        ('name = "both"', "", "cascades[0].name", "missing"),
        ('first = "small"', "", "cascades[0].first", "missing; expected the variant that"),
        ('then = "large"', 'then = "large"\nwithin = 1', "cascades[0].within", "unknown key"),
        ("[[cascades]]", "[cascades]", "cascades", "is not a list"),
        (TABLE, TABLE + TABLE, "cascades[1].name", "taken by cascades[0]"),
    ],
)
def test_mistakes_in_model_toml(folder: Folder, old: str, new: str, key: str, part: str) -> None:
    write(folder)
    folder.replace(old, new)
    found = [p for p in folder.problems() if (p.file, p.key) == (TOML, key)]
    assert any(part in problem.message for problem in found), folder.problems()


def test_mistakes_in_variants_and_cascades_are_told_together(folder: Folder) -> None:
    write(folder)
    folder.replace('first = "small"', 'first = "smal"')
    folder.replace("version = 2", "versoin = 2")
    assert {"cascades[0].first", "variants[0].versoin"} <= {p.key for p in folder.problems()}


def test_answers_that_are_not_sure_of_anything(folder: Folder) -> None:
    write(folder)
    embedding = Signature(inputs=SIGNATURE.inputs, outputs=(TensorSpec("face", "FP32", (192,)),))
    for variant in VARIANTS:
        folder.write_signature(variant, embedding)
    found = [p for p in folder.problems() if (p.file, p.key) == (TOML, "cascades")]
    assert "needs one score" in found[0].message
