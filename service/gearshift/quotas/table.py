"""The table of all buckets, in memory that the processes of one server may share."""

from __future__ import annotations

import mmap
import os
import secrets
import tempfile
from collections.abc import MutableSequence
from contextlib import suppress
from pathlib import Path

from gearshift.core.quota import SLOTS

KEY = 32
"""Bytes before the numbers: the secret that names are hashed with."""

SIZE = KEY + 8 * SLOTS


class Table:
    """SLOTS numbers, 0 at first. Only the pages that are used take memory."""

    def __init__(self, memory: mmap.mmap, path: str = "") -> None:
        self._memory = memory
        self.path = path
        """Where another process finds it; "" where none may."""
        self.key = memory[:KEY]
        numbers: MutableSequence[float] = memoryview(memory)[KEY:].cast("d")  # type: ignore[assignment]
        self.numbers = numbers

    @classmethod
    def private(cls) -> Table:
        """For one process."""
        memory = mmap.mmap(-1, SIZE)
        memory[:KEY] = secrets.token_bytes(KEY)
        return cls(memory)

    @classmethod
    def shared(cls) -> Table:
        """For others as well; `remove` when all have ended."""
        folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        descriptor, path = tempfile.mkstemp(prefix="gearshift-quotas-", dir=folder)
        try:
            os.ftruncate(descriptor, SIZE)
            os.pwrite(descriptor, secrets.token_bytes(KEY), 0)
            return cls(mmap.mmap(descriptor, SIZE), path)
        finally:
            os.close(descriptor)

    @classmethod
    def opened(cls, path: str) -> Table:
        """The one that another process shares there."""
        with Path(path).open("r+b") as stream:
            return cls(mmap.mmap(stream.fileno(), SIZE), path)

    def remove(self) -> None:
        """Whoever has it keeps it; nobody finds it any more."""
        with suppress(FileNotFoundError):
            os.unlink(self.path)
