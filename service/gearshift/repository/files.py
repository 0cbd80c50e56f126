"""Touching the disk: nothing outside the root is read, and nothing that is not a plain file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from gearshift.artifacts import read_inside, reason

ABSENT = "does not exist"
"""The complaint about a path at which there is nothing: for an optional file, no mistake."""

LARGEST_TEXT = 256 * 1024
"""Bytes. A model.toml or card.json above this is a mistake, not a description."""


@dataclass(frozen=True, slots=True)
class Root:
    """The repository's folder; every other path is checked against it."""

    path: Path

    def relative(self, path: Path) -> str:
        """How messages name a file: relative to the root, with forward slashes."""
        return path.relative_to(self.path).as_posix()

    def complaint(self, path: Path, *, folder: bool = False) -> str | None:
        """What is wrong with a file (or folder) that should be read; None if nothing is.

        Links are followed (a mounted volume may consist of them) as long as they stay
        inside the root.
        """
        try:
            real = path.resolve(strict=True)
            if not real.is_relative_to(self.path.resolve()):
                return "is a link that leads out of the repository; put the file itself here"
            if folder:
                return None if real.is_dir() else "is not a folder"
            return None if real.is_file() else "is not a regular file"
        except FileNotFoundError:
            return "is a link to nothing" if path.is_symlink() else ABSENT
        except (OSError, RuntimeError) as error:  # RuntimeError: a link that leads to itself
            return f"cannot be read: {reason(error)}"


def read_text(root: Root, path: Path) -> str:
    """The UTF-8 text of a small file; ValueError with a sentence if it cannot be had."""
    data = read_inside(root.path, path, LARGEST_TEXT, "the most for such a file")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"is not UTF-8 text (line {line}); save it as UTF-8") from error


def identify(path: Path) -> tuple[str, int]:
    """The SHA-256 (hex) and the size in bytes of a file's content; OSError if unreadable."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return digest, stream.tell()


__all__ = ["ABSENT", "LARGEST_TEXT", "Root", "identify", "read_text", "reason"]
