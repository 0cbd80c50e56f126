"""A recipe becomes a repository that loads: each step once, all or nothing, honest measures."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compressing import HEAD, OWN, STEPS, card, laid_out, made
from gearshift.compress import build as building
from gearshift.compress import edge, steps
from gearshift.compress.evaluate import predict
from gearshift.compress.job import StepFailed
from gearshift.compress.metrics import wilson
from gearshift.compress.search import search
from gearshift.executors.onnx import OnnxExecutor
from gearshift.repository import load
from onnx_models import blobs


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return laid_out(tmp_path)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def loaded(place: Path) -> Any:
    """The repository as the server would load it."""
    executor = OnnxExecutor(["CPUExecutionProvider"])
    return load(place / "repository", {"onnx": executor.inspect})


PUBLISHED = {"large", "large-int8", "large-dynamic", "half", "own"}


def test_one_command_gives_a_repository_that_loads(place: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("gearshift.compress.latency.ROUNDS", 5)
    made(place, results=True)
    catalog = loaded(place)
    model = catalog.models["blobs"]
    assert {variant.name for variant in model.variants} == PUBLISHED
    assert model.signature.inputs[0].shape == (8,)
    told = card(place, "large-int8")
    accuracy = told["accuracy"]
    right = round(accuracy["value"] * 300)
    assert (accuracy["low"], accuracy["high"]) == wilson(right, 300)
    assert accuracy["value"] > 0.9
    assert told["data"]["training_sha256"] != told["data"]["evaluation_sha256"]
    assert told["recipe"]["tools"].keys() == {"onnx", "onnxruntime"}
    assert card(place, "own")["recipe"]["tools"].keys() == {"numpy", "onnx"}
    assert card(place, "half")["artifact_bytes"] < card(place, "large")["artifact_bytes"] * 0.6
    with np.load(place / "repository" / "blobs" / "samples.npz") as samples:
        assert samples["inputs"].shape == (300, 8)
    page = (place / "results" / "blobs.md").read_text()
    assert all(f"`{name}`" in page for name in PUBLISHED)
    assert "| `large-int8` | entropy |" in page
    assert "| `phone` | ort |" in page
    assert (place / "cache" / "blobs" / "phone.ort").read_bytes()[4:8] == b"ORTM"
    assert (place / "results" / "blobs.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_too_large_is_reported_and_not_published(place: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("gearshift.compress.latency.ROUNDS", 5)
    recipe = place / "recipes" / "recipe.toml"
    recipe.write_text(HEAD + "[serve]\nmost_bytes = 4000\n" + STEPS)
    made(place, results=True)
    assert {v.name for v in loaded(place).models["blobs"].variants} < PUBLISHED
    assert not (place / "repository" / "blobs" / "large").exists()
    page = (place / "results" / "blobs.md").read_text()
    assert "| not shipped | `large` |" in page


def test_a_second_run_does_nothing_twice(place: Path) -> None:
    first = made(place)
    before = content(place / "repository")
    second = made(place)
    assert sum("done before" in line for line in first) == 0
    assert sum("done before" in line for line in second) == 7
    assert content(place / "repository") == before


def test_a_changed_setting_does_only_what_depends_on_it_again(place: Path) -> None:
    made(place)
    recipe = place / "recipes" / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('of = "large"\npublish = false', 'of = "own"'))
    recipe.write_text(HEAD + STEPS.replace("digits = 1", "digits = 2"))
    lines = made(place)
    assert [line for line in lines if line.endswith("call ...")]
    assert sum("done before" in line for line in lines) == 6


def test_a_killed_run_goes_on_where_it_stopped(place: Path, monkeypatch: Any) -> None:
    run = steps.run

    def killed(step: Any, shop: Any) -> Any:
        if step.name == "half":
            raise KeyboardInterrupt
        return run(step, shop)

    monkeypatch.setattr(steps, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        made(place)
    assert not (place / "repository").exists()
    monkeypatch.setattr(steps, "run", run)
    assert sum("done before" in line for line in made(place)) == 4


def broken(place: Path, text: str, message: str) -> None:
    """The recipe `text` fails with `message`, naming the file; what was published stays."""
    made(place)
    before = content(place / "repository")
    recipe = place / "recipes" / "recipe.toml"
    recipe.write_text(text)
    with pytest.raises(StepFailed, match=message) as caught:
        made(place)
    assert str(caught.value).startswith(str(recipe))
    assert content(place / "repository") == before


def test_an_error_in_a_function_is_told_with_its_step(place: Path) -> None:
    (place / "recipes" / "bad.py").write_text("def f(shop):\n    raise KeyError('gone')\n")
    step = '\n[[steps]]\nname = "bad"\nkind = "call"\nfunction = "bad.py:f"\n'
    broken(place, HEAD + STEPS + step, r"step 8 \('bad'\): KeyError: 'gone'")


def test_a_function_that_gives_something_else(place: Path) -> None:
    (place / "recipes" / "bad.py").write_text("def f(shop):\n    return b'bytes'\n")
    step = '\n[[steps]]\nname = "bad"\nkind = "call"\nfunction = "bad.py:f"\n'
    broken(place, HEAD + STEPS + step, "gave bytes; expected gearshift.compress.made.Made")


def test_a_graph_that_cannot_be_quantized(place: Path) -> None:
    (place / "recipes" / "odd.onnx").write_bytes(b"no graph at all")
    step = '\n[[steps]]\nname = "odd"\nkind = "import"\nonnx = "odd.onnx"\n'
    broken(place, HEAD + step + STEPS, r"step 1 \('odd'\): DecodeError")


def test_a_step_that_needs_a_network_and_has_a_graph(place: Path) -> None:
    step = '\n[[steps]]\nname = "p"\nkind = "edge"\nof = "large"\nruntime = "litert"\n'
    broken(place, HEAD + STEPS + step, r"step 8 \('p'\): step 'large' has no network")


def test_rows_in_two_parts_are_refused(place: Path) -> None:
    shutil.copy(place / "recipes" / "training.npz", place / "recipes" / "again.npz")
    text = (HEAD + STEPS).replace("evaluation.npz", "again.npz")
    broken(place, text, "data: 60 of 60 evaluation rows also occur in the training part")


def test_an_artifact_that_answers_nan_is_not_measured(place: Path) -> None:
    (place / "recipes" / "bad.py").write_text(OWN.replace("np.round(", "np.nan * np.round("))
    text = (HEAD + STEPS).replace("own.py:", "bad.py:")
    broken(place, text, r"step 'own', evaluation: .* NaN or infinity, first for row 0")


def test_an_unknown_metric_names_the_known(place: Path) -> None:
    recipe = place / "recipes" / "recipe.toml"
    recipe.write_text((HEAD + STEPS).replace("top1", "precision"))
    with pytest.raises(Exception, match=r"metric: no metric .*'precision'; known are average_pr"):
        made(place)


def test_a_full_disk_changes_nothing(place: Path, monkeypatch: Any) -> None:
    made(place)
    before = content(place / "repository")
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if "large-dynamic" in str(path) and "repository" in str(path):
            raise OSError(28, "No space left on device", str(path))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StepFailed, match=r"publishing into .*No space left on device \(.*large"):
        made(place)
    assert content(place / "repository") == before


def test_a_phone_artifact_that_does_not_run_is_told(place: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(building.phones, "TIMEOUT", 60.0)
    with pytest.raises(edge.EdgeError, match="the ort runtime cannot run the artifact"):
        edge.measure(b"no model", "ort", Part_of(place))


def Part_of(place: Path) -> Any:  # noqa: N802
    from gearshift.compress.dataset import read_part

    return read_part(place / "recipes" / "evaluation.npz")


FOLDS = """
import numpy as np
from gearshift.compress.dataset import DataSets, Part

