"""`text` called with texts and `face` called with pictures answer as they do with tensors: what the
cards say of them stays true."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from PIL import Image

from gearshift.compress.families.text_data import INPUT, TOKENS, windows_of
from gearshift.core.catalog import Catalog, Model
from gearshift.executors.onnx import OnnxExecutor
from gearshift.ports import BYTES
from gearshift.repository import load
from gearshift.steps import made

ROOT = Path(__file__).parents[2] / "model_repo"
MAILS = (
    "Re: kernel patch\nThe patch looks fine to me; I will merge it tomorrow. " * 3,
    "FREE MONEY!!!\nClick here to claim your prize now, 100% guaranteed. " * 40,
    "Lunch?\n\nShall we meet at noon? \u00fcber \u5b57 \U0001f642",
    "",
)


@pytest.fixture(scope="module")
def executor() -> Iterator[OnnxExecutor]:
    made_ = OnnxExecutor(("CPUExecutionProvider",))
    yield made_
    made_.close()


@pytest.fixture(scope="module")
def catalog(executor: OnnxExecutor) -> Catalog:
    found = load(ROOT, {"onnx": executor.inspect}, only=["text", "face"])
    for model in found.models.values():
        for variant in model.variants:
            executor.load(model, variant)
    return found


def answers(executor: OnnxExecutor, model: Model, inputs: Mapping[str, Any]) -> list[np.ndarray]:
    """Of every variant, to the first output."""
    output = model.signature.outputs[0].name
    return [executor.run_here(model, variant, inputs)[output] for variant in model.variants]


def prepared(model: Model, name: str, sent: list[bytes]) -> Mapping[str, Any]:
    column = np.empty((len(sent), 1), BYTES)
    column[:, 0] = sent
    return made(model, {name: column}, lambda: True)[0]


def test_text(executor, catalog):
    """The rows are made as those were that the card was measured with (`text_data`)."""
    model = catalog.models["text"]
    reference = tokenizers.Tokenizer.from_file(str(ROOT / "text" / "tokenizer.json"))
    reference.no_truncation()
    reference.no_padding()
    rows = [windows_of(reference.encode(mail).ids, TOKENS, 1)[0] for mail in MAILS]
    tensors = {INPUT: np.array(rows, np.int64)}
    inputs = prepared(model, "text", [mail.encode() for mail in MAILS])
    assert np.array_equal(inputs[INPUT], tensors[INPUT])
    for one, other in zip(
        answers(executor, model, inputs), answers(executor, model, tensors), strict=True
    ):
        assert np.array_equal(one, other)
        (labels,) = model.after
        assert labels.rows(one)[:2].tolist() == [[b"ham"], [b"spam"]]


def test_face(executor, catalog):
    model = catalog.models["face"]
    faces = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), np.uint8)
    sent = []
    for face in faces:
        held = BytesIO()
        Image.fromarray(face).save(held, "PNG")
        sent.append(held.getvalue())
    inputs = prepared(model, "picture", sent)
    assert np.array_equal(inputs["faces"], faces)
    for one, other in zip(
        answers(executor, model, inputs), answers(executor, model, {"faces": faces}), strict=True
    ):
        assert np.array_equal(one, other)
