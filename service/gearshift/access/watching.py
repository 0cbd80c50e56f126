"""Files that are read again when they change."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import structlog

from gearshift.errors import ConfigurationInvalid

log = structlog.get_logger(__name__)

Signature = tuple[tuple[int, int, int, int], ...]


class Reloadable(Protocol):
    """What is made from files."""

    @property
    def files(self) -> Sequence[Path]: ...

    def reload(self) -> None:
        """ConfigurationInvalid if the files cannot be used; then nothing has changed."""
        ...


class Watched:
    """One reloadable thing called `what`, and how its files were when they were read. `told` hears
    each attempt: what, and `OK` or why not. Blocks where the file system does."""

    def __init__(self, what: str, reloadable: Reloadable, told: Callable[[str, str], None]) -> None:
        self._what = what
        self._reloadable = reloadable
        self._told = told
        self._read = self._seen = self._signature()

    def look(self) -> None:
        """Read the files again if they have changed, and not since the look before: a pair of
        them is not exchanged in one moment."""
        now = self._signature()
        settled, self._seen = now == self._seen, now
        if settled and now != self._read:
            self.reload()

    def reload(self) -> None:
        """Read them now. What cannot be used is told and changes nothing."""
        self._read = self._seen = self._signature()
        try:
            self._reloadable.reload()
        except ConfigurationInvalid as error:
            log.error(f"{self._what} cannot be read anew and stays as it was", reason=str(error))
            self._told(self._what, "FAILED_PRECONDITION")
        else:
            log.info(f"{self._what} was read anew")
            self._told(self._what, "OK")

    def _signature(self) -> Signature:
        return tuple(_stat(path) for path in self._reloadable.files)


def _stat(path: Path) -> tuple[int, int, int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0, 0, 0)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
