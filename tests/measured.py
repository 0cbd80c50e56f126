"""Servers on the shipped models, which are measured once for all test processes."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def measured(factory: pytest.TempPathFactory, state: Path) -> Iterator[None]:
    """Start a server with this state dir inside: it finds what others have measured before it, one
    at a time, and others find what it has."""
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    known, own = shared / "measured-profiles", state / "profiles"
    with (shared / "measured-profiles.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if known.exists():
            shutil.copytree(known, own, dirs_exist_ok=True)
        yield
        shutil.copytree(own, known, dirs_exist_ok=True)
