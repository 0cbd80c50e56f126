"""Memory that two processes share, in which tensors go from one to the other.

A memfd (memfd_create(2)): it has no name, so nobody else finds it and nothing is left behind
whoever dies. It is sealed against shrinking, so that no process can take away what another one
reads (which would be SIGBUS there).
"""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
from collections.abc import Mapping, Sequence

import numpy as np

from gearshift.ports import Array, Tensors

LEAST = 64 * 1024
MOST = 2**30
"""Bytes of one batch's tensors, each way: as many as one input in a caller's shared memory."""

ALIGNED = 64
"""Bytes: where a tensor may begin. A cache line, and no processor asks for more."""

Layout = Sequence[tuple[str, str, Sequence[int], int]]
"""By tensor its name, dtype (as `numpy.dtype.str`), shape and first byte."""


class Segment:
    """One side's view of it. The writing side lets it grow; it never becomes smaller."""

    def __init__(self, descriptor: int) -> None:
        """Takes over the open file descriptor."""
        self.descriptor = descriptor
        self._mapped: mmap.mmap | None = None

    @classmethod
    def make(cls) -> Segment:
        """A new one, empty."""
        if not hasattr(os, "memfd_create"):  # not Linux
            with tempfile.TemporaryFile() as file:
                return cls(os.dup(file.fileno()))
        descriptor = os.memfd_create("gearshift", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        return cls(descriptor)

    def write(self, tensors: Tensors) -> Layout:
        """Copy the tensors in, over what was there. ValueError for what cannot be shared."""
        layout = []
        end = 0
        for name, array in tensors.items():
            if array.dtype.hasobject:
                raise ValueError(f"tensor {name!r} is of BYTES, which worker processes do not take")
            start = -(-end // ALIGNED) * ALIGNED
            end = start + array.nbytes
            layout.append((name, array.dtype.str, array.shape, start))
        if end > MOST:
            raise ValueError(f"the batch has {end} bytes of tensors; a worker process takes {MOST}")
        size = os.fstat(self.descriptor).st_size
        if end > size:
            os.ftruncate(self.descriptor, max(LEAST, 1 << (end - 1).bit_length()))
        for array, view in zip(tensors.values(), self.read(layout).values(), strict=True):
            view[...] = array
        return layout

    def read(self, layout: Layout) -> Mapping[str, Array]:
        """The tensors where they lie, until the other side writes again. ValueError where that is
        beyond what there is."""
        if self._mapped is None or len(self._mapped) < _end(layout):
            size = os.fstat(self.descriptor).st_size
            if _end(layout) > size:
                raise ValueError(f"tensors up to byte {_end(layout)} in a segment of {size}")
            # Views of the one before keep that alive as long as they need it.
            self._mapped = mmap.mmap(self.descriptor, size) if size else None
        return {
            name: np.ndarray(tuple(shape), np.dtype(kind), self._mapped or b"", start)
            for name, kind, shape, start in layout
        }

    def close(self) -> None:
        """Give this side's view back."""
        self._mapped = None
        os.close(self.descriptor)


def _end(layout: Layout) -> int:
    return max(
        (
            start + int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize
            for _, kind, shape, start in layout
        ),
        default=0,
    )
