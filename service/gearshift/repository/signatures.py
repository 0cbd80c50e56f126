"""Comparing signatures: all variants of a model must take and give the same tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from gearshift.core.catalog import Signature, TensorSpec

LARGEST_BATCH_BYTES = 2**30
"""Of all inputs and outputs of one batch together."""

_BYTES_EACH = 16
"""What an element of text takes at least, as a reference to it."""


def batch_bytes(signature: Signature, rows: int) -> int:
    """What the tensors of a batch of so many rows take."""
    total = 0
    for tensor in (*signature.inputs, *signature.outputs):
        known = triton_to_np_dtype(tensor.datatype)
        width = np.dtype(known).itemsize if known is not None else _BYTES_EACH
        total += math.prod(tensor.shape) * width
    return total * rows


def differences(mine: Signature, other: Signature, other_name: str) -> Iterator[str]:
    """A sentence for every tensor in which `mine` differs from variant `other_name`'s.

    The order of the tensors does not matter: they travel by name.
    """
    yield from _compare("input", mine.inputs, other.inputs, other_name)
    yield from _compare("output", mine.outputs, other.outputs, other_name)


def _compare(
    kind: str, mine: Sequence[TensorSpec], other: Sequence[TensorSpec], other_name: str
) -> Iterator[str]:
    expected = {tensor.name: tensor for tensor in other}
    found = {tensor.name: tensor for tensor in mine}
    rule = "all variants of a model share one signature"
    for name, tensor in found.items():
        if name not in expected:
            names = ", ".join(repr(known) for known in expected) or "none"
            yield f"has {kind} {name!r}, but variant {other_name!r} has {names}; {rule}"
            continue
        wanted = expected[name]
        if tensor.datatype != wanted.datatype:
            yield (
                f"{kind} {name!r} is {tensor.datatype}, but {wanted.datatype} in variant"
                f" {other_name!r}; {rule}"
            )
        if tensor.shape != wanted.shape:
            yield (
                f"{kind} {name!r} has shape {list(tensor.shape)} per row, but"
                f" {list(wanted.shape)} in variant {other_name!r}; {rule}"
            )
    for name in expected:
        if name not in found:
            yield f"has no {kind} {name!r}, but variant {other_name!r} has; {rule}"
