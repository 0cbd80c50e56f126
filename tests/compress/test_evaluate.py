"""The artifact is run as served, and rows seen in training are never counted."""

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
        np.testing.assert_array_equal(evaluate.predict(artifact, inputs, batch), expected)
    np.testing.assert_array_equal(evaluate.predict(artifact.read_bytes(), inputs), expected)


def test_twins_of_training_rows_are_found_by_content() -> None:
    training = np.array([[1, 2], [3, 4]], np.float32)
    evaluation = np.array([[3, 4], [1, 4], [5, 6], [1, 2]], np.float32)

    assert evaluate.unseen(evaluation, training).tolist() == [False, True, True, False]
    with pytest.raises(evaluate.OverlapError, match=r"2 of 4 .* \(the first is row 0\)"):
        evaluate.require_disjoint(evaluation, training)
    evaluate.require_disjoint(evaluation[1:3], training)


def test_images_are_compared_whole() -> None:
    images = np.zeros((3, 4, 4), np.uint8)
    images[1, 3, 3] = 1
    assert evaluate.unseen(images, images[:1]).tolist() == [False, True, False]


def test_the_content_hash_sees_values_shape_type_and_labels() -> None:
    inputs, labels = np.arange(4, dtype=np.float32), np.zeros(4, np.int64)
    hashes = {
        evaluate.content_sha256(inputs, labels),
        evaluate.content_sha256(inputs.reshape(2, 2), labels),
        evaluate.content_sha256(inputs.view(np.int32), labels),
        evaluate.content_sha256(inputs, labels + 1),
        evaluate.content_sha256(inputs[::-1], labels),
    }
    assert len(hashes) == 5
    assert evaluate.content_sha256(inputs.copy(), labels.copy()) in hashes
