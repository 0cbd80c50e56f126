"""A small recipe of graphs alone, with rows, and what becomes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gearshift.compress.build import build
from onnx_models import blobs, classifier

HEAD = """
model = "blobs"
metric = "top1"
[data]
training = "training.npz"
calibration = "calibration.npz"
evaluation = "evaluation.npz"
licence = "made here"
"""
STEPS = """
[[steps]]
name = "large"
kind = "import"
onnx = "large.onnx"

[[steps]]
name = "large-int8"
kind = "quantize"
of = "large"
calibration = ["minmax", "percentile", "entropy"]

[[steps]]
name = "large-dynamic"
kind = "quantize"
of = "large"
method = "dynamic"

[[steps]]
name = "slim"
kind = "optimize"
of = "large"
publish = false

[[steps]]
name = "half"
kind = "convert"
of = "slim"
to = "fp16"

[[steps]]
name = "own"
kind = "call"
function = "own.py:rounded"
uses = ["large"]
options = { digits = 1 }
tools = ["numpy"]

[[steps]]
name = "phone"
kind = "edge"
of = "large-int8"
"""
OWN = """
import dataclasses, numpy as np, onnx
from onnx import numpy_helper

def rounded(shop, digits):
    large = shop.made["large"]
    model = onnx.load_from_string(large.artifact)
    for tensor in model.graph.initializer:
        values = np.round(numpy_helper.to_array(tensor), digits)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return dataclasses.replace(large, artifact=model.SerializeToString(), about="rounded")
"""


def laid_out(tmp_path: Path) -> Path:
    """A recipe of seven steps with its rows, below `tmp_path`."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    for name, rows in (("training", 60), ("calibration", 150), ("evaluation", 300)):
        x, labels = blobs(rows, seed=rows)
        np.savez(folder / f"{name}.npz", x=x, labels=labels)
    classifier(folder / "large.onnx", hidden=128)
    (folder / "own.py").write_text(OWN)
    (folder / "recipe.toml").write_text(HEAD + STEPS)
    return tmp_path


def made(place: Path, carry_out: Callable[..., None] = build, results: bool = False) -> list[str]:
    lines: list[str] = []
    carry_out(
        place / "recipes" / "recipe.toml",
        place / "repository",
        place / "cache",
        lines.append,
        place / "results" if results else None,
    )
    return lines


def card(place: Path, variant: str) -> dict[str, Any]:
    path = place / "repository" / "blobs" / variant / "card.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found
