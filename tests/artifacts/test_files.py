"""What was checked is what is read: links, pipes, files that are exchanged or grow in between."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gearshift.artifacts import files, read_inside
from gearshift.artifacts.files import open_inside, read_all


@pytest.fixture
def root(tmp_path: Path) -> Path:
    found = tmp_path / "root"
    (found / "folder").mkdir(parents=True)
    (found / "folder" / "file").write_bytes(b"inside")
    (tmp_path / "secret").write_bytes(b"outside")
    return found


def test_a_file_is_read(root: Path) -> None:
    assert read_inside(root, root / "folder" / "file", 6) == b"inside"


def test_links_inside_are_followed_as_those_of_a_mounted_volume(root: Path) -> None:
    (root / "folder" / "..2026").mkdir()
    (root / "folder" / "..2026" / "file").write_bytes(b"mounted")
    (root / "folder" / "..data").symlink_to("..2026")
    (root / "folder" / "link").symlink_to("..data/file")
    assert read_inside(root, root / "folder" / "link", 100) == b"mounted"


@pytest.mark.parametrize("target", ["../../secret", "../" * 30 + "etc/passwd", "/etc/passwd"])
def test_a_link_that_leads_out_is_not_followed(root: Path, target: str) -> None:
    (root / "folder" / "link").symlink_to(target)
    with pytest.raises(ValueError, match="leads out of the repository"):
        read_inside(root, root / "folder" / "link", 100)


def test_a_path_with_dots_does_not_lead_out(root: Path) -> None:
    with pytest.raises(ValueError, match="leads out of the repository"):
        read_inside(root, root / "folder" / ".." / ".." / "secret", 100)


@pytest.mark.parametrize("part", ["folder", "file"])
def test_what_becomes_a_link_between_check_and_use_is_not_followed(
    root: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """The attacker's moment: the path has been resolved, and is not open yet."""
    outside = root.parent / "folder"
    outside.mkdir()
    (outside / "file").write_bytes(b"outside")
    resolve = Path.resolve

    def resolved(path: Path, strict: bool = False) -> Path:
        found = resolve(path, strict=strict)
        if path.name == "file":
            at = root / "folder" if part == "folder" else root / "folder" / "file"
            at.rename(root / "away")
            at.symlink_to(outside if part == "folder" else outside / "file")
        return found

    monkeypatch.setattr(Path, "resolve", resolved)
    with pytest.raises(ValueError, match="cannot be read"):
        read_inside(root, root / "folder" / "file", 100)


def test_only_regular_files_are_opened_and_nobody_waits_for_a_pipe(root: Path) -> None:
    os.mkfifo(root / "pipe")
    for name in ("pipe", "folder", "."):
        with pytest.raises(ValueError, match=r"is not a regular file|cannot be read"):
            read_inside(root, root / name, 100)


def test_a_file_above_its_limit_is_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "read", lambda *_: pytest.fail("it was read"))
    with pytest.raises(ValueError, match="has 6 bytes; the most here is 5"):
        read_inside(root, root / "folder" / "file", 5, "the most here")


@pytest.mark.parametrize("written", [b"longer than it was", b"short", b"inside"])
def test_a_file_that_changes_while_it_is_read_is_noticed(
    root: Path, monkeypatch: pytest.MonkeyPatch, written: bytes
) -> None:
    path = root / "folder" / "file"
    os.utime(path, ns=(1, 1))
    read = os.read

    def reading(opened: int, size: int) -> bytes:
        path.write_bytes(written)
        return read(opened, size)

    monkeypatch.setattr(files.os, "read", reading)
    with pytest.raises(ValueError, match="changed while it was read"):
        read_all(open_inside(root, path), 100)


def test_no_descriptor_is_left_open(root: Path) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0

    before = count()
    for name in ("folder/file", "folder", "nothing", "folder/nothing/file"):
        for most in (0, 100):
            try:
                read_inside(root, root / name, most)
            except ValueError:
                continue
    assert count() == before
