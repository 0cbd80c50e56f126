"""Artifacts with what lies beside them: identity, bounds, changes, and that they run."""

from __future__ import annotations

import gc
import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from builders import make_model
from gearshift.artifacts import Allowance, complete, examine, read, read_again
from gearshift.core.artifact import Artifact
from gearshift.core.catalog import Catalog
from gearshift.errors import RepositoryInvalid
from gearshift.executors import trial
from gearshift.executors.onnx import OnnxExecutor
from gearshift.executors.trial import inspect_apart
from gearshift.repository import load
from onnx_models import TWO_VARIANTS, artifact_at, row_sum, wide_inside

WIDTH = 5_000


def outside(path: Path, file: str = "weights.bin", width: int = WIDTH) -> Path:
    """An artifact whose weights lie beside it."""
    wide_inside(path, width)
    made = onnx.load(path)
    (path.parent / file).parent.mkdir(exist_ok=True)
    onnx.save(made, path, save_as_external_data=True, location=file, size_threshold=100)
    return path


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Variant `large` has its weights in a file of its own."""
    model = tmp_path / "repository" / "m"
    outside(model / "large" / "model.onnx")
    row_sum(model / "small" / "model.onnx")
    (model / "model.toml").write_text(TWO_VARIANTS)
    return model.parent


@pytest.fixture
def executor():
    made = OnnxExecutor(["CPUExecutionProvider"])
    yield made
    made.close()


def loaded(repository: Path, executor, **options) -> Catalog:
    return load(repository, {"onnx": executor.inspect}, **options)


def problems(repository: Path, executor, **options) -> str:
    with pytest.raises(RepositoryInvalid) as caught:
        loaded(repository, executor, **options)
    return str(caught.value)


def test_the_identity_of_an_artifact_alone_is_that_of_its_file(tmp_path: Path) -> None:
    artifact = artifact_at(row_sum(tmp_path / "model.onnx"))
    assert artifact.sha256() == hashlib.sha256(artifact.content).hexdigest()


def test_the_identity_covers_what_lies_beside_and_its_name() -> None:
    told = {
        Artifact("p", b"a").sha256(),
        Artifact("p", b"a", {"w": b"1"}).sha256(),
        Artifact("p", b"a", {"w": b"2"}).sha256(),
        Artifact("p", b"a", {"v": b"1"}).sha256(),
        Artifact("p", b"b", {"w": b"1"}).sha256(),
    }
    assert len(told) == 5


def test_weights_beside_a_model_are_loaded_and_answer(repository: Path, executor) -> None:
    model = loaded(repository, executor).models["m"]
    variant = model.by_name("large")
    assert variant.artifact_files == ("weights.bin",)
    assert variant.artifact_bytes > 3 * 4 * WIDTH
    executor.load(model, variant)
    answer = executor.run_here(model, variant, {"x": np.ones((2, 3), np.float32)})
    assert answer["y"].tolist() == [[3.0], [3.0]]


def test_weights_in_a_folder_below_are_loaded(repository: Path, executor) -> None:
    (repository / "m" / "large" / "weights.bin").unlink()
    outside(repository / "m" / "large" / "model.onnx", "parts/weights.bin")
    variant = loaded(repository, executor).models["m"].by_name("large")
    assert variant.artifact_files == ("parts/weights.bin",)


def test_what_changes_before_it_is_loaded_is_not_loaded(repository: Path, executor) -> None:
    model = loaded(repository, executor).models["m"]
    for name, file in (("small", "model.onnx"), ("large", "model.onnx"), ("large", "weights.bin")):
        path = repository / "m" / name / file
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes((content[-1] ^ 1,)))
        with pytest.raises(ValueError, match="is not the file any more that was checked"):
            executor.load(model, model.by_name(name))
        path.write_bytes(content + b"\0")
        with pytest.raises(ValueError, match=r"what was checked is|not the file any more"):
            executor.load(model, model.by_name(name))
        path.unlink()
        with pytest.raises(ValueError, match="no such file"):
            executor.load(model, model.by_name(name))
        os.mkfifo(path)
        with pytest.raises(ValueError, match="not a regular file"):
            executor.load(model, model.by_name(name))
        path.unlink()
        path.write_bytes(content)
        executor.load(model, model.by_name(name))


def test_the_bytes_that_were_hashed_are_those_that_are_inspected(
    repository: Path, executor
) -> None:
    """A file that is exchanged after it was read changes nothing of this load."""

    def inspect(artifact: Artifact):
        Path(artifact.path).write_bytes(b"exchanged")
        return executor.inspect(artifact)

    before = (repository / "m" / "small" / "model.onnx").read_bytes()
    model = load(repository, {"onnx": inspect}).models["m"]
    assert model.by_name("small").artifact_sha256 == hashlib.sha256(before).hexdigest()


def test_a_card_that_names_another_hash_keeps_the_parser_away(repository: Path) -> None:
    folder = repository / "m" / "small"
    (folder / "card.json").write_text(json.dumps({"artifact_sha256": "0" * 64}))
    inspected = []

    def inspect(artifact: Artifact):
        inspected.append(artifact.path)
        raise ValueError("seen")

    with pytest.raises(RepositoryInvalid):
        load(repository, {"onnx": inspect})
    assert [Path(path).parent.name for path in inspected] == ["large"]


@pytest.mark.parametrize("target", ["../small/weights.bin", "/etc/hostname"])
def test_weights_do_not_lie_behind_a_link_out_of_the_folder(
    repository: Path, executor, target: str
) -> None:
    place = repository / "m" / "large" / "weights.bin"
    place.rename(repository / "m" / "small" / "weights.bin")
    place.symlink_to(target)
    assert "a link that leads out of its folder" in problems(repository, executor)


def test_weights_that_are_missing_or_too_short(repository: Path, executor) -> None:
    place = repository / "m" / "large" / "weights.bin"
    os.truncate(place, 100)
    assert "'weights.bin', which has 100" in problems(repository, executor)
    place.unlink()
    assert "needs 'weights.bin' beside it, which cannot be read: no such" in problems(
        repository, executor
    )


def test_limits_of_an_artifact_and_of_the_repository(repository: Path, executor) -> None:
    large = 3 * 4 * WIDTH
    told = problems(repository, executor, allowance=Allowance(large))
    assert "needs 'weights.bin' beside it, which has 60000 bytes; max_artifact_bytes is" in told
    small = (repository / "m" / "small" / "model.onnx").stat().st_size
    whole = loaded(repository, executor).models["m"].by_name("large").artifact_bytes
    told = problems(repository, executor, allowance=Allowance(large * 2, whole + small - 1))
    assert f"small/model.onnx: has {small} bytes; what max_repository_bytes leaves" in told
    assert loaded(repository, executor, allowance=Allowance(large * 2, whole + small))


def test_nothing_outside_is_opened_by_onnx_runtime_itself(tmp_path: Path) -> None:
    """Without our hands it would look for the file; that it does not find it shows that bytes
    alone give it no folder."""
    path = outside(tmp_path / "model.onnx")
    with pytest.raises(Exception, match="xternal"):
        ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])


def test_a_loaded_model_is_not_kept_as_a_file_as_well(tmp_path: Path, executor) -> None:
    path = wide_inside(tmp_path / "model.onnx", WIDTH)
    model = make_model()
    variant = replace(model.best, artifact=str(path))
    executor.load(model, variant)
    # By type: of other libraries' objects not even `__class__` is to be looked at.
    held = [each for each in gc.get_objects() if issubclass(type(each), ort.InferenceSession)]
    assert held
    kept = [value for session in held for value in vars(session).values()]
    assert not [value for value in kept if isinstance(value, bytes) and len(value) > 99]
    rows = {"x": np.ones((1, 3), np.float32)}
    assert executor.run_here(model, variant, rows)["y"].tolist() == [[3.0]]


def test_a_variant_without_a_hash_is_loaded_as_it_is(tmp_path: Path) -> None:
    model = make_model()
    path = row_sum(tmp_path / "model.onnx")
    assert read_again(replace(model.best, artifact=str(path))).content == path.read_bytes()


# --- in a process of its own -----------------------------------------------------------


def test_a_trial_says_what_inspecting_says(repository: Path, executor) -> None:
    for name in ("large", "small"):
        path = repository / "m" / name / "model.onnx"
        artifact = complete(read(repository, path, Allowance()), Allowance(), examine)
        assert inspect_apart(artifact) == executor.inspect(artifact)


def test_a_trial_tells_why_it_is_refused() -> None:
    with pytest.raises(ValueError, match="ONNX Runtime cannot load it"):
        inspect_apart(Artifact("model.onnx", b"not a model"))


@pytest.mark.parametrize(
    ("bound", "value", "said"),
    [
        ("ROOM", 2**20, r"ended the process|bad_alloc|not enough memory"),
        ("PATIENCE", 1e-4, "takes more than"),
    ],
)
def test_what_exceeds_its_bounds_ends_only_its_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, value: float, said: str
) -> None:
    """No memory is left for the child, or no time."""
    artifact = artifact_at(wide_inside(tmp_path / "model.onnx", WIDTH))
    monkeypatch.setattr(trial, bound, value)
    with pytest.raises(ValueError, match=said):
        inspect_apart(artifact)


@pytest.mark.parametrize(
    "told",
    [b"", b"{}", b"[" * 10_000, b'{"inputs": [{"name": 1}], "outputs": []}', b" " * 2**21],
)
def test_a_child_that_says_anything_is_not_believed(told: bytes) -> None:
    with pytest.raises(ValueError, match="did not say what it takes"):
        trial._answer(told)
