"""The report is made of the cards and of latencies measured in turns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gearshift.compress import latency, report, timings
from onnx_models import row_sum


def card(value: float, further: list[dict[str, Any]]) -> dict[str, Any]:
    accuracy = {"metric": "roc_auc", "value": value, "n": 1234, "low": 0.5, "high": 1.0}
    return {
        "accuracy": accuracy | {"method": "a made interval"},
        "artifact_bytes": 2_000_000,
        "parameters": 31,
        "further": further,
        "recipe": {"description": "made for a test"},
    }


def test_the_page_shows_each_variant_with_all_of_its_figures() -> None:
    beside = [{"metric": "top1", "value": 0.75, "low": 0.5, "high": 0.9}]
    rows = [
        report.Row(1, "large", card(0.9876, beside), {1: 0.0125, 64: 0.5}),
        report.Row(2, "small", card(0.91, beside), {1: 0.00001, 64: 0.001}),
    ]
    text = report.page({"tumor": rows}, {"tumor: all": 90.0, "garment: x": 30.0})
    assert (
        "| 1 | `large` | 0.9876 | 0.5000 to 1.0000 | 1,234 | 2,000,000 | 31 "
        "| 12.5 ms | 500 ms | made for a test |" in text
    )
    assert "| 10 µs | 1 ms |" in text
    assert "1250x at batch 1, 500x at batch 64" in text
    assert "| `small` | 0.750 (0.500 to 0.900) |" in text
    assert "a made interval" in text
    assert "| tumor: all | 1.5 |" in text
    assert "| together | 2 |" in text
    assert "All artifacts together: 4.0 MB" in text


def test_the_machine_is_named() -> None:
    assert "cores" in report.machine()


def test_latencies_are_of_each_variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "ROUNDS", 30)
    row_sum(tmp_path / "narrow" / "model.onnx", width=4)
    row_sum(tmp_path / "same" / "model.onnx", width=4)
    inputs = np.zeros((8, 4), np.float32)
    found = latency.medians(tmp_path, ["narrow", "same"], inputs, 8)
    assert set(found) == {"narrow", "same"}
    assert all(1e-7 < seconds < 0.1 for seconds in found.values())
    with pytest.raises(ValueError, match="too few for a batch of 64"):
        latency.medians(tmp_path, ["narrow"], inputs, 64)


def test_timings_are_kept_and_replaced(tmp_path: Path) -> None:
    assert timings.read(tmp_path) == {}
    timings.note(tmp_path, "first", 1.26)
    timings.note(tmp_path, "second", 2.0)
    timings.note(tmp_path, "first", 3.0)
    assert timings.read(tmp_path) == {"first": 3.0, "second": 2.0}
    assert [path.name for path in tmp_path.iterdir()] == ["seconds.json"]
