"""Checking `samples.npz` by its headers: no row is unpacked and nothing is unpickled."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from gearshift.core.catalog import Signature
from gearshift.repository.files import reason

Header = tuple[tuple[int, ...], np.dtype[Any]]

_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def samples_complaint(path: Path, signature: Signature | None) -> tuple[str, str] | None:
    """The array in which the samples are wrong ("" for the file) and how; None if they are fine.

    `inputs` is (rows, *shape) as the model's only input takes it, `labels` is (rows, ...).
    Models with several inputs are only checked for readable arrays of equal length.
    """
    headers: dict[str, Header] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in ("inputs", "labels"):
                try:
                    info = archive.getinfo(f"{name}.npy")
                except KeyError:
                    return name, "no such array; expected `inputs` and `labels`"
                with archive.open(info) as stream:
                    headers[name] = _header(stream, info.file_size)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        return "", f"is not a file of numpy.savez: {reason(error)}"
    except OSError as error:
        return "", f"cannot be read: {reason(error)}"
    except ValueError as error:
        return name, str(error)
    return _mismatch(headers["inputs"], headers["labels"], signature)


def _header(stream: IO[bytes], size: int) -> Header:
    """Shape and dtype of one array; ValueError if its `size` bytes cannot hold it."""
    try:
        reader = _READERS.get(np.lib.format.read_magic(stream))
        if reader is None:
            raise ValueError("an array format that is not read here")
        shape, _, dtype = reader(stream)
    except ValueError as error:
        raise ValueError(f"is not an array of numpy.savez: {error}") from error
    if dtype.hasobject:
        raise ValueError("holds Python objects, which are never loaded; save plain numbers")
    if stream.tell() + math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"is cut off: {size} bytes do not hold {shape} of {dtype}")
    return shape, dtype


def _mismatch(
    inputs: Header, labels: Header, signature: Signature | None
) -> tuple[str, str] | None:
    (shape, dtype), (label_shape, _) = inputs, labels
    if not shape or not label_shape or shape[0] < 1:
        return "inputs", "has no rows; expected at least one"
    if shape[0] != label_shape[0]:
        return "labels", f"has {label_shape[0]} rows, but inputs has {shape[0]}"
    if signature is None or len(signature.inputs) != 1:
        return None
    tensor = signature.inputs[0]
    if shape[1:] != tensor.shape:
        return "inputs", (
            f"has shape {list(shape[1:])} per row; input {tensor.name!r} takes {list(tensor.shape)}"
        )
    if tensor.datatype == "BYTES":
        return None if dtype.kind in "SU" else ("inputs", f"is {dtype}; expected text or bytes")
    known = triton_to_np_dtype(tensor.datatype)
    expected = None if known is None else np.dtype(known)
    if expected is not None and dtype != expected:
        return "inputs", f"is {dtype}; input {tensor.name!r} takes {expected} ({tensor.datatype})"
    return None
