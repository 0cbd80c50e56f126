"""A SQLite file that is no database any more: put aside, so that a new one can be begun."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

BROKEN_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
"""Primary result codes (https://www.sqlite.org/rescode.html)."""


def is_broken(error: BaseException) -> bool:
    """Whether the driver says that the file itself is bad, and not only cannot be had now."""
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", 0)
    return (code & 0xFF) in BROKEN_CODES


def put_aside(path: Path) -> Path | None:
    """Rename the file if it is broken, for people to save from it what they can; its new path.
    None if it is sound after all (another process was quicker), or cannot be renamed."""
    with suppress(OSError), _alone(path.parent):
        if not path.exists() or _sound(path):
            return None
        aside = next(p for n in count(1) if not (p := Path(f"{path}.broken-{n}")).exists())
        os.rename(path, aside)
        # A journal belongs to the file that it was written for.
        Path(f"{path}-journal").unlink(missing_ok=True)
        log.error(
            "the feedback database is broken: it was put aside, and a new one is begun without"
            " what was counted in it",
            put_aside=str(aside),
        )
        return aside
    return None


def _sound(path: Path) -> bool:
    try:
        # As a file of its own, whatever connections there are.
        with closing(sqlite3.connect(path, timeout=1.0)) as connection:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    except sqlite3.OperationalError:
        return True  # locked, or away: nothing is known against it
    except sqlite3.DatabaseError:
        return False


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Of all processes with this database one at a time."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
