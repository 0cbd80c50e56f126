"""A variant is written whole or not at all, and its card speaks of the file beside it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gearshift.compress import publish
from gearshift.core.card import DataSource, Measurement

DRAFT = publish.Draft(
    model="fraud",
    variant="small",
    artifact=b"an artifact",
    parameters=31,
    description="made for a test",
    accuracy=Measurement(metric="roc_auc", value=0.9, n=10, low=0.8, high=0.95, method="none"),
    further=(),
    data=DataSource(
        name="made",
        source="here",
        licence="none",
        training_sha256="a" * 64,
        evaluation_sha256="b" * 64,
    ),
    tools={"numpy": np.__version__},
    command="gearshift compress fraud.toml",
    recipe_sha256="c" * 64,
)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_card_speaks_of_the_artifact(tmp_path: Path) -> None:
    publish.publish(tmp_path, DRAFT)

    folder = tmp_path / "fraud" / "small"
    card = json.loads((folder / "card.json").read_text())
    assert (folder / "model.onnx").read_bytes() == b"an artifact"
    assert card["artifact"] == "model.onnx"
    assert card["artifact_sha256"] == hashlib.sha256(b"an artifact").hexdigest()
    assert card["artifact_bytes"] == 11
    assert card["recipe"]["tools"] == {"numpy": np.__version__}
    assert card["recipe"]["command"] == "gearshift compress fraud.toml"
    assert {p.name for p in tmp_path.rglob("*")} == {"fraud", "small", "model.onnx", "card.json"}


def test_a_new_variant_replaces_all_of_the_old(tmp_path: Path) -> None:
    publish.publish(tmp_path, DRAFT)
    (tmp_path / "fraud" / "small" / "stale").write_text("left over")
    publish.publish(tmp_path, replace(DRAFT, artifact=b"a better one"))
    found = content(tmp_path)
    assert found["fraud/small/model.onnx"] == b"a better one"
    assert set(found) == {"fraud/small/model.onnx", "fraud/small/card.json"}


@pytest.mark.parametrize("step", ["write_text", "rename"])
def test_a_failure_midway_leaves_the_earlier_variant_untouched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    publish.publish(tmp_path, DRAFT)
    before = content(tmp_path)
    original = getattr(Path, step)

    def failing(self: Path, *arguments: object, **options: object) -> object:
        # The old folder may move aside; what is new must not come in.
        if step == "rename" and self.name == "small":
            return original(self, *arguments, **options)
        if step == "rename" and "old" in str(self):
            return original(self, *arguments, **options)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, step, failing)
    with pytest.raises(OSError, match="No space left"):
        publish.publish(tmp_path, replace(DRAFT, artifact=b"never seen"))
    assert content(tmp_path) == before
    assert {p.name for p in (tmp_path / "fraud").iterdir()} == {"small"}


def test_a_card_from_its_own_training_data_is_refused(tmp_path: Path) -> None:
    same = replace(DRAFT.data, evaluation_sha256=DRAFT.data.training_sha256)
    with pytest.raises(ValueError, match="its own training data"):
        publish.publish(tmp_path, replace(DRAFT, data=same))
    assert content(tmp_path) == {}


def test_samples_come_back_as_they_were(tmp_path: Path) -> None:
    inputs, labels = np.ones((3, 2), np.uint8), np.arange(3)
    publish.publish_samples(tmp_path, "m", inputs, labels, np.full(3, 2.5))
    with np.load(tmp_path / "m" / "samples.npz") as arrays:
        np.testing.assert_array_equal(arrays["inputs"], inputs)
        np.testing.assert_array_equal(arrays["labels"], labels)
        assert arrays["weights"].tolist() == [2.5, 2.5, 2.5]
        assert arrays["inputs"].dtype == np.uint8


@pytest.mark.parametrize(("rows", "labels"), [(3, 2), (2001, 2001)])
def test_unfit_samples_are_refused(tmp_path: Path, rows: int, labels: int) -> None:
    with pytest.raises(ValueError, match="at most 2000"):
        publish.publish_samples(
            tmp_path, "m", np.zeros((rows, 1)), np.zeros(labels, np.int64), np.ones(rows)
        )


def test_what_a_killed_run_left_is_put_back_or_removed(tmp_path: Path) -> None:
    publish.publish(tmp_path, DRAFT)
    folder = tmp_path / "fraud"
    before = content(folder)
    # Killed between the two renames: the old variant is aside, the new one has no name yet.
    (folder / ".small-old-x").mkdir()
    (folder / "small").rename(folder / ".small-old-x" / "small")
    (folder / ".small-y").mkdir()
    (folder / ".small-y" / "model.onnx").write_bytes(b"half of it")
    publish.recover(folder)
    assert content(folder) == before
    publish.recover(folder)
    assert {p.name for p in folder.iterdir()} == {"small"}
