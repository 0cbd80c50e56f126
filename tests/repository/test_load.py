"""A good repository becomes the catalog that it describes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gearshift.core.artifact import Artifact
from gearshift.core.catalog import Late, Signature, TensorSpec
from gearshift.repository import load


def test_everything_is_read(folder: Any) -> None:
    catalog = folder.load()
    model = catalog.model("fraud")

    assert catalog.generation == 7
    assert list(catalog.models) == ["fraud"]
    assert model.metric == "average_precision"
    assert model.max_batch_size == 64
    assert model.default_class == "realtime"
    assert model.signature.inputs[0].shape == (3,)
    assert model.samples == str(folder.model / "samples.npz")
    assert [variant.name for variant in model.variants] == ["large", "small"]
    large = model.by_version(1)
    assert (large.accuracy, large.source, large.executor) == (0.85, "measured", "onnx")
    assert large.artifact == str(folder.artifact("large"))
    assert large.artifact_bytes == folder.artifact("large").stat().st_size
    assert large.card is not None
    assert large.card.artifact_sha256 == large.artifact_sha256
    assert large.card.further[0].metric == "recall"


def test_classes_are_in_seconds_and_absent_means_none(folder: Any) -> None:
    classes = folder.load().model("fraud").classes

    realtime, patient = classes["realtime"], classes["patient"]
    assert realtime.budget == pytest.approx(0.010)
    assert (realtime.floor, realtime.late, realtime.weight) == (0.5, Late.SERVE, 2.0)
    assert (patient.budget, patient.floor) == (math.inf, -math.inf)
    assert (patient.late, patient.weight) == (Late.DROP, 1.0)


def test_priorities_are_numbers_of_classes(folder: Any) -> None:
    folder.replace("weight = 2.0", "weight = 2.0\npriority = 3")
    classes = folder.load().model("fraud").classes
    assert (classes["realtime"].priority, classes["patient"].priority) == (3, None)


def test_a_floor_of_zero_is_a_floor(folder: Any) -> None:
    folder.replace("min_accuracy = 0.5", "min_accuracy = 0.0")
    assert folder.load().model("fraud").classes["realtime"].floor == 0.0


def test_declared_accuracy_counts_where_there_is_no_card(folder: Any) -> None:
    folder.card("small").unlink()
    folder.replace("version = 2", "version = 2\naccuracy = 0.9")
    best = folder.load().model("fraud").variants[0]
    assert (best.name, best.accuracy, best.source, best.card) == ("small", 0.9, "declared", None)


def test_equal_accuracy_is_ordered_by_version(folder: Any) -> None:
    folder.edit_accuracy("small", value=0.85)
    assert [v.version for v in folder.load().model("fraud").variants] == [1, 2]


def test_tensors_in_another_order_are_the_same_signature(folder: Any, signature: Any) -> None:
    first, second = signature().inputs[0], signature().outputs[0]
    folder.write_signature("small", Signature((first,), (second, first)))
    folder.write_signature("large", Signature((first,), (first, second)))
    assert folder.load().model("fraud").signature.outputs == (second, first)


def test_samples_are_optional_and_may_hold_more_arrays(folder: Any) -> None:
    path = folder.model / "samples.npz"
    np.savez(path, inputs=np.ones((2, 3), np.float32), labels=np.ones(2), weights=np.ones(2))
    assert folder.load().model("fraud").samples == str(path)
    path.unlink()
    assert folder.load().model("fraud").samples is None


def test_hidden_folders_and_plain_files_are_passed_over(folder: Any) -> None:
    (folder.root / ".git").mkdir()
    (folder.root / "lost+found").mkdir()
    (folder.root / "README.md").write_text("models")
    (folder.model / "notes").mkdir()
    assert list(folder.load().models) == ["fraud"]


def test_a_link_inside_the_repository_is_followed(folder: Any) -> None:
    """A mounted volume may lay its files out as links into a hidden folder beside them."""
    hidden = folder.root / "..data"
    hidden.mkdir()
    folder.toml.rename(hidden / "model.toml")
    folder.toml.symlink_to(Path("../..data/model.toml"))
    assert list(folder.load().models) == ["fraud"]


def test_an_executor_without_a_file_is_asked_by_folder(folder: Any, signature: Any) -> None:
    asked: list[str] = []
    shared: Signature = signature()

    def inspect(artifact: Artifact) -> Signature:
        asked.append(artifact.path)
        return shared

    folder.replace(
        '[[variants]]\nname = "small"',
        '[[variants]]\nname = "far"\nversion = 9\nexecutor = "far"\naccuracy = 0.99\n\n'
        '[[variants]]\nname = "small"',
    )
    far = folder.load(far=inspect).model("fraud").by_name("far")
    assert asked == [str(folder.model / "far")]
    assert (far.artifact, far.artifact_sha256, far.artifact_bytes) == (asked[0], "", 0)


def test_the_catalog_cannot_be_changed(folder: Any) -> None:
    catalog = folder.load()
    with pytest.raises(TypeError):
        catalog.models["other"] = catalog.models["fraud"]
    with pytest.raises(TypeError):
        catalog.models["fraud"].classes["other"] = None


def test_generation_is_one_by_default(folder: Any) -> None:
    inspect = {"onnx": lambda _: Signature((), ())}
    (folder.model / "samples.npz").unlink()
    assert load(folder.root, inspect).generation == 1


def test_a_batch_that_does_not_fit_into_memory_is_a_mistake(folder: Any, signature: Any) -> None:
    wide = signature(inputs=(TensorSpec("features", "FP32", (3, 2**21)),))
    for variant in ("small", "large"):
        folder.write_signature(variant, wide)
    (problem, *_) = folder.problems()
    assert (problem.file, problem.key) == ("fraud/model.toml", "max_batch_size")
    assert "which 42 rows take" in problem.message
