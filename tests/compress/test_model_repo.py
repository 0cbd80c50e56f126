"""What is committed in model_repo is whole: every artifact is the one that its card measured."""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from gearshift.compress import metrics
from gearshift.compress.evaluate import predict
from gearshift.compress.intent import WITHDRAWN
from gearshift.engine.confidence import confidence
from gearshift.executors.onnx import OnnxExecutor
from gearshift.repository import load

REPOSITORY = Path(__file__).parents[2] / "model_repo"
BUDGET = 22_000_000
"""Bytes that all committed artifacts and samples together may take."""
INPUTS = {
    "fraud": ("features", np.float32, (30,), "probability", 1),
    "tumor": ("features", np.float32, (30,), "probability", 1),
    "garment": ("pixels", np.uint8, (28, 28), "probabilities", 10),
    "face": ("faces", np.uint8, (112, 112, 3), "embedding", 192),
    "text": ("input_ids", np.int64, (128,), "probabilities", 2),
}


def intent(model: str) -> dict[str, Any]:
    return tomllib.loads((REPOSITORY / model / "model.toml").read_text())


SAMPLED = tuple(model for model in INPUTS if model not in ("face", "text"))
"""The pictures of faces have no licence, and mails belong to their senders: none is committed."""
VARIANTS = [(model, entry["name"]) for model in INPUTS for entry in intent(model)["variants"]]


CASCADES = [(m, entry["name"]) for m in INPUTS for entry in intent(m).get("cascades", [])]


def card_of(model: str, variant: str) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((REPOSITORY / model / variant / "card.json").read_text())
    return card


def samples_of(model: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with np.load(REPOSITORY / model / "samples.npz") as arrays:
        return arrays["inputs"], arrays["labels"], arrays["weights"]


@pytest.mark.parametrize(("model", "variant"), VARIANTS)
def test_the_card_is_of_this_artifact(model: str, variant: str) -> None:
    card = card_of(model, variant)
    content = (REPOSITORY / model / variant / card["artifact"]).read_bytes()
    assert card["artifact_sha256"] == hashlib.sha256(content).hexdigest()
    assert card["artifact_bytes"] == len(content)
    assert (card["model"], card["variant"]) == (model, variant)
    assert card["accuracy"]["metric"] == intent(model)["metric"]
    assert card["accuracy"]["low"] <= card["accuracy"]["value"] <= card["accuracy"]["high"]
    assert card["data"]["training_sha256"] != card["data"]["evaluation_sha256"]
    assert card["data"]["licence"]


@pytest.mark.parametrize(("model", "variant"), VARIANTS)
def test_all_variants_of_a_model_have_one_signature(model: str, variant: str) -> None:
    name, dtype, shape, output, width = INPUTS[model]
    # One file: `load` would fail on tensors kept beside it.
    graph = onnx.load(REPOSITORY / model / variant / "model.onnx", load_external_data=False)
    assert max(entry.version for entry in graph.opset_import if entry.domain == "") <= 21
    assert graph.ir_version <= 10
    assert not any(tensor.external_data for tensor in graph.graph.initializer)
    (given,), (given_out,) = graph.graph.input, graph.graph.output
    assert (given.name, given_out.name) == (name, output)
    tensor = given.type.tensor_type
    assert onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type) == dtype
    dims = tensor.shape.dim
    assert dims[0].dim_param
    assert tuple(dim.dim_value for dim in dims[1:]) == shape
    out = given_out.type.tensor_type
    assert out.elem_type == onnx.TensorProto.FLOAT
    assert out.shape.dim[0].dim_param
    assert out.shape.dim[1].dim_value == width


@pytest.mark.parametrize("model", SAMPLED)
def test_samples_are_what_the_model_takes(model: str) -> None:
    inputs, labels, weights = samples_of(model)
    _, dtype, shape, _, width = INPUTS[model]
    assert inputs.dtype == dtype
    assert inputs.shape[1:] == shape
    assert len(inputs) == len(labels) == len(weights) <= 2000
    assert labels.dtype == np.int64
    assert weights.dtype == np.float64
    assert (weights >= 1).all()
    assert set(labels) == set(range(max(2, width)))


