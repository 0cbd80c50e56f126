"""`[[before]]` and `[[after]]` in model.toml: what becomes of them, and every mistake."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from gearshift.artifacts import Allowance
from gearshift.core.catalog import Signature, TensorSpec
from gearshift.errors import RepositoryInvalid
from gearshift.repository import contents, load

from .conftest import inspect

TOML = "fraud/model.toml"
PLAIN = Signature(
    inputs=(TensorSpec("ids", "INT64", (8,)), TensorSpec("pixels", "UINT8", (4, 4, 3))),
    outputs=(TensorSpec("score", "FP32", (1,)), TensorSpec("scores", "FP32", (3,))),
)
TOKENIZER = json.dumps(
    {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "model": {"type": "WordLevel", "vocab": {"a": 1, "?": 0}, "unk_token": "?"},
    }
).encode()
HASH = hashlib.sha256(TOKENIZER).hexdigest()
LABELS = b"low\nmiddle\nhigh\n"
LABELS_HASH = hashlib.sha256(LABELS).hexdigest()

TOKENIZE = f"""
[[before]]
step = "tokenize"
input = "text"
file = "tokenizer.json"
sha256 = "{HASH}"
ids = "ids"
max_bytes = 100
"""
IMAGE = """
[[before]]
step = "image"
input = "picture"
makes = "pixels"
layout = "HWC"
"""
NAMED = f"""
[[after]]
step = "labels"
of = "scores"
output = "label"
file = "labels.txt"
sha256 = "{LABELS_HASH}"
top = 2
"""
SOFTMAX = """
[[after]]
step = "softmax"
of = "scores"
output = "shares"
"""
THRESHOLD = """
[[after]]
step = "threshold"
of = "shares"
output = "sure"
at = 0.5
"""
ALL = (TOKENIZE, IMAGE, SOFTMAX, THRESHOLD, NAMED)


@pytest.fixture
def stepped(folder: Any) -> Any:
    """The good repository, with networks for such steps and the files beside them."""
    for variant in ("small", "large"):
        folder.write_signature(variant, PLAIN)
    (folder.model / "samples.npz").unlink()
    (folder.model / "tokenizer.json").write_bytes(TOKENIZER)
    (folder.model / "labels.txt").write_bytes(LABELS)
    return folder


def written(folder: Any, *tables: str) -> Any:
    folder.toml.write_text(folder.toml.read_text() + "".join(tables))
    return folder


def test_they_become_the_models(stepped):
    model = written(stepped, *ALL).load().models["fraud"]
    assert model.signature == PLAIN
    assert model.wire == Signature(
        (TensorSpec("text", "BYTES", (1,)), TensorSpec("picture", "BYTES", (1,))),
        (
            *PLAIN.outputs,
            TensorSpec("shares", "FP32", (3,)),
            TensorSpec("sure", "BOOL", (3,)),
            TensorSpec("label", "BYTES", (2,)),
        ),
    )
    assert model.before[0].row(b"a b")[0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    assert model.before[0].most_bytes == 100
    assert model.after[2].labels == ("low", "middle", "high")


def test_without_any_callers_see_the_network(stepped):
    model = stepped.load().models["fraud"]
    assert model.wire is model.signature


MISTAKES = [
    (("max_bytes = 100", "max_bytes = 0"), "before[0].max_bytes", "expected bytes of a text"),
    (("max_bytes", "max_byte"), "before[0].max_byte", "did you mean 'max_bytes'"),
    (('step = "tokenize"', 'step = "tokenise"'), "before[0].step", "did you mean 'tokenize'"),
    (('step = "tokenize"\n', ""), "before[0].step", "missing; known: 'tokenize', 'image'"),
    (('step = "softmax"', "step = 3"), "after[0].step", "3 is no such step"),
    (('ids = "ids"', 'ids = "tokens"'), "before[0]", "there is no input 'tokens' for it; there"),
    (('input = "text"', 'input = "pixels"'), "before[0].input", "there is an input 'pixels'"),
    (('input = "picture"', 'input = "text"'), "before[1].input", "there is an input 'text'"),
    (('file = "tokenizer.json"', 'file = "../x"'), "before[0].file", "the name of a file beside"),
    (('file = "tokenizer.json"', 'file = "/etc/passwd"'), "before[0].file", "beside model.toml"),
    (('file = "tokenizer.json"', 'file = "t.json"'), "before[0]", "t.json: cannot be read"),
    ((f'sha256 = "{HASH}"\n', ""), "before[0]", f"has the SHA-256 {HASH}, and `sha256` is not"),
    ((HASH, "0" * 64), "before[0]", f"has the SHA-256 {HASH}, and `sha256` is 0000"),
    (('layout = "HWC"', 'layout = "HW"'), "before[1]", "is no RGB picture in the layout HW"),
    (('layout = "HWC"', 'layout = "XYZ"'), "before[1].layout", 'expected the order of the axes'),
    (('of = "shares"', 'of = "share"'), "after[1]", "there is no output 'share'"),
    (('output = "sure"', 'output = "score"'), "after[1].output", "there is an output 'score'"),
    (('output = "sure"', 'output = "shares"'), "after[1].output", "there is an output 'shares'"),
    (("at = 0.5", 'at = "a"'), "after[1].at", "is not a number"),
    (("top = 2", "top = 4"), "after[2]", "top is 4, and there are 3 labels"),
    (("top = 2", "top = 65"), "after[2]", "at most 4096 labels"),
    (('of = "scores"\noutput = "label"', 'of = "score"\noutput = "label"'), "after[2]", "3 labels"),
    (('file = "labels.txt"', 'labels = ["a"]\nfile = "labels.txt"'), "after[2]", "or a `file`"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "key", "part"), MISTAKES)
def test_mistakes(stepped: Any, change: tuple[str, str], key: str, part: str) -> None:
    written(stepped, *ALL).replace(*change)
    found = [p for p in stepped.problems() if p.file == TOML and p.key == key]
    assert any(part in problem.message for problem in found), stepped.problems()


def test_all_are_told_at_once(stepped):
    written(stepped, *ALL)
    for change, _, _ in (MISTAKES[0], MISTAKES[13], MISTAKES[18]):
        stepped.replace(*change)
    stepped.replace("max_batch_size = 64", "max_batch_size = 0")
    keys = {problem.key for problem in stepped.problems()}
    assert {"before[0].max_bytes", "before[1]", "after[1].at", "max_batch_size"} <= keys


@pytest.mark.parametrize("tables", ["before = 3", "before = [3]", "after = {}"])
def test_what_are_no_tables(stepped, tables):
    stepped.toml.write_text(f"{tables}\n{stepped.toml.read_text()}")
    assert stepped.problems()


def test_too_many_steps(stepped):
    written(stepped, *[SOFTMAX] * 17)
    assert [p.key for p in stepped.problems()] == ["after"]


def test_a_step_that_is_made_twice(stepped):
    written(stepped, TOKENIZE, TOKENIZE.replace('"text"', '"more"'))
    (problem,) = stepped.problems()
    assert (problem.key, "no input 'ids'" in problem.message) == ("before[1]", True)


def test_outputs_too_large_for_a_step(stepped):
    wide = Signature(PLAIN.inputs, (TensorSpec("scores", "FP32", (2_000,)),))
    for variant in ("small", "large"):
        stepped.write_signature(variant, wide)
    written(stepped, SOFTMAX)
    (problem,) = stepped.problems()
    assert "128000 numbers in a batch of 64; a step reads at most 65536" in problem.message


def test_a_link_that_leads_out_is_not_followed(stepped, tmp_path):
    outside = tmp_path / "outside.json"
    outside.write_bytes(TOKENIZER)
    (stepped.model / "tokenizer.json").unlink()
    (stepped.model / "tokenizer.json").symlink_to(outside)
    (problem,) = written(stepped, TOKENIZE).problems()
    assert "is a link that leads out of the repository" in problem.message


@pytest.mark.parametrize("size", [2**20 + 1, 3 * 2**20])
def test_a_file_that_is_too_large(stepped, size):
    (stepped.model / "labels.txt").write_bytes(b"x" * size)
    (problem,) = written(stepped, NAMED).problems()
    assert f"labels.txt: has {size} bytes; the limit is {2**20}" in problem.message


def test_what_files_have_is_taken_off_the_allowance(stepped):
    written(stepped, *ALL)
    allowance = Allowance()
    before = allowance.repository
    load(stepped.root, {"onnx": inspect}, allowance=allowance)
    artifacts = sum(path.stat().st_size for path in stepped.root.rglob("*.onnx"))
    assert before - allowance.repository == artifacts + len(TOKENIZER) + len(LABELS)
    with pytest.raises(RepositoryInvalid, match="the limit is 10"):
        load(stepped.root, {"onnx": inspect}, allowance=Allowance(2**30, artifacts + 10))


def test_another_vocabulary_is_another_model(stepped):
    """So that a reload looks at it anew."""
    before = contents(stepped.root)
    Path(stepped.model / "labels.txt").write_bytes(b"a\nb\nc\n")
    assert contents(stepped.root) != before


def test_a_missing_package_is_a_mistake_that_says_what_to_do(stepped, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "tokenizers", None)
    monkeypatch.setitem(sys.modules, "PIL", None)
    told = {p.key: p.message for p in written(stepped, *ALL).problems()}
    assert told["before[0]"].endswith("is not installed: pip install 'gearshift[steps]'")
    assert "needs the package pillow" in told["before[1]"]
