"""What was freed is the system's again."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from gearshift.app.memory import give_back

LIBRARY = ctypes.CDLL(None)
PIECE, PIECES = 64 * 1024, 1_000

linux = pytest.mark.skipif(
    not hasattr(LIBRARY, "malloc_trim"), reason="only glibc keeps what was freed"
)


def resident() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


@linux
def test_freed_memory_below_something_that_stays_goes_back() -> None:
    LIBRARY.malloc.restype = LIBRARY.memset.restype = ctypes.c_void_p
    pieces = [LIBRARY.malloc(PIECE) for _ in range(PIECES)]
    for piece in pieces:
        LIBRARY.memset(ctypes.c_void_p(piece), 1, PIECE)
    stays = LIBRARY.malloc(PIECE)  # behind them, so that they are not at the end
    for piece in pieces:
        LIBRARY.free(ctypes.c_void_p(piece))
    before = resident()
    give_back()
    assert resident() < before - PIECE * PIECES / 2
    LIBRARY.free(ctypes.c_void_p(stays))


def test_a_system_without_such_a_call_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    give_back()
