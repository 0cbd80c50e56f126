"""A good repository in a temporary folder, and the means to spoil it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from gearshift.core.artifact import Artifact
from gearshift.core.card import SCHEMA, Card, DataSource, Measurement, Recipe
from gearshift.core.catalog import Catalog, Signature, TensorSpec
from gearshift.errors import Problem, RepositoryInvalid
from gearshift.repository import load

MODEL_TOML = """\
metric = "average_precision"
max_batch_size = 64
default_class = "realtime"

[classes.realtime]
budget_ms = 10
min_accuracy = 0.5
late = "serve"
weight = 2.0

[classes.patient]

[[variants]]
name = "small"
version = 2
executor = "onnx"

[[variants]]
name = "large"
version = 1
executor = "onnx"
"""

SIGNATURE = Signature(
    inputs=(TensorSpec("features", "FP32", (3,)),), outputs=(TensorSpec("score", "FP32", (1,)),)
)


def inspect(artifact: Artifact) -> Signature:
    """The fake artifacts are ONNX files without a node, whose documentation is JSON:
    [[name, datatype, shape], ...] for inputs and outputs."""
    try:
        document = json.loads(onnx.ModelProto.FromString(artifact.content).doc_string)
        if "refuse" in document:
            raise ValueError(document["refuse"])
        inputs, outputs = (
            tuple(
                TensorSpec(str(name), str(kind), tuple(map(int, shape)))
                for name, kind, shape in side
            )
            for side in (document["inputs"], document["outputs"])
        )
    except json.JSONDecodeError:
        raise ValueError("not a model at all") from None
    except (TypeError, KeyError) as error:
        raise ValueError(f"not a model: {error}") from None
    return Signature(inputs=inputs, outputs=outputs)


def artifact_of(signature: Signature, comment: str = "") -> bytes:
    """The bytes that `inspect` reads `signature` from; `comment` makes them differ."""
    document = {
        "inputs": [[t.name, t.datatype, t.shape] for t in signature.inputs],
        "outputs": [[t.name, t.datatype, t.shape] for t in signature.outputs],
        "comment": comment,
    }
    return model_of(document)


def model_of(document: Any) -> bytes:
    """An ONNX file that says nothing but this."""
    held = onnx.ModelProto(ir_version=9, doc_string=json.dumps(document))
    held.graph.name = "fake"
    return held.SerializeToString()


def card_for(artifact: bytes, variant: str, value: float) -> Card:
    return Card(
        schema=SCHEMA,
        model="fraud",
        variant=variant,
        artifact="model.onnx",
        artifact_sha256=hashlib.sha256(artifact).hexdigest(),
        artifact_bytes=len(artifact),
        parameters=10,
        accuracy=Measurement(
            metric="average_precision", value=value, n=100, low=0.1, high=0.99, method="bootstrap"
        ),
        further=(
            Measurement(metric="recall", value=0.5, n=100, low=0.4, high=0.6, method="bootstrap"),
        ),
        data=DataSource(
            name="d", source="s", licence="l", training_sha256="a", evaluation_sha256="b"
        ),
        recipe=Recipe(description="d", command="c", sha256="r", tools={"numpy": "2"}),
    )


class Folder:
    """A repository with one model, `fraud`, of two variants; every part can be replaced."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.model = root / "fraud"
        self.toml = self.model / "model.toml"
        for variant, value in (("small", 0.7), ("large", 0.85)):
            artifact = artifact_of(SIGNATURE, variant)
            (self.model / variant).mkdir(parents=True)
            self.artifact(variant).write_bytes(artifact)
            self.write_card(variant, card_for(artifact, variant, value))
        self.toml.write_text(MODEL_TOML)
        self.write_samples(np.zeros((5, 3), np.float32), np.zeros(5, np.int64))

    def artifact(self, variant: str) -> Path:
        return self.model / variant / "model.onnx"

    def card(self, variant: str) -> Path:
        return self.model / variant / "card.json"

    def write_card(self, variant: str, card: Card) -> None:
        self.card(variant).write_text(card.to_json())

    def edit_card(self, variant: str, /, **changes: Any) -> None:
        document = json.loads(self.card(variant).read_text())
        self.card(variant).write_text(json.dumps(document | changes))

    def edit_accuracy(self, variant: str, /, **changes: Any) -> None:
        document = json.loads(self.card(variant).read_text())
        self.edit_card(variant, accuracy=document["accuracy"] | changes)

    def write_signature(self, variant: str, signature: Signature) -> None:
        self.put(variant, artifact_of(signature, variant))

    def put(self, variant: str, artifact: bytes, value: float = 0.8) -> None:
        """Another artifact, with a card that fits it."""
        self.artifact(variant).write_bytes(artifact)
        self.write_card(variant, card_for(artifact, variant, value))

    def replace(self, old: str, new: str) -> None:
        """Change model.toml; the text to be replaced must be there."""
        text = self.toml.read_text()
        assert old in text
        self.toml.write_text(text.replace(old, new, 1))

    def write_samples(self, inputs: Any, labels: Any) -> None:
        np.savez_compressed(self.model / "samples.npz", inputs=inputs, labels=labels)

    def load(self, **inspectors: Callable[[Artifact], Signature]) -> Catalog:
        return load(self.root, {"onnx": inspect, **inspectors}, generation=7)

    def problems(self) -> tuple[Problem, ...]:
        with pytest.raises(RepositoryInvalid) as caught:
            self.load()
        return caught.value.problems


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "repo")


@pytest.fixture
def signature() -> Callable[..., Signature]:
    """The good signature with changes, such as `inputs=(...)`."""

    def changed(**changes: Any) -> Signature:
        return replace(SIGNATURE, **changes)

    return changed
