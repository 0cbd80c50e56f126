"""Constants are read out of a TensorFlow Lite file that is written here byte by byte."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from gearshift.compress.dataset import DataError
from gearshift.compress.families.tflite_weights import constants

FLOAT32, INT32 = 0, 2


class Writer:
    """Just enough of FlatBuffers: parents first, then what they point to."""

    def __init__(self) -> None:
        self.content = bytearray(4) + b"TFL3"

    def table(self, slots: int, used: set[int]) -> list[int]:
        """A table whose `used` fields take four bytes each; returns where, by slot."""
        self._align()
        vtable = len(self.content)
        offsets = [4 + 4 * slot if slot in used else 0 for slot in range(slots)]
        self.content += struct.pack(f"<HH{slots}H", 4 + 2 * slots, 4 + 4 * slots, *offsets)
        self._align()
        position = len(self.content)
        self.content += struct.pack("<i", position - vtable) + bytes(4 * slots)
        self.position = position
        return [position + 4 + 4 * slot for slot in range(slots)]

    def vector(self, field: int, count: int, elements: bytes) -> list[int]:
        """A vector that `field` points to; returns where its elements of four bytes lie."""
        self._align()
        self.point(field, len(self.content))
        self.content += struct.pack("<I", count)
        start = len(self.content)
        self.content += elements
        return [start + 4 * index for index in range(count)]

    def point(self, field: int, target: int) -> None:
        struct.pack_into("<I", self.content, field, target - field)

    def _align(self) -> None:
        self.content += bytes(-len(self.content) % 4)


def tflite(tensors: list[tuple[str, int, np.ndarray | None]]) -> bytes:
    """A file with one subgraph of these tensors: name, type, and the content of a constant."""
    writer = Writer()
    model = writer.table(5, {2, 4})
    writer.point(0, writer.position)
    (graph_at,) = writer.vector(model[2], 1, bytes(4))
    # Buffer 0 is empty by convention: tensors that are computed name it.
    buffers = writer.vector(model[4], len(tensors) + 1, bytes(4 * (len(tensors) + 1)))
    writer.table(1, set())
    writer.point(buffers[0], writer.position)
    graph = writer.table(1, {0})
    writer.point(graph_at, writer.position)
    places = writer.vector(graph[0], len(tensors), bytes(4 * len(tensors)))
    for index, (name, kind, values) in enumerate(tensors):
        tensor = writer.table(4, {0, 1, 2, 3})
        writer.point(places[index], writer.position)
        shape = (1,) if values is None else values.shape
        writer.vector(tensor[0], len(shape), struct.pack(f"<{len(shape)}i", *shape))
        struct.pack_into("<b", writer.content, tensor[1], kind)
        struct.pack_into("<I", writer.content, tensor[2], 0 if values is None else index + 1)
        writer.vector(tensor[3], len(name), name.encode())
        buffer = writer.table(1, {0} if values is not None else set())
        writer.point(buffers[index + 1], writer.position)
        if values is not None:
            content = values.tobytes()
            writer.vector(buffer[0], len(content), content)
    return bytes(writer.content)


def test_float_constants_come_by_name_and_in_shape() -> None:
    weight = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    bias = np.array([-1.5, 2.5], np.float32)
    found = constants(
        tflite(
            [
                ("image", FLOAT32, None),
                ("layer/weight", FLOAT32, weight),
                ("shape", INT32, np.array([1, 2], np.int32)),
                ("layer/bias", FLOAT32, bias),
            ]
        )
    )
    assert list(found) == ["layer/weight", "layer/bias"]
    np.testing.assert_array_equal(found["layer/weight"], weight)
    np.testing.assert_array_equal(found["layer/bias"], bias)


def test_another_file_is_refused() -> None:
    with pytest.raises(DataError, match="TensorFlow Lite"):
        constants(b"\x08\x00\x00\x00ONNXnothing")
