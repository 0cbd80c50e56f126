"""A newcomer's own network goes from a recipe to a repository that loads, as the guide says."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gearshift.compress.build import build
from gearshift.compress.job import StepFailed
from gearshift.compress.learning import device_name
from gearshift.executors.onnx import OnnxExecutor
from gearshift.repository import load

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
        )
        self.head = nn.Linear(4 * width, 3)

    def features(self, x):
        return self.body(x.unsqueeze(1)).flatten(1)

    def forward(self, x):
        return self.head(self.features(x))

def net(width=32):
    return Net(width)

def shifted(inputs, generator):
    (x,) = inputs
    return (x + 0.1 * torch.randn(x.shape, generator=generator),)
"""
RECIPE = """
model = "shapes"
metric = "top1"
[data]
training = "training.npz"
calibration = "calibration.npz"
evaluation = "evaluation.npz"
licence = "made here"

[[steps]]
name = "teacher"
kind = "train"
network = "nets.py:net"
learning = { epochs = 4, batch = 32, rate = 0.1, augment = "nets.py:shifted" }

[[steps]]
name = "teacher-int8"
kind = "quantize"
of = "teacher"

[[steps]]
name = "pruned"
kind = "prune"
of = "teacher"
share = 0.5
learning = { epochs = 2, batch = 32, rate = 0.05 }
teaching = { teacher = "teacher" }

[[steps]]
name = "student"
kind = "train"
network = "nets.py:net"
options = { width = 8 }
learning = { epochs = 3, batch = 32, rate = 0.01, optimizer = "adamw" }
teaching = { teacher = "teacher", learn = "embeddings", hard_share = 0.5 }

[[steps]]
name = "again"
kind = "train"
network = "nets.py:net"
start = "teacher"
learning = { epochs = 1, batch = 32, rate = 0.01 }
teaching = { teacher = "teacher-int8" }
"""


def shapes(n: int, seed: int) -> dict[str, Any]:
    """Pictures with a bright row, a bright column or a bright corner: float32 [n, 8, 8]."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, n)
    x = generator.normal(size=(n, 8, 8)).astype(np.float32) * 0.3
    for row, label in enumerate(labels):
        place = [(slice(1, 3),), (slice(None), slice(5, 7)), (slice(0, 4), slice(0, 4))][label]
        x[(row, *place)] += 2.0
    return {"image": x, "labels": labels}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    for name, n in (("training", 256), ("calibration", 64), ("evaluation", 200)):
        np.savez(tmp_path / f"{name}.npz", **shapes(n, seed=n))
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


def made(place: Path) -> list[str]:
    lines: list[str] = []
    build(place / "recipe.toml", place / "repository", place / "cache", lines.append)
    return lines


def test_a_network_becomes_variants_that_load_and_nothing_is_done_twice(place: Path) -> None:
    made(place)
    executor = OnnxExecutor(["CPUExecutionProvider"])
    model = load(place / "repository", {"onnx": executor.inspect}).models["shapes"]
    accuracy = {variant.name: variant.accuracy for variant in model.variants}
    assert set(accuracy) == {"teacher", "teacher-int8", "pruned", "student", "again"}
    assert min(accuracy.values()) > 0.8
    assert sum("done before" in line for line in made(place)) == 5


TOGETHER = """
[[steps]]
name = "both"
kind = "call"
publish = false
function = "gearshift.compress.families.garment:ensemble"
layout = "gearshift.compress.families.garment:ensemble_layout"
uses = ["teacher", "again"]
options.of = ["teacher", "again"]

[[steps]]
name = "taught"
kind = "train"
network = "nets.py:net"
options = { width = 8 }
learning = { epochs = 6, batch = 32, rate = 0.05 }
teaching = { teacher = "both" }
"""


def test_an_ensemble_can_teach_also_when_it_was_done_before(place: Path) -> None:
    recipe = place / "recipe.toml"
    recipe.write_text(RECIPE + TOGETHER)
    made(place)
    recipe.write_text(RECIPE + TOGETHER.replace("width = 8", "width = 16"))
    lines = made(place)
    assert any(line.endswith("both: done before") for line in lines)
    assert [line for line in lines if line.endswith("train ...")] == [
        "shapes [7/7] taught: train ..."
    ]
    card = json.loads((place / "repository" / "shapes" / "taught" / "card.json").read_text())
    # Far above a guess among three; the second member has never learned from mirror images.
    assert card["accuracy"]["value"] > 0.5


def test_the_store_says_what_trained_each_network(place: Path) -> None:
    made(place)
    facts = {
        path.parent.name.rpartition("-")[0]: json.loads(path.read_text())
        for path in (place / "cache" / "shapes").glob("*/made.json")
    }
    for name in ("teacher", "pruned", "student"):
        assert facts[name]["figures"]["trained_on"] == device_name()
        assert facts[name]["versions"]["torch"] == metadata.version("torch")
    assert "trained_on" not in facts["teacher-int8"]["figures"]


def test_a_loss_that_is_no_number_names_the_step(place: Path) -> None:
    recipe = place / "recipe.toml"
    recipe.write_text(RECIPE.replace("rate = 0.1,", "rate = 1e9,"))
    with pytest.raises(StepFailed, match=r"step 1 \('teacher'\): the loss is nan"):
        made(place)
    assert not (place / "repository").exists()
