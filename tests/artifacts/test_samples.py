"""Zip bombs, pickles and arrays that lie about their size, found before anything is unpacked."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from gearshift.artifacts import SamplesFile, samples


def written(path: Path, **arrays) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def refusal(path: Path, name: str = "inputs") -> str:
    with pytest.raises(ValueError) as caught, SamplesFile(path) as file:  # noqa: PT011, PT012
        file.header(name)
        file.array(name)
    return str(caught.value)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "samples.npz"


def test_arrays_are_read(path: Path) -> None:
    inputs = np.arange(6.0).reshape(2, 3)
    with SamplesFile(written(path, inputs=inputs, labels=np.array(["a", "b"]))) as file:
        assert file.header("inputs") == ((2, 3), np.dtype(float))
        assert (file.array("inputs") == inputs).all()
        assert file.array("labels").tolist() == ["a", "b"]
        assert "weights" not in file
        with pytest.raises(KeyError):
            file.header("weights")


def test_objects_are_never_unpickled(path: Path) -> None:
    class Trap:
        def __reduce__(self):
            return os.abort, ()

    np.savez(path, inputs=np.array([Trap()]))
    assert "Python objects" in refusal(path)


def header(shape: str, dtype: str = "<f4") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def archive(path: Path, content: bytes, name: str = "inputs.npy") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        header("(1000000000, 1000000000)"),
        header("(-1,)"),
        header("(4,)") + bytes(15),
        header("(2,)", "|O"),
        b"\x93NUMPY\x09\x00",
        b"",
        b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535,
    ],
)
def test_arrays_that_are_none(path: Path, content: bytes) -> None:
    assert refusal(archive(path, content))


def test_an_array_that_is_too_large_unpacked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand zeros pack into one byte."""
    monkeypatch.setattr(samples, "LARGEST_SAMPLES", 100_000)
    assert "unpacked" in refusal(written(path, inputs=np.zeros(50_000)))
    np.savez(path, inputs=np.zeros(50_000))
    assert "has 400" in refusal(path)


def test_a_list_of_a_million_arrays_is_not_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(path, "w") as made:
        for number in range(3_000):
            made.writestr(f"{number}.npy", b"")
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("it was read"))
    assert "lists more than" in refusal(path)


def test_too_many_arrays(path: Path) -> None:
    assert "more than 64" in refusal(written(path, **{f"a{n}": np.zeros(1) for n in range(65)}))


def test_what_is_no_archive(path: Path) -> None:
    for content in (b"", b"PK", b"PK\x05\x06", bytes(100), b"PK\x05\x06" + b"\xff" * 30):
        path.write_bytes(content)
        assert refusal(path)
    assert "no such file" in refusal(path.with_name("none"))
    os.mkfifo(path.with_name("pipe"))
    assert "not a regular file" in refusal(path.with_name("pipe"))


def test_an_archive_cut_or_changed_anywhere_is_refused_or_read(path: Path) -> None:
    content = written(path, inputs=np.arange(20.0), labels=np.arange(20)).read_bytes()
    changed = np.random.default_rng(0)
    for at in range(0, len(content), 3):
        for piece in (content[:at], content[:at] + changed.bytes(4) + content[at + 4 :]):
            path.write_bytes(piece)
            try:
                with SamplesFile(path) as file:
                    file.header("inputs")
                    file.array("inputs")
            except (ValueError, KeyError):
                continue


def test_no_descriptor_is_left_open(path: Path) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("descriptors are not listed here")
    before = len(os.listdir("/proc/self/fd"))
    for content in (b"no archive", io.BytesIO().getvalue(), bytes(200)):
        path.write_bytes(content)
        refusal(path)
    assert len(os.listdir("/proc/self/fd")) == before
