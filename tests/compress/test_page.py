"""The report is made of cards, of what steps found and of latencies measured in turns."""

from __future__ import annotations

from pathlib import Path

import pytest

from gearshift.compress import latency, machine, page
from gearshift.compress.recipe_file import parse
from gearshift.core.card import SCHEMA, Card, DataSource, Measurement, Recipe
from onnx_models import blobs, row_sum

RECIPE = parse(
    {
        "model": "m",
        "title": "m: a test",
        "metric": "roc_auc",
        "notes": "Read soberly.",
        "data": {"adapter": "a:b"},
        "steps": [{"name": "large", "kind": "import", "onnx": "x.onnx"}],
    },
    Path("recipe.toml"),
)


def measurement(metric: str, value: float) -> Measurement:
    return Measurement(metric=metric, value=value, n=1234, low=0.5, high=1.0, method="made up")


def row(version: int, name: str, value: float, size: int, ms: float) -> page.Row:
    card = Card(
        schema=SCHEMA,
        model="m",
        variant=name,
        artifact="model.onnx",
        artifact_sha256="a",
        artifact_bytes=size,
        parameters=31,
        accuracy=measurement("roc_auc", value),
        further=(measurement("top1", 0.75),),
        data=DataSource(
            name="d", source="s", licence="l", training_sha256="t", evaluation_sha256="e"
        ),
        recipe=Recipe(description="made for a test", command="c", sha256="x"),
    )
    return page.Row(version, name, card, {1: ms / 1e3, 64: ms / 25})


def test_the_page_shows_each_variant_with_all_of_its_figures() -> None:
    text = page.page(
        page.Pages(
            recipe=RECIPE,
            command="gearshift compress recipe.toml",
            rows=[row(1, "large", 0.9876, 2_000_000, 12.5), row(2, "small", 0.91, 4_000, 0.01)],
            edges=[page.EdgeRow("p", "ort", 5_000, measurement("roc_auc", 0.9), 0.5, 7.25)],
            figures={
                "q": {
                    "float_on_calibration": 0.99,
                    "chosen": "entropy",
                    "calibrations": {
                        "minmax": {"calibration": 0.9, "left": ["conv1"]},
                        "entropy": {"calibration": 0.98, "left": []},
                    },
                },
                "o": {
                    "nodes_before": 10,
                    "nodes_after": 7,
                    "convolutions_merged": 2,
                    "bytes_before": 5_000,
                    "bytes_after": 4_000,
                    "largest_difference": 3e-6,
                },
                "large": {"trained_on": "a large machine, bfloat16"},
            },
            ends="Between the ends: much.",
            seconds={"large": 90.0, "small": 30.0},
            picture="m.png",
            data="d (l)",
        )
    )
    for line in (
        "| 1 | `large` | 0.9876 | 0.5000 to 1.0000 | 1,234 | 2,000,000 | 31 | 12.5 ms | 500 ms "
        "| made for a test |",
        "| `small` | 0.750 (0.500 to 1.000) |",
        "p50 1250x at batch 1, 1250x at batch 64, 500.0x in bytes",
        "| `q` | minmax | 0.9900 | 0.9000 | `conv1` |  |",
        "| `q` | entropy | 0.9900 | 0.9800 | none | yes |",
        "| `o` | 10 to 7 | 2 | 5,000 to 4,000 | 3.0e-06 |",
        "| `p` | ort | 5,000 | 0.9000 (0.5000 to 1.0000) | 0.5 | 7.2 |",
        "| `large` | 1.5 | a large machine, bfloat16 |",
        "| `small` | 0.5 |  |",
        "| together | 2.0 |  |",
        "Read soberly.",
        "Between the ends: much.",
        "made up",
    ):
        assert line in text, line


def test_the_machine_is_named() -> None:
    assert "cores" in machine.machine()


def test_latencies_are_of_each_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "ROUNDS", 30)
    artifact = row_sum(tmp_path / "model.onnx", width=8)
    rows = {"x": blobs(5)[0]}
    found = latency.medians({"file": artifact, "bytes": artifact.read_bytes()}, rows, 8)
    assert set(found) == {"file", "bytes"}
    assert all(seconds > 0 for seconds in found.values())
