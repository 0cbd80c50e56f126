"""The artifact is run as served, and what is no number is never measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gearshift.compress import evaluate
from onnx_models import row_sum


def test_prediction_does_not_depend_on_the_batch(tmp_path: Path) -> None:
    artifact = row_sum(tmp_path / "model.onnx", scale=2.0, width=3)
    inputs = np.arange(21, dtype=np.float32).reshape(7, 3)
    expected = 2 * inputs.sum(axis=1, keepdims=True)
    for batch in (1, 3, 7, 64):
        np.testing.assert_array_equal(evaluate.predict(artifact, {"x": inputs}, batch), expected)
    np.testing.assert_array_equal(evaluate.predict(artifact.read_bytes(), {"x": inputs}), expected)


def test_an_answer_that_is_no_number_is_an_error(tmp_path: Path) -> None:
    artifact = row_sum(tmp_path / "model.onnx", width=1)
    inputs = np.array([[1.0], [2.0], [np.inf], [3.0]], np.float32)
    with pytest.raises(evaluate.NotFinite, match="first for row 2 of 4"):
        evaluate.predict(artifact, {"x": inputs}, 2)
