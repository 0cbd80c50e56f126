"""BF16 in memory: numpy has no such type, so that arrays of it are float32.

A BF16 is the upper half of a float32 (Intel, BFLOAT16 Hardware Numerics Definition, 2018): each is
one float32 exactly, which is also how `tritonclient` shows them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BITS = np.dtype("<u2")


def widened(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """The float32 of the same shape that these BF16, given by their bits, are."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def narrowed(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The bits of the nearest BF16, of two that are as near the even one. What is one already stays
    as it is to the bit, and NaN stays NaN."""
    # A scalar, or memory in another order, cannot be looked at as other numbers.
    whole = np.ascontiguousarray(values, np.float32)
    bits = whole.view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    # To round a NaN could make it an infinity, or turn its sign.
    cut = bits >> 16
    nan = np.where(cut & 0x7F, cut, cut | 0x40)
    return np.where(np.isnan(whole), nan, rounded).astype(BITS).reshape(values.shape)
