"""Checking `samples.npz` by its headers: no row is unpacked and nothing is unpickled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from gearshift.artifacts import Header, SamplesFile
from gearshift.core.catalog import Signature


def samples_complaint(path: Path, signature: Signature | None) -> tuple[str, str] | None:
    """The array in which the samples are wrong ("" for the file) and how; None if they are fine.

    `inputs` is (rows, *shape) as the model's only input takes it, `labels` is (rows, ...), and
    so is `weights` where it is there. Models with several inputs are only checked for readable
    arrays of equal length.
    """
    headers: dict[str, Header] = {}
    name = ""
    try:
        with SamplesFile(path) as samples:
            for name in ("inputs", "labels", "weights"):
                if name == "weights" and name not in samples:
                    continue
                headers[name] = samples.header(name)
    except KeyError:
        return name, "no such array; expected `inputs` and `labels`"
    except ValueError as error:
        return name, str(error)
    return _mismatch(headers, signature)


def _mismatch(headers: dict[str, Header], signature: Signature | None) -> tuple[str, str] | None:
    shape, dtype = headers["inputs"]
    if not shape or not headers["labels"][0] or shape[0] < 1:
        return "inputs", "has no rows; expected at least one"
    for name in ("labels", "weights"):
        told = headers[name][0] if name in headers else shape
        if not told or told[0] != shape[0]:
            return name, f"has {told[0] if told else 0} rows, but inputs has {shape[0]}"
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
