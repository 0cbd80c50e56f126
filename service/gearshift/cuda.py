"""The CUDA driver's library, by its C interface: nothing is installed for a few calls."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any


@cache
def library() -> Any | None:
    """None where there is no driver."""
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
