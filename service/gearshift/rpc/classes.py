"""The classification extension: an output's largest elements, instead of all of them.

For each row `value:index` of so many of the largest, the largest first, or `value:index:label`
where a step of the model knows labels; of those that are alike the first. After Triton's document
of the extension
(https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_classification.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gearshift.ports import BYTES, Array
from gearshift.steps import largest

MOST = 4_096
"""Texts in one answer: each is made on the event loop."""


class Top(NamedTuple):
    """So many classes of an output."""

    output: str
    best: int


Wanted = str | Top
"""An output by name, or classes of one."""


def classes(rows: Array, count: int, labels: Sequence[str] = ()) -> Array:
    """Texts, (rows, count), of an array (rows, ...) of numbers, of whose places `labels` are the
    names."""
    flat = rows.reshape(len(rows), -1).astype(np.float64)
    best = largest(rows, count)
    found = np.empty(best.shape, BYTES)
    for row, indices in enumerate(best):
        for place, index in enumerate(indices):
            told = b"%f:%d" % (flat[row, index], index)
            found[row, place] = b"%s:%s" % (told, labels[index].encode()) if labels else told
    return found
