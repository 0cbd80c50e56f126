"""Opening a file so that what was checked is what is read.

A path may lead through links, as a mounted volume does, but not out of the folder that it belongs
to. It is resolved once, and then every folder of the resolved path is opened below the one before
it without following any link: whoever exchanges a part of it in between gets an error.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

PIECE = 16 * 2**20
"""Bytes that are read at a time: a file that grows while it is read is noticed soon."""


def open_inside(root: Path, path: Path, name: str = "the repository") -> int:
    """A descriptor for the regular file at `path`, which is inside `root` when all links are
    followed; `name` is what messages call that. ValueError with a sentence if there is none, or
    it is none, or outside."""
    try:
        base = root.resolve(strict=True)
        parts = path.resolve(strict=True).relative_to(base).parts
    except ValueError:
        raise ValueError(f"is a link that leads out of {name}; put the file itself here") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: a link that leads to itself
        raise ValueError(f"cannot be read: {reason(error)}") from None
    if not parts:
        raise ValueError("is not a regular file")
    folder = -1
    try:
        folder = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for part in parts[:-1]:
            below = os.open(
                part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder
            )
            os.close(folder)
            folder = below
        # Without O_NONBLOCK a pipe that was put there would be waited for.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        opened = os.open(parts[-1], flags, dir_fd=folder)
    except OSError as error:
        raise ValueError(f"cannot be read: {reason(error)}") from None
    finally:
        if folder >= 0:
            os.close(folder)
    return regular(opened)


def regular(opened: int) -> int:
    """The same descriptor if it is that of a regular file; else it is closed, and ValueError."""
    if stat.S_ISREG(os.fstat(opened).st_mode):
        return opened
    os.close(opened)
    raise ValueError("is not a regular file")


def read_all(opened: int, most: int, what: str = "") -> bytes:
    """All bytes of an open file, which is closed. ValueError if they are more than `most`, or if
    the file changes meanwhile; `what` says whose limit that is."""
    try:
        before = os.fstat(opened)
        if before.st_size > most:
            raise ValueError(f"has {before.st_size} bytes; {what or 'the limit'} is {most}")
        pieces, size = [], 0
        while size <= before.st_size:
            # One byte more than there should be: so that growth shows.
            piece = os.read(opened, min(PIECE, before.st_size + 1 - size))
            if not piece:
                break
            pieces.append(piece)
            size += len(piece)
        after = os.fstat(opened)
    except OSError as error:
        raise ValueError(f"cannot be read: {reason(error)}") from None
    finally:
        with suppress(OSError):
            os.close(opened)
    if size != before.st_size or (after.st_mtime_ns, after.st_size) != (
        before.st_mtime_ns,
        before.st_size,
    ):
        raise ValueError("changed while it was read; load it again once it is complete")
    return b"".join(pieces)


def read_inside(root: Path, path: Path, most: int, what: str = "") -> bytes:
    """What the file at `path` inside `root` holds, if that is at most so many bytes."""
    return read_all(open_inside(root, path), most, what)


def reason(error: Exception) -> str:
    """The short text of an operating system's error, without the path it repeats."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