@pytest.mark.parametrize(("model", "variant"), [v for v in VARIANTS if v[0] in SAMPLED])
def test_the_samples_reproduce_the_accuracy_of_the_card(model: str, variant: str) -> None:
    inputs, labels, weights = samples_of(model)
    card = card_of(model, variant)
    accuracy = card["accuracy"]
    if model == "garment" and variant in ("teacher", "teacher-int8"):
        # The slowest variants: every tenth row is enough, with the wider tolerance it needs.
        inputs, labels, weights = inputs[::10], labels[::10], weights[::10]
    outputs = predict(REPOSITORY / model / variant / "model.onnx", {INPUTS[model][0]: inputs})
    scores = outputs if model == "garment" else outputs[:, 0]
    value = metrics.METRICS[accuracy["metric"]](labels, scores, weights)
    if model == "fraud":
        # The weights make these rows stand for all held-out ones.
        assert value == pytest.approx(accuracy["value"], abs=0.005)
        assert weights.sum() == pytest.approx(accuracy["n"])
    elif model == "tumor":
        # The card's accuracy is cross-validated on other rows; that on these is beside it.
        beside = {found["metric"]: found for found in card["further"]}
        held_out = beside[f"held_out_{accuracy['metric']}"]
        assert value == pytest.approx(held_out["value"], abs=1e-6)
    else:
        # Uniform samples: five standard errors of a share of so many rows.
        share = accuracy["value"]
        spread = (share * (1 - share) / len(labels)) ** 0.5
        assert value == pytest.approx(share, abs=5 * spread)


@pytest.mark.parametrize(("model", "cascade"), CASCADES)
def test_the_samples_reproduce_what_was_learned_for_the_cascade(model: str, cascade: str) -> None:
    card = json.loads((REPOSITORY / model / cascade / "cascade.json").read_text())
    served = load(REPOSITORY, {"onnx": OnnxExecutor().inspect}).models[model]
    inputs, labels, weights = samples_of(model)
    name, _, _, output, _ = INPUTS[model]
    first = predict(REPOSITORY / model / card["first"] / "model.onnx", {name: inputs})
    on = confidence({output: first}, served) < card["threshold"]
    outputs = first.copy()
    outputs[on] = predict(REPOSITORY / model / card["then"] / "model.onnx", {name: inputs[on]})
    share = float(np.average(on, weights=weights))
    value = metrics.weighted_score(served.metric, labels, outputs, weights)
    # The rows of fraud stand for all, those of garment were drawn from all.
    spread = 0.005 if model == "fraud" else 5 * (card["escalated"] / len(labels)) ** 0.5
    assert share == pytest.approx(card["escalated"], abs=spread)
    spread = 0.01 if model == "fraud" else 5 * (0.05 / len(labels)) ** 0.5
    assert value == pytest.approx(card["accuracy"]["value"], abs=spread)
    assert card["costs"][-1]["share"] < 0.5, "a cascade that is shipped saves at least half"


@pytest.mark.parametrize("model", INPUTS)
def test_the_most_accurate_is_listed_first_and_no_number_is_left_out(model: str) -> None:
    entries = intent(model)["variants"]
    # A later addition has a higher number, however accurate it is: numbers never change.
    withdrawn = WITHDRAWN.findall((REPOSITORY / model / "model.toml").read_text())
    numbers = sorted([*(entry["version"] for entry in entries), *map(int, withdrawn)])
    assert numbers == list(range(1, len(numbers) + 1))
    values = [card_of(model, entry["name"])["accuracy"]["value"] for entry in entries]
    assert values[0] == max(values)
    assert values[-1] == min(values)


def test_the_critical_class_accepts_the_most_accurate_alone() -> None:
    floor = intent("tumor")["classes"]["critical"]["min_accuracy"]
    values = [card_of("tumor", v)["accuracy"]["value"] for m, v in VARIANTS if m == "tumor"]
    assert [value >= floor for value in values] == [True, False, False]


def test_the_repository_stays_small() -> None:
    total = sum(path.stat().st_size for path in REPOSITORY.rglob("*") if path.is_file())
    assert total < BUDGET


@pytest.mark.parametrize("model", INPUTS)
def test_every_folder_is_a_listed_variant_and_the_licence_is_named(model: str) -> None:
    folders = {path.name for path in (REPOSITORY / model).iterdir() if path.is_dir()}
    assert folders == {name for owner, name in (*VARIANTS, *CASCADES) if owner == model}
    assert "**Licence.**" in (REPOSITORY / model / "DATA.md").read_text()
