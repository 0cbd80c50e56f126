"""The Open Inference Protocol's datatypes: how each travels, typed or raw.

Raw contents are little-endian, row-major bytes; BYTES is, per element, a 4-byte little-endian
length and then the bytes (the protocol's binary extension). FP16 and BF16 travel raw only. In
memory BF16 is float32, of which it is the upper half.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gearshift.errors import InvalidInput
from gearshift.ports import BYTES, Array, narrowed, widened


@dataclass(frozen=True, slots=True)
class Datatype:
    """`numpy` is how it travels, `typed` the field of InferTensorContents, or "" where only raw
    bytes carry it."""

    name: str
    numpy: np.dtype[Any]
    typed: str

    @property
    def size(self) -> int:
        """Bytes per element; meaningless for BYTES."""
        return self.numpy.itemsize


DATATYPES = {
    name: Datatype(name, np.dtype(numpy), typed)
    for name, numpy, typed in (
        ("BOOL", "?", "bool_contents"),
        ("UINT8", "<u1", "uint_contents"),
        ("UINT16", "<u2", "uint_contents"),
        ("UINT32", "<u4", "uint_contents"),
        ("UINT64", "<u8", "uint64_contents"),
        ("INT8", "<i1", "int_contents"),
        ("INT16", "<i2", "int_contents"),
        ("INT32", "<i4", "int_contents"),
        ("INT64", "<i8", "int64_contents"),
        ("FP16", "<f2", ""),
        ("BF16", "<u2", ""),
        ("FP32", "<f4", "fp32_contents"),
        ("FP64", "<f8", "fp64_contents"),
        ("BYTES", BYTES, "bytes_contents"),
    )
}
CONTENTS = sorted({d.typed for d in DATATYPES.values() if d.typed})


def from_raw(data: bytes, datatype: Datatype, shape: tuple[int, ...], where: str) -> Array:
    """The tensor behind raw bytes: a read-only view on them, except for BYTES and BF16."""
    expected = raw_size(datatype, shape)
    if expected is None:
        return _split_bytes(data, _count(shape), where).reshape(shape)
    if len(data) != expected:
        raise InvalidInput(
            f"{where}: {len(data)} bytes of raw contents, but shape {list(shape)} of"
            f" {datatype.name} takes {expected}"
        )
    array = np.frombuffer(data, datatype.numpy).reshape(shape)
    return widened(array) if datatype.name == "BF16" else array


def from_typed(contents: Any, datatype: Datatype, shape: tuple[int, ...], where: str) -> Array:
    """The tensor behind InferTensorContents, with the field that its datatype prescribes."""
    if not datatype.typed:
        raise InvalidInput(f"{where}: {datatype.name} travels in raw_input_contents only")
    for field in CONTENTS:
        if field != datatype.typed and len(getattr(contents, field)):
            raise InvalidInput(
                f"{where}: {datatype.name} travels in {datatype.typed}, not in {field}"
            )
    values: Sequence[Any] = getattr(contents, datatype.typed)
    if len(values) != _count(shape):
        raise InvalidInput(
            f"{where}: {len(values)} values in {datatype.typed}, but shape {list(shape)} takes"
            f" {_count(shape)}"
        )
    if datatype.name == "BYTES":
        array = np.empty(len(values), BYTES)
        array[:] = list(values)
        return array.reshape(shape)
    if datatype.size < 4 and datatype.name != "BOOL":
        # Small integers travel in 32-bit fields: what does not fit must not wrap around.
        limits = np.iinfo(datatype.numpy)
        if any(not limits.min <= value <= limits.max for value in values):
            raise InvalidInput(
                f"{where}: a value is outside {datatype.name} ({limits.min} to {limits.max})"
            )
    return np.array(values, datatype.numpy).reshape(shape)


def raw_size(datatype: Datatype, shape: tuple[int, ...]) -> int | None:
    """Bytes of a raw tensor; None where the shape does not tell, as for BYTES."""
    return None if datatype.name == "BYTES" else _count(shape) * datatype.size


def to_raw(array: Array, datatype: Datatype) -> bytes:
    """Raw bytes of a tensor, row-major, copied once."""
    if datatype.name == "BYTES":
        return _join_bytes(array)
    return _travelling(array, datatype).tobytes()


def to_buffer(array: Array, datatype: Datatype) -> memoryview:
    """Raw bytes of a tensor that is neither BYTES nor empty: where they are, if they lie
    row-major already."""
    return _travelling(array, datatype).data.cast("B")


def _travelling(array: Array, datatype: Datatype) -> Array:
    if datatype.name == "BF16":
        return narrowed(array)
    return np.ascontiguousarray(array, datatype.numpy)


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _join_bytes(array: Array) -> bytes:
    parts = []
    for element in array.reshape(-1):
        text = element if isinstance(element, bytes) else str(element).encode()
        parts += [struct.pack("<I", len(text)), text]
    return b"".join(parts)


def _split_bytes(data: bytes, count: int, where: str) -> Array:
    array = np.empty(count, BYTES)
    at = 0
    for index in range(count):
        if at + 4 > len(data):
            raise InvalidInput(f"{where}: BYTES contents end before element {index} of {count}")
        (length,) = struct.unpack_from("<I", data, at)
        at += 4
        if at + length > len(data):
            raise InvalidInput(
                f"{where}: BYTES element {index} says {length} bytes, {len(data) - at} are left"
            )
        array[index] = data[at : at + length]
        at += length
    if at != len(data):
        raise InvalidInput(f"{where}: {len(data) - at} bytes after the last of {count} elements")
    return array
