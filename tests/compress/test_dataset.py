"""What was learned from is never measured on, and parts that do not fit together are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gearshift.compress.dataset import DataError, DataSets, Part, checked, joined, read_part


def part(start: int, n: int) -> Part:
    inputs = np.arange(start, start + 3 * n, dtype=np.float32).reshape(n, 3)
    return Part({"x": inputs}, np.zeros(n, np.int64))


DATA = DataSets(
    name="made",
    source="here",
    licence="none",
    training=part(0, 10),
    calibration=part(100, 4),
    evaluation=part(200, 6),
)


def test_disjoint_parts_pass() -> None:
    assert checked(DATA) is DATA
    assert checked(replace(DATA, calibration=part(100, 0)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"evaluation": part(12, 5)}, r"5 of 5 evaluation rows .* training part .* row 0"),
        ({"evaluation": part(106, 4)}, r"2 of 4 evaluation rows .* calibration part"),
        ({"calibration": part(27, 4)}, r"1 of 4 calibration rows .* training part"),
        ({"evaluation": part(200, 0)}, "evaluation part has no rows"),
        ({"training": Part({}, np.zeros(1, np.int64))}, "training part has no inputs"),
        (
            {"evaluation": Part({"x": np.zeros((2, 4), np.float32)}, np.zeros(2, np.int64))},
            r"evaluation part has the inputs .*float32 \[4\].* must be alike",
        ),
        (
            {"evaluation": Part({"x": np.zeros((2, 3), np.float32)}, np.zeros(3, np.int64))},
            "2 rows of 'x' but 3 labels",
        ),
        (
            {"training": Part({"x": np.full((2, 3), np.nan, np.float32)}, np.zeros(2, np.int64))},
            "NaN or infinity in 'x', row 0",
        ),
        ({"training": Part({"x": np.zeros((2, 3), np.float32)}, np.zeros(2))}, "expected int64"),
    ],
)
def test_what_cannot_be_trusted_is_refused(change: dict[str, Part], message: str) -> None:
    with pytest.raises(DataError, match=message):
        checked(replace(DATA, **change))


@given(arrays(np.int8, (6, 2), elements=st.integers(-2, 2)))
def test_rows_have_one_digest_exactly_if_they_are_equal(rows: np.ndarray) -> None:
    digests = Part({"x": rows}, np.zeros(6, np.int64)).digests()
    for i in range(6):
        for j in range(6):
            assert (digests[i] == digests[j]) == bool((rows[i] == rows[j]).all())


def test_the_identity_sees_names_values_types_and_labels() -> None:
    x, labels = np.arange(4, dtype=np.float32).reshape(4, 1), np.zeros(4, np.int64)
    hashes = {
        Part({"x": x}, labels).sha256(),
        Part({"y": x}, labels).sha256(),
        Part({"x": x.view(np.int32)}, labels).sha256(),
        Part({"x": x}, labels + 1).sha256(),
        Part({"x": x[::-1]}, labels).sha256(),
        Part({"x": x.reshape(2, 2)}, labels).sha256(),
    }
    assert len(hashes) == 6
    assert Part({"x": x.copy()}, labels.copy()).sha256() in hashes


def test_parts_join_in_order() -> None:
    both = joined(part(0, 2), part(100, 1))
    assert both.inputs["x"][:, 0].tolist() == [0, 3, 100]
    assert len(both) == 3


def test_a_file_comes_back_as_a_part(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", pixels=np.ones((2, 5), np.uint8), labels=np.array([1, 0], "i4"))
    found = read_part(tmp_path / "a.npz")
    assert list(found.inputs) == ["pixels"]
    assert found.labels.dtype == np.int64


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"not an archive", "not a file that numpy.savez wrote"),
        ({"x": np.ones(2)}, "array `labels` must hold whole numbers, one a row; found none"),
        ({"x": np.ones(2), "labels": np.ones(2)}, "found float64"),
    ],
)
def test_a_bad_file_says_what_would_be_right(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "a.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        np.savez(path, **content)
    with pytest.raises(DataError, match=message):
        read_part(path)
