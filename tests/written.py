"""A step before a network for tests: three numbers, written out, become a row; held up at will."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from gearshift.core.catalog import TensorSpec
from gearshift.core.steps import Before
from gearshift.ports import BYTES, Array


class Written(Before):
    """`read` has what was read, in that order; nothing is while `gate` is closed. "panic" raises
    what is no Exception, as a mistake in a library's Rust does."""

    kind = "written"

    def __init__(self, most_bytes: int = 100) -> None:
        self.takes = TensorSpec("written", "BYTES", (1,))
        self.makes = (TensorSpec("x", "FP32", (3,)),)
        self.most_bytes = most_bytes
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        self.read: list[bytes] = []

    def row(self, sent: bytes) -> Sequence[Array]:
        self.begun.set()
        assert self.gate.wait(20)
        self.read.append(sent)
        if sent == b"panic":
            raise Panic("all is lost")
        try:
            numbers = np.array([float(part) for part in sent.split()], np.float32)
        except ValueError:
            raise RuntimeError("a step broke") from None
        if len(numbers) != 3:
            raise ValueError("is no three numbers")
        return [numbers]


class Panic(BaseException):
    """As pyo3 raises it."""


def column(*sent: bytes) -> Array:
    """One text a row, (rows, 1)."""
    found = np.empty((len(sent), 1), BYTES)
    found[:, 0] = sent
    return found
