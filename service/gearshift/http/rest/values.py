"""Tensors in JSON, and the binary extension: values from lists, and lists from raw bytes."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from gearshift.http.rest.asking import Mistake

DEEPEST = 64
"""Levels of nested lists."""

REALS = frozenset({"FP16", "FP32", "FP64"})


def packed(datatype: str, data: object, where: str) -> bytes:
    """JSON's values as raw bytes, in row-major order, however they are nested. Mistake if one of
    them is none of the type."""
    dtype = triton_to_np_dtype(datatype)
    if dtype is None or datatype == "BF16":
        raise Mistake(
            f"{where}: values of {datatype or 'no type'} cannot be given in JSON; send them as"
            " binary data"
        )
    if datatype == "BYTES":
        good: Callable[[object], bool] = _is_text
    elif datatype == "BOOL":
        good = _is_truth
    elif datatype in REALS:
        good = _is_number
    else:
        good = _is_whole
    values = list(_flat(data, where))
    for value in values:
        if not good(value):
            raise Mistake(f"{where}: {str(value)[:50]!r} is no value of {datatype}")
    if datatype == "BYTES":
        texts = [value.encode() for value in values]
        return b"".join(part for text in texts for part in (struct.pack("<I", len(text)), text))
    try:
        # Of reals numpy only warns.
        with np.errstate(over="raise"):
            return np.array(values, dtype).tobytes()
    except (OverflowError, FloatingPointError):
        raise Mistake(f"{where}: one of the values is out of the range of {datatype}") from None


def inferred(datatype: str, shape: Sequence[int], size: int) -> list[int]:
    """The shape of one row that has so many bytes; below 0 stands in `shape` what is not fixed, the
    number of rows first. Mistake if it does not follow."""
    found = [1, *shape[1:]]
    free = [place for place, each in enumerate(found) if each < 0]
    if len(free) > 1:
        raise Mistake(f"raw bytes without JSON: a shape {list(shape)} does not follow from them")
    elements = 1
    if datatype != "BYTES":
        dtype = triton_to_np_dtype(datatype)
        width = 2 if datatype == "BF16" else np.dtype(dtype).itemsize
        elements, rest = divmod(size, width)
        if rest:
            raise Mistake(f"{size} bytes are no whole number of {datatype}")
    for place in free:
        fixed = math.prod(found[:place] + found[place + 1 :])
        found[place] = elements // fixed if fixed else 0
    if math.prod(found) != elements:
        raise Mistake(
            f"raw bytes without JSON are one row of {list(shape[1:])} {datatype};"
            f" {size} bytes are {elements} elements"
        )
    return found


def _flat(data: object, where: str) -> Iterator[Any]:
    if not isinstance(data, list):
        raise Mistake(f"{where}: data must be a list of values")
    levels = [iter(data)]
    while levels:
        try:
            value = next(levels[-1])
        except StopIteration:
            levels.pop()
            continue
        if isinstance(value, list):
            if len(levels) >= DEEPEST:
                raise Mistake(f"{where}: data is nested more than {DEEPEST} levels deep")
            levels.append(iter(value))
        else:
            yield value


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_truth(value: object) -> bool:
    return isinstance(value, bool) or value in (0, 1)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def listed(datatype: str, raw: bytes) -> list[Any]:
    """The values of a tensor that came raw, in row-major order. Mistake for what JSON has no way to
    say: bytes that are no text; NaN and infinities are None."""
    if datatype == "BYTES":
        return [_text(element) for element in _elements(raw)]
    dtype = triton_to_np_dtype(datatype)
    if dtype is None or datatype == "BF16":
        raise Mistake(f"values of {datatype} cannot be given in JSON; ask for binary data")
    values: list[Any] = np.frombuffer(raw, dtype).tolist()
    if datatype in REALS:
        return [value if math.isfinite(value) else None for value in values]
    return values


def _elements(raw: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 4], "little")
        at += 4
        yield raw[at : at + size]
        at += size


def _text(element: bytes) -> str:
    try:
        return element.decode()
    except UnicodeDecodeError:
        raise Mistake(
            "an output is no text in UTF-8, which JSON needs; ask for binary data"
        ) from None
