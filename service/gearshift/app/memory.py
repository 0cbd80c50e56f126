"""Memory that loading has needed and serving does not."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def give_back() -> None:
    """Return what was freed to the system.

    glibc keeps it for later: after a network of 100 MB another 100 MB, in which ONNX Runtime
    had read the file. Other C libraries have no such call, and need none.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
