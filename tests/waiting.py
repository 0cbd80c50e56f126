"""Waiting for what another thread or process does, and not for ever."""

from __future__ import annotations

import time
from collections.abc import Callable

WITHIN = 20.0
"""Seconds."""


def until(so: Callable[[], bool]) -> None:
    """Returns when it is so."""
    deadline = time.monotonic() + WITHIN
    while not so():
        assert time.monotonic() < deadline
        time.sleep(0.005)