def rows(cache, report, fold=0, folds=2):
    from onnx_models import blobs
    parts = {}
    for name, n, seed in (("training", 40, 10), ("calibration", 60, 20), ("evaluation", 80, 30)):
        x, labels = blobs(n, seed=seed + fold)
        parts[name] = Part({"x": x}, labels)
    return DataSets(name="blobs", source="here", licence="made here", **parts)
"""


def test_cross_fitting_measures_the_answers_of_all_folds_together(place: Path) -> None:
    (place / "recipes" / "folds.py").write_text(FOLDS)
    head = (
        'model = "blobs"\nmetric = "top1"\ncross_fitting = 2\n[data]\nadapter = "folds.py:rows"\n'
    )
    recipe = place / "recipes" / "recipe.toml"
    recipe.write_text(head + STEPS)
    made(place)
    told = card(place, "large-int8")
    (beside,) = told["further"]
    assert told["accuracy"]["n"] == 160
    assert told["accuracy"]["method"].startswith("2-fold cross-fitting")
    assert (beside["metric"], beside["n"]) == ("held_out_top1", 80)
    # What the second fold's own file answers on the second fold's rows.
    x, labels = blobs(80, seed=31)
    (folder,) = (place / "cache" / "blobs" / "fold-1").glob("large-int8-*")
    second = (predict((folder / "artifact").read_bytes(), {"x": x}).argmax(1) == labels).sum()
    right = round(beside["value"] * 80) + int(second)
    assert told["accuracy"]["value"] == pytest.approx(right / 160)


def test_cross_validation_makes_every_fold_anew(place: Path) -> None:
    recipe = place / "recipes" / "recipe.toml"
    folds = "cross_validation = { folds = 3, repeats = 2 }\n[data]"
    recipe.write_text((HEAD + STEPS).replace("[data]", folds))
    made(place)
    told = card(place, "own")
    assert told["accuracy"]["n"] == 60
    assert "2 times repeated stratified 3-fold" in told["accuracy"]["method"]
    assert told["further"][0]["metric"] == "held_out_top1"
    assert len(list((place / "cache" / "blobs").glob("fold-*/own-*"))) == 6


SEARCH = """
[search]
[[search.axes]]
setting = "own.options.digits"
values = [0, 1, 2]
[[search.axes]]
setting = "large-int8.per_channel"
values = [true, false]
"""


def test_a_search_keeps_what_nothing_dominates(place: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("gearshift.compress.latency.ROUNDS", 5)
    recipe = place / "recipes" / "recipe.toml"
    recipe.write_text(HEAD + STEPS + SEARCH)
    lines = made(place, search, results=True)
    assert sum(": trial " in line for line in lines) == 6
    model = loaded(place).models["blobs"]
    page = (place / "results" / "blobs-search.md").read_text()
    tried = [line for line in page.splitlines() if line.startswith("| `")]
    # 3 of own, 2 of large-int8, and one each of large, large-dynamic and half.
    assert len(tried) == 8
    kept = {line.split("`")[1] for line in tried if line.endswith("| kept |")}
    assert {variant.name for variant in model.variants} == kept
    assert 0 < len(kept) < 8
    assert card(place, sorted(kept)[0])["recipe"]["command"].endswith("--search")
    # The same seed, the same trials: nothing is done anew.
    again = made(place, search)
    assert not any(line.endswith("...") for line in again)


def test_a_search_under_a_goal_withdraws_what_it_no_longer_keeps(
    place: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("gearshift.compress.latency.ROUNDS", 5)
    recipe = place / "recipes" / "recipe.toml"
    recipe.write_text(HEAD + STEPS + SEARCH)
    made(place, search)
    smallest = min(card(place, name)["artifact_bytes"] for name in variants(place))
    recipe.write_text(
        HEAD + STEPS + SEARCH.replace("[search]", f"[search]\nmost_bytes = {smallest}")
    )
    made(place, search)
    assert {card(place, name)["artifact_bytes"] for name in variants(place)} == {smallest}
    loaded(place)
    recipe.write_text(HEAD + STEPS + SEARCH.replace("[search]", "[search]\nmost_bytes = 10"))
    with pytest.raises(Exception, match="none of 8 variants keeps the goal of at most 10 bytes"):
        made(place, search)


def variants(place: Path) -> list[str]:
    return [path.parent.name for path in (place / "repository" / "blobs").glob("*/card.json")]


def test_a_setting_of_no_step_is_told(place: Path) -> None:
    recipe = place / "recipes" / "recipe.toml"
    recipe.write_text(HEAD + STEPS + SEARCH.replace("own.options", "owl.options"))
    with pytest.raises(Exception, match=r"search: 'owl.options.digits' names no setting"):
        made(place, search)
