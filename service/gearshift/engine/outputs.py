"""Are the answers of a run what they should be?"""

from __future__ import annotations

import math

import numpy as np

from gearshift.core.catalog import Model
from gearshift.ports import BYTES, Array, Tensors

NUMPY = {
    name: np.dtype(kind)
    for name, kind in (
        ("BOOL", "?"),
        ("UINT8", "u1"),
        ("UINT16", "u2"),
        ("UINT32", "u4"),
        ("UINT64", "u8"),
        ("INT8", "i1"),
        ("INT16", "i2"),
        ("INT32", "i4"),
        ("INT64", "i8"),
        ("FP16", "f2"),
        ("BF16", "f4"),
        ("FP32", "f4"),
        ("FP64", "f8"),
        ("BYTES", BYTES),
    )
}
"""The Open Inference Protocol's datatypes in memory."""

HANDFUL = 16
"""Values up to which Python's own numbers are the fastest."""

FEW = 8192
"""Values up to which a dot product is worked out on this thread alone."""


def check_outputs(model: Model, outputs: Tensors, rows: int) -> None:
    """Wrong shapes must not reach callers: rows would be handed to the wrong neighbour."""
    for spec in model.signature.outputs:
        array = outputs.get(spec.name)
        if array is None:
            raise ValueError(f"output {spec.name!r} is missing; there are: {', '.join(outputs)}")
        if array.shape != (rows, *spec.shape):
            raise ValueError(
                f"output {spec.name!r} has shape {array.shape}, expected {(rows, *spec.shape)}"
            )
        if array.dtype != NUMPY[spec.datatype]:
            raise ValueError(
                f"output {spec.name!r} has dtype {array.dtype}, expected {NUMPY[spec.datatype]}"
                f" for {spec.datatype}"
            )


def spoiled_rows(model: Model, outputs: Tensors, rows: int) -> Array | None:
    """Which rows of checked outputs hold NaN or infinity, (rows,) bool; None if none does, or the
    model may give such values."""
    if not model.finite:
        return None
    found: Array | None = None
    for spec in model.signature.outputs:
        array = outputs[spec.name]
        if array.dtype.kind == "f" and not _finite(array):
            unfit = np.asarray(~np.isfinite(array).reshape(rows, -1).all(axis=1))
            found = unfit if found is None else found | unfit
    return found


def unfit_input(model: Model, inputs: Tensors) -> str | None:
    """The first input that holds NaN or infinity, if one does."""
    for spec in model.signature.inputs:
        array = inputs.get(spec.name)
        if array is not None and array.dtype.kind == "f" and not _finite(array):
            return spec.name
    return None


def _finite(array: Array) -> bool:
    """Whether all values are; True for none."""
    size = array.size
    # What is finite may still overflow, and is looked at again.
    if size <= HANDFUL and math.isfinite(sum(array.ravel().tolist())):
        return True
    if size <= FEW and array.itemsize > 2 and math.isfinite(np.vdot(array, array)):
        # Several times as fast as to look at each; unlike `dot` it warns nobody of an overflow.
        return True
    return bool(np.isfinite(array).all())
