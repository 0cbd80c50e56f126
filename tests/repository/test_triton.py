"""Models as they lie in a Triton repository."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from gearshift.core.catalog import Late
from gearshift.errors import Problem, RepositoryInvalid
from gearshift.executors.onnx import OnnxExecutor
from gearshift.repository import load
from onnx_models import row_sum

CONFIG = """
name: "sums"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 3 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 1 ] } ]
"""
BOTH = """
version_policy: { all { }}
parameters { key: "gearshift_accuracy_1" value { string_value: "0.9" } }
parameters { key: "gearshift_accuracy_2" value { string_value: "0.8" } }
parameters { key: "gearshift_metric" value { string_value: "top1" } }
"""
INSPECT = {"onnx": OnnxExecutor(["CPUExecutionProvider"]).inspect}


class Repo:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.model = root / "sums"
        for version in (1, 2):
            row_sum(self.model / str(version) / "model.onnx", float(version))
        self.notes: list[Problem] = []

    def load(self, config: str | None = CONFIG):
        if config is not None:
            (self.model / "config.pbtxt").write_text(config)
        return load(self.root, INSPECT, notes=self.notes).model("sums")

    def mistakes(self, config: str | None) -> str:
        with pytest.raises(RepositoryInvalid) as told:
            self.load(config)
        return "\n".join(map(str, told.value.problems))


@pytest.fixture
def repo(tmp_path) -> Repo:
    return Repo(tmp_path)


def test_versions_are_variants(repo):
    model = repo.load(CONFIG + BOTH)
    assert (model.metric, model.max_batch_size) == ("top1", 8)
    found = [(v.name, v.version, v.accuracy, v.source, v.executor) for v in model.variants]
    assert found == [("1", 1, 0.9, "declared", "onnx"), ("2", 2, 0.8, "declared", "onnx")]
    assert model.signature.inputs[0].name == "x"
    assert model.classes["default"].budget == math.inf
    assert repo.notes == []


def test_the_latest_alone_is_served_where_nothing_is_said(repo):
    model = repo.load()
    assert [v.name for v in model.variants] == ["2"]
    assert model.variants[0].accuracy == 1.0
    (note,) = repo.notes
    assert str(note).startswith("sums/config.pbtxt: parameters: tell no gearshift_accuracy")


def test_without_a_configuration_it_is_what_its_files_are(repo):
    model = repo.load(None)
    assert [(v.name, v.executor) for v in model.variants] == [("2", "onnx")]
    assert model.max_batch_size == 1


@pytest.mark.parametrize(
    ("policy", "versions"),
    [
        ("latest { num_versions: 1 }", ["2"]),
        ("latest { num_versions: 5 }", ["1", "2"]),
        ("specific { versions: [ 1 ] }", ["1"]),
    ],
)
def test_version_policies(repo, policy, versions):
    config = CONFIG + BOTH.replace("all { }", policy)
    assert [v.name for v in repo.load(config).variants] == versions


def test_the_queues_timeout_is_the_budget(repo):
    batching = """dynamic_batching { default_queue_policy {
        timeout_action: %s default_timeout_microseconds: 20000 } }"""
    dropped = repo.load(CONFIG + batching % "REJECT").classes["default"]
    assert (dropped.budget, dropped.late) == (0.02, Late.DROP)
    assert repo.load(CONFIG + batching % "DELAY").classes["default"].late is Late.SERVE


def test_priority_levels_are_classes(repo):
    model = repo.load(
        CONFIG
        + """dynamic_batching {
  priority_levels: 3 default_priority_level: 2
  default_queue_policy { default_timeout_microseconds: 50000 }
  priority_queue_policy {
    key: 1 value { default_timeout_microseconds: 20000 timeout_action: DELAY } } }"""
    )
    assert model.default_class == "priority-2"
    told = {each.name: (each.priority, each.budget, each.late) for each in model.classes.values()}
    assert told == {
        "priority-1": (1, 0.02, Late.SERVE),
        "priority-2": (2, 0.05, Late.DROP),
        "priority-3": (3, 0.05, Late.DROP),
    }
    assert {note.key for note in repo.notes} == {"parameters"}


def test_what_only_tunes_triton_is_noted(repo):
    repo.load(
        CONFIG
        + """
instance_group [ { kind: KIND_GPU count: 2 } ]
dynamic_batching { preferred_batch_size: [ 4 ] max_queue_delay_microseconds: 100
  priority_levels: 65 default_priority_level: 1 }
response_cache { enable: true }
model_warmup [ { name: "w" batch_size: 1 } ]
"""
    )
    told = {note.key for note in repo.notes}
    assert told == {
        "instance_group",
        "dynamic_batching",
        "dynamic_batching.priority_levels",
        "response_cache",
        "model_warmup",
        "parameters",
    }


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ("name: 7", "is no model configuration: "),
        ('nme: "sums"', "is no model configuration: "),
        ("input [ " * 2_000, "is no model configuration: "),
        (CONFIG.replace('"sums"', '"other"'), "'other' is not the folder's name, 'sums'"),
        (CONFIG.replace("onnxruntime_onnx", "tensorrt_plan"), "'tensorrt_plan' is not served here"),
        (CONFIG + 'default_model_filename: "net.onnx"', "call the file 'model.onnx'"),
        (CONFIG + "ensemble_scheduling { }", "ensembles are not served"),
        (CONFIG + "sequence_batching { }", "sequences with state are not served"),
        (CONFIG + "model_transaction_policy { decoupled: true }", "answer once, or never"),
        (
            CONFIG + "dynamic_batching { priority_levels: 2 }",
            "default_class: 'priority-0' is not declared",
        ),
        (CONFIG + "version_policy { specific { versions: [ 9 ] } }", "no folder for version 9"),
        (CONFIG + "version_policy { all { } }", "tell no gearshift_accuracy_1, and there is no 1/"),
        (CONFIG + BOTH.replace("0.9", "high"), "'high' is no number"),
        (CONFIG.replace("onnxruntime_onnx", "pytorch_libtorch"), "2/model.pt2|not installed here"),
    ],
)
def test_what_changes_what_it_does_is_a_mistake(repo, config, text):
    import re

    assert re.search(text, repo.mistakes(config))


def test_a_folder_without_versions(repo):
    for version in (1, 2):
        (repo.model / str(version)).rename(repo.model / f"v{version}")
    assert "no folders of versions (1, 2, ...)" in repo.mistakes(CONFIG)


def test_a_model_toml_goes_first(repo):
    (repo.model / "model.toml").write_text("metric = 3")
    assert "sums/model.toml: metric" in repo.mistakes(CONFIG)
