"""Every mistake is found, with its file, its key and a sentence that says what would be right."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gearshift.core.catalog import Signature, TensorSpec
from gearshift.errors import RepositoryInvalid
from gearshift.repository import load

from .conftest import model_of

TOML = "fraud/model.toml"

IN_MODEL_TOML = [
    # what is written, what instead, key, part of the message
    ('metric = "', "metric = ", "", "line 1"),
    ("max_batch_size", "max_batchsize", "max_batchsize", "did you mean 'max_batch_size'"),
    ("max_batch_size", "max_batchsize", "max_batch_size", "missing; expected the largest batch"),
    ('metric = "average_precision"', "", "metric", "missing; expected the quality metric"),
    ("average_precision", "", "metric", "at least 1 character"),
    ("max_batch_size = 64", "max_batch_size = 0", "max_batch_size", "from 1 to 1024"),
    ("max_batch_size = 64", "max_batch_size = 1025", "max_batch_size", "from 1 to 1024"),
    ("max_batch_size = 64", "max_batch_size = 6.5", "max_batch_size", "is not a whole number"),
    ("max_batch_size = 64", "max_batch_size = true", "max_batch_size", "is not a whole number"),
    ('= "realtime"', '= "realtme"', "default_class", "did you mean 'realtime'"),
    ('default_class = "realtime"', "", "default_class", "missing"),
    ("budget_ms", "budget", "classes.realtime.budget", "did you mean 'budget_ms'"),
    ("late", "colour", "classes.realtime.colour", "known here: budget_ms, min_accuracy"),
    ("budget_ms = 10", "budget_ms = 0", "classes.realtime.budget_ms", "greater than 0"),
    ("budget_ms = 10", "budget_ms = -3", "classes.realtime.budget_ms", "above 0"),
    ("budget_ms = 10", "budget_ms = inf", "classes.realtime.budget_ms", "leave it out"),
    ("budget_ms = 10", "budget_ms = nan", "classes.realtime.budget_ms", "leave it out"),
    ("budget_ms = 10", "budget_ms = 1e9", "classes.realtime.budget_ms", "at most a week"),
    ("= 10", f"= 1{'0' * 400}", "classes.realtime.budget_ms", "milliseconds"),
    ("= 10", '= "10"', "classes.realtime.budget_ms", "'10' is not a number"),
    ("= 0.5", "= nan", "classes.realtime.min_accuracy", "is not a finite number"),
    ("= 0.5", "= 0.851", "classes.realtime.min_accuracy", "the best is 'large' with 0.8500"),
    ('"serve"', '"ignore"', "classes.realtime.late", '"drop"'),
    ("weight = 2.0", "weight = 0", "classes.realtime.weight", "above 0"),
    ("weight = 2.0", "priority = 0", "classes.realtime.priority", "from 1 (the most urgent)"),
    (
        "[classes.patient]",
        "priority = 2\n[classes.patient]\npriority = 2",
        "classes.patient.priority",
        "2 is that of 'realtime'; every class needs its own",
    ),
    (
        "[classes.patient]",
        "[classes.patient]\npriority = 2",
        "classes.realtime.priority",
        "the default class needs one, too",
    ),
    ("[classes.patient]", '[classes."No Good"]', "classes.No Good", "is not a good name"),
    ("[classes.patient]", "[classes.patient.inner]", "classes.patient.inner", "unknown key"),
    ("version = 2", "version = 1", "variants[1].version", "taken by variants[0]"),
    ('"small"', '"large"', "variants[1].name", "taken by variants[0]"),
    ("version = 2", "version = 0", "variants[0].version", "from 1"),
    ("version = 2", 'version = "2"', "variants[0].version", "'2' is not a whole number"),
    ("version = 2", f"version = {2**40}", "variants[0].version", "2147483647"),
    ('"small"', '"../small"', "variants[0].name", "letters"),
    ('"small"', '"Small"', "variants[0].name", "letters"),
    ('"small"', '".small"', "variants[0].name", "begins with a letter"),
    ('"small"', '""', "variants[0].name", "letters"),
    ('"small"', f'"{"s" * 65}"', "variants[0].name", "at most 64"),
    ('executor = "onnx"', 'executor = "onx"', "variants[0].executor", "did you mean 'onnx'"),
    ('executor = "onnx"', 'executor = "torch"', "variants[0].executor", "not installed here"),
    ('executor = "onnx"', "", "variants[0].executor", 'missing; expected what runs it: "onnx"'),
    ("version = 2", "version = 2\naccuracy = nan", "variants[0].accuracy", "not a finite number"),
    ("version = 2", "version = 2\naccuracy = 0.5", "variants[0].accuracy", "measures it; remove"),
    ("version = 2", "versoin = 2", "variants[0].versoin", "did you mean 'version'"),
]


@pytest.mark.parametrize(("old", "new", "key", "part"), IN_MODEL_TOML)
def test_in_model_toml(folder: Any, old: str, new: str, key: str, part: str) -> None:
    folder.replace(old, new)
    found = [p for p in folder.problems() if p.file == TOML and p.key == key]
    assert any(part in problem.message for problem in found), folder.problems()


@pytest.mark.parametrize(
    ("text", "key", "part"),
    [
        ("classes = {}", "classes", "at least one table [classes.<name>]"),
        ("classes = 3", "classes", "3 is not a table"),
        ("variants = []", "variants", "at least one table [[variants]]"),
        ("variants = 3", "variants", "3 is not a list"),
        ("variants = [3]", "variants[0]", "3 is not a table"),
        ("", "variants", "missing"),
        ("", "classes", "missing"),
    ],
)
def test_nothing_to_serve(folder: Any, text: str, key: str, part: str) -> None:
    folder.toml.write_text(f'metric = "m"\nmax_batch_size = 1\ndefault_class = "c"\n{text}\n')
    found = [p for p in folder.problems() if p.key == key]
    assert any(part in problem.message for problem in found), folder.problems()


def unlink_card_and_do_not_declare(folder: Any) -> None:
    folder.card("small").unlink()


def other_signature(**changes: Any) -> Callable[[Any], None]:
    good = {
        "inputs": (TensorSpec("features", "FP32", (3,)),),
        "outputs": (TensorSpec("score", "FP32", (1,)),),
    }
    return lambda folder: folder.write_signature("large", Signature(**(good | changes)))


def samples(inputs: Any, labels: Any) -> Callable[[Any], None]:
    return lambda folder: folder.write_samples(inputs, labels)


def truncated_samples(folder: Any) -> None:
    path = folder.model / "samples.npz"
    path.write_bytes(path.read_bytes()[:-30])


def link_out(name: str) -> Callable[[Any], None]:
    def spoil(folder: Any) -> None:
        path = folder.root / name
        outside = folder.root.parent / f"outside-{path.name}"
        path.rename(outside)
        path.symlink_to(outside)

    return spoil


def fifo(folder: Any) -> None:
    folder.artifact("small").unlink()
    os.mkfifo(folder.artifact("small"))


SMALL, LARGE = "fraud/small/model.onnx", "fraud/large/model.onnx"
SMALL_CARD = "fraud/small/card.json"
FEATURES, LABELS = np.zeros((4, 3), np.float32), np.zeros(4, np.int64)

MANY = "".join(f"c{number} = {{}}\n" for number in range(1_001))
MEASURED = [
    {"metric": "m", "value": 0.5, "n": 1, "low": 0.1, "high": 0.9, "method": "bootstrap"},
]

IN_FILES: list[tuple[Callable[[Any], object], str, str, str]] = [
    (lambda f: f.toml.unlink(), TOML, "", "every folder here is a model"),
    (lambda f: f.toml.write_bytes(b"metric = 'a'\nx = '\xff'"), TOML, "", "not UTF-8 text (line 2"),
    (lambda f: f.toml.write_bytes(b"#" * 5_000_000), TOML, "", "has 5000000 bytes"),
    (lambda f: f.toml.write_text("a=" + "[" * 5000), TOML, "", "nested too deeply"),
    (lambda f: f.toml.write_text("a" + ".a" * 9_000 + "=1"), TOML, "", "64 dots in line 1"),
    (lambda f: f.toml.write_text("a" * 9_000 + "=1"), TOML, "a" * 197 + "...", "unknown key"),
    (lambda f: f.toml.write_text("[classes]\n" + MANY), TOML, "", "more than 1000 entries"),
    (lambda f: f.card("small").write_text("[" * 9_000), SMALL_CARD, "", "nested too deeply"),
    (lambda f: f.card("small").write_text('{"n":1,"n":2}'), SMALL_CARD, "", "key 'n' twice"),
    (lambda f: f.edit_card("small", parameters=10**400), SMALL_CARD, "parameters", "cannot be"),
    (lambda f: f.edit_card("small", parameters=-1), SMALL_CARD, "parameters", "cannot be"),
    (lambda f: f.edit_accuracy("small", n=10**30), SMALL_CARD, "accuracy.n", "is more than"),
    (lambda f: f.edit_card("small", further=MEASURED * 201), SMALL_CARD, "further", "lists 201"),
    (lambda f: f.artifact("small").unlink(), SMALL, "", "does not exist; the artifact belongs"),
    (lambda f: f.artifact("small").write_bytes(b"\0"), SMALL, "", "is no ONNX file"),
    (lambda f: f.put("small", model_of({"refuse": "dim 1"})), SMALL, "", "served: dim 1"),
    (fifo, SMALL, "", "is not a regular file"),
    (unlink_card_and_do_not_declare, TOML, "variants[0].accuracy", f"there is no {SMALL_CARD}"),
    (lambda f: f.card("small").write_text("{"), SMALL_CARD, "", "is not JSON"),
    (lambda f: f.card("small").write_text("3"), SMALL_CARD, "", "3 is not a table"),
    (lambda f: f.edit_card("small", colour=1), SMALL_CARD, "colour", "unknown key"),
    (lambda f: f.edit_accuracy("small", valu=1), SMALL_CARD, "accuracy.valu", "mean 'value'"),
    (lambda f: f.edit_card("small", parameters="1"), SMALL_CARD, "parameters", "whole number"),
    (lambda f: f.edit_card("small", further=[3]), SMALL_CARD, "further[0]", "3 is not a table"),
    (lambda f: f.edit_card("small", schema=99), SMALL_CARD, "schema", "expected 1"),
    (lambda f: f.edit_card("small", model="x"), SMALL_CARD, "model", "belongs to 'fraud'"),
    (lambda f: f.edit_card("small", variant="x"), SMALL_CARD, "variant", "expected 'small'"),
    (lambda f: f.edit_card("small", artifact="x"), SMALL_CARD, "artifact", "here is 'model.onnx'"),
    (
        lambda f: f.edit_card("small", artifact_sha256="0" * 64),
        SMALL_CARD,
        "artifact_sha256",
        "is a card for another artifact",
    ),
    (lambda f: f.edit_card("small", artifact_bytes=1), SMALL_CARD, "artifact_bytes", "says 1"),
    (lambda f: f.edit_accuracy("small", metric="f1"), SMALL_CARD, "accuracy.metric", "'f1'"),
    (
        lambda f: f.edit_accuracy("small", value=float("nan")),
        SMALL_CARD,
        "accuracy.value",
        "is not a finite number",
    ),
    (lambda f: f.edit_accuracy("small", value=2), SMALL_CARD, "accuracy.value", "its own interval"),
    (lambda f: f.edit_accuracy("small", n=0), SMALL_CARD, "accuracy.n", "1 or more"),
    (
        lambda f: f.edit_card(
            "small",
            data={
                "name": "d",
                "source": "s",
                "licence": "l",
                "training_sha256": "a",
                "evaluation_sha256": "a",
            },
        ),
        SMALL_CARD,
        "data.evaluation_sha256",
        "held-out",
    ),
    (
        other_signature(inputs=(TensorSpec("features", "FP32", (4,)),)),
        LARGE,
        "",
        "input 'features' has shape [4] per row, but [3] in variant 'small'",
    ),
    (
        other_signature(inputs=(TensorSpec("features", "FP64", (3,)),)),
        LARGE,
        "",
        "input 'features' is FP64, but FP32 in variant 'small'",
    ),
    (
        other_signature(outputs=(TensorSpec("other", "FP32", (1,)),)),
        LARGE,
        "",
        "has output 'other', but variant 'small' has 'score'",
    ),
    (other_signature(outputs=()), LARGE, "", "has no output 'score'"),
    (samples(FEATURES.astype(float), LABELS), "fraud/samples.npz", "inputs", "is float64"),
    (samples(FEATURES[:, :2], LABELS), "fraud/samples.npz", "inputs", "takes [3]"),
    (samples(FEATURES, LABELS[:3]), "fraud/samples.npz", "labels", "has 3 rows"),
    (samples(FEATURES[:0], LABELS[:0]), "fraud/samples.npz", "inputs", "has no rows"),
    (samples(np.array([{}] * 4), LABELS), "fraud/samples.npz", "inputs", "never loaded"),
    (truncated_samples, "fraud/samples.npz", "", "is not a file of numpy.savez"),
    (
        lambda f: np.savez(f.model / "samples.npz", inputs=FEATURES),
        "fraud/samples.npz",
        "labels",
        "no such array",
    ),
    (link_out("fraud"), "fraud", "", "leads out of the repository"),
    (link_out(TOML), TOML, "", "leads out of the repository"),
    (link_out(SMALL), SMALL, "", "leads out of the repository"),
    (link_out(SMALL_CARD), SMALL_CARD, "", "leads out of the repository"),
    (link_out("fraud/samples.npz"), "fraud/samples.npz", "", "leads out of the repository"),
    (lambda f: (f.root / "Bad Name").mkdir(), "Bad Name", "", "is not a good name"),
    (lambda f: (f.root / "empty").mkdir(), "empty/model.toml", "", "needs one"),
]


@pytest.mark.parametrize(("spoil", "file", "key", "part"), IN_FILES)
def test_in_files(
    folder: Any, spoil: Callable[[Any], object], file: str, key: str, part: str
) -> None:
    spoil(folder)
    found = [p for p in folder.problems() if (p.file, p.key) == (file, key)]
    assert any(part in problem.message for problem in found), folder.problems()


@pytest.mark.parametrize("name", ["card.json", "model.onnx"])
def test_a_link_that_leads_nowhere(folder: Any, name: str) -> None:
    path = folder.model / "small" / name
    path.unlink()
    path.symlink_to("gone")
    assert any(p.message.startswith("is a link to nothing") for p in folder.problems())


def test_a_link_that_leads_to_itself(folder: Any) -> None:
    folder.card("small").unlink()
    folder.card("small").symlink_to("card.json")
    assert "cannot be read" in str(folder.problems()[0])


def test_a_root_that_is_not_there_or_holds_nothing(tmp_path: Path) -> None:
    missing, empty, file = tmp_path / "missing", tmp_path / "empty", tmp_path / "file"
    empty.mkdir()
    file.touch()
    for root, part in (
        (missing, "does not exist"),
        (empty, "holds no models"),
        (file, "not a folder"),
    ):
        with pytest.raises(RepositoryInvalid) as caught:
            load(root, {})
        assert [problem.file for problem in caught.value.problems] == [str(root)]
        assert part in caught.value.problems[0].message


def test_the_folder_of_one_model_is_no_repository(folder: Any) -> None:
    """What KServe mounts where its storageUri names the model instead of the folder above it."""
    with pytest.raises(RepositoryInvalid) as caught:
        load(folder.model, {})
    (problem,) = caught.value.problems
    assert problem.file == "model.toml"
    assert "a repository is the folder above it" in problem.message


def test_several_mistakes_are_reported_at_once(folder: Any) -> None:
    """Also those in files of sound variants beside a broken one, and in other models."""
    folder.replace("version = 2", "version = -2")
    folder.replace("budget_ms = 10", "budget_ms = 0")
    folder.artifact("large").write_bytes(b"broken")
    other = folder.root / "other"
    other.mkdir()
    (other / "model.toml").write_text("metric = ")
    places = {(problem.file, problem.key) for problem in folder.problems()}
    assert {
        (TOML, "variants[0].version"),
        (TOML, "classes.realtime.budget_ms"),
        (LARGE, ""),
        ("fraud/large/card.json", "artifact_sha256"),
        ("other/model.toml", ""),
    } <= places


def test_a_floor_is_not_judged_while_an_accuracy_is_unknown(folder: Any) -> None:
    folder.replace("min_accuracy = 0.5", "min_accuracy = 0.84")
    folder.card("large").write_text("{")
    assert [problem.file for problem in folder.problems()] == ["fraud/large/card.json"]


def test_the_message_of_the_error_lists_every_mistake(folder: Any) -> None:
    folder.replace("version = 2", "version = 1")
    with pytest.raises(RepositoryInvalid) as caught:
        folder.load()
    assert str(caught.value).startswith("fraud/model.toml: variants[1].version: 1 is taken by")
