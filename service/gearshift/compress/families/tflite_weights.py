"""The constant tensors of a TensorFlow Lite file, read without running anything of it.

A .tflite file is a FlatBuffer (schema.fbs of TensorFlow, schema version 3): tables of offsets
to fields. Only what leads to a constant is read here; the slot numbers are the schema's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gearshift.compress.dataset import DataError

IDENTIFIER = b"TFL3"
FLOAT32 = 0
MODEL_SUBGRAPHS, MODEL_BUFFERS = 2, 4
SUBGRAPH_TENSORS = 0
TENSOR_SHAPE, TENSOR_TYPE, TENSOR_BUFFER, TENSOR_NAME = 0, 1, 2, 3
BUFFER_DATA = 0


@dataclass(frozen=True, slots=True)
class _Table:
    """One table of the buffer: `position` is where its own fields begin."""

    content: bytes
    position: int

    def _field(self, slot: int) -> int | None:
        """Where the field is, or None when it was left at its default."""
        (back,) = struct.unpack_from("<i", self.content, self.position)
        vtable = self.position - back
        (size,) = struct.unpack_from("<H", self.content, vtable)
        entry = 4 + 2 * slot
        if entry >= size:
            return None
        (offset,) = struct.unpack_from("<H", self.content, vtable + entry)
        return self.position + offset if offset else None

    def number(self, slot: int, form: str) -> int:
        place = self._field(slot)
        return 0 if place is None else int(struct.unpack_from(form, self.content, place)[0])

    def vector(self, slot: int) -> tuple[int, int]:
        """Where the elements begin, and how many they are."""
        place = self._field(slot)
        if place is None:
            return 0, 0
        start = place + struct.unpack_from("<I", self.content, place)[0]
        return start + 4, int(struct.unpack_from("<I", self.content, start)[0])

    def tables(self, slot: int) -> Iterator[_Table]:
        start, count = self.vector(slot)
        for place in range(start, start + 4 * count, 4):
            (offset,) = struct.unpack_from("<I", self.content, place)
            yield _Table(self.content, place + offset)

    def data(self, slot: int) -> bytes:
        start, count = self.vector(slot)
        return self.content[start : start + count]


def constants(content: bytes) -> Mapping[str, npt.NDArray[np.float32]]:
    """Every float32 constant of the first subgraph, by the name of its tensor, in its shape.

    Convolution weights are [out, height, width, in], depthwise ones [1, height, width, channel].
    """
    if content[4:8] != IDENTIFIER:
        raise DataError(f"not a TensorFlow Lite file (its identifier is {content[4:8]!r})")
    model = _Table(content, struct.unpack_from("<I", content, 0)[0])
    buffers = [buffer.data(BUFFER_DATA) for buffer in model.tables(MODEL_BUFFERS)]
    subgraph = next(model.tables(MODEL_SUBGRAPHS))
    found = {}
    for tensor in subgraph.tables(SUBGRAPH_TENSORS):
        values = buffers[tensor.number(TENSOR_BUFFER, "<I")]
        if values and tensor.number(TENSOR_TYPE, "<b") == FLOAT32:
            start, rank = tensor.vector(TENSOR_SHAPE)
            shape = struct.unpack_from(f"<{rank}i", content, start)
            name = tensor.data(TENSOR_NAME).decode("utf-8")
            found[name] = np.frombuffer(values, "<f4").reshape(shape).copy()
    return found
