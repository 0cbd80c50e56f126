"""What is compared of a row: its values, or of a large one a few statistics."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from gearshift.core.catalog import TensorSpec

Array = npt.NDArray[Any]
Values = npt.NDArray[np.float64]

MOST_VALUES = 64
"""Values of a row that are watched one by one."""

MOST_TAKEN = 4 * 1024
"""Values of a large row that its statistics are made from: it is thinned evenly beyond that."""

_STATISTICS = ("mean", "deviation", "least", "greatest", "zeros")
_AXES = 3


class Features:
    """The features of one input tensor. `names` are theirs, in order: `x[3]` for the fourth value
    of a row of `x`; `x mean`, `x deviation` (standard), `x least`, `x greatest`, `x zeros` (the
    share of them) and `x centre 0` and so on for a large one: where along each of its first axes
    (0 to 1) its mass lies, which is what a value has above the least of its row.
    """

    def __init__(self, spec: TensorSpec) -> None:
        self.names: tuple[str, ...]
        self._steps: tuple[slice, ...] = ()
        self._large = math.prod(spec.shape) > MOST_VALUES
        if self._large:
            axes = min(len(spec.shape), _AXES)
            centres = (f"centre {axis}" for axis in range(axes))
            self.names = tuple(f"{spec.name} {each}" for each in (*_STATISTICS, *centres))
            self._steps = _steps(spec.shape)
        elif spec.shape:
            places = itertools.product(*map(range, spec.shape))
            self.names = tuple(f"{spec.name}[{','.join(map(str, place))}]" for place in places)
        else:
            self.names = (spec.name,)

    def taken(self, row: Array) -> Array:
        """A copy of what is needed of one row."""
        taken: Array = row[self._steps].copy()
        return taken

    def of(self, rows: Array) -> Values:
        """The features of whole rows: (rows, features)."""
        return self.of_taken(rows[:, *self._steps])

    def of_taken(self, rows: Array) -> Values:
        """The same of rows as `taken` gives them."""
        rows = rows.astype(np.float64)
        if not self._large:
            return rows.reshape(len(rows), -1)
        with np.errstate(all="ignore"):  # infinite values make NaN, a cell of its own
            return _statistics(rows)


def _steps(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Every so many values along each axis, so that at most MOST_TAKEN are left."""
    steps = [1] * len(shape)
    left = list(shape)
    while math.prod(left) > MOST_TAKEN:
        axis = left.index(max(left))
        steps[axis] += 1
        left[axis] = -(-shape[axis] // steps[axis])
    return tuple(slice(None, None, step) for step in steps)


def _statistics(rows: Values) -> Values:
    flat = rows.reshape(len(rows), -1)
    least = flat.min(axis=1)
    found = [
        flat.mean(axis=1),
        flat.std(axis=1),
        least,
        flat.max(axis=1),
        (flat == 0.0).mean(axis=1),
    ]
    mass = rows - least.reshape(-1, *[1] * (rows.ndim - 1))
    whole = mass.reshape(len(rows), -1).sum(axis=1)
    for axis in range(1, min(rows.ndim, _AXES + 1)):
        others = tuple(other for other in range(1, rows.ndim) if other != axis)
        places = (np.arange(rows.shape[axis]) + 0.5) / rows.shape[axis]
        moment = mass.sum(axis=others) @ places
        # Of a row all alike, the mass lies in the middle.
        found.append(np.divide(moment, whole, out=np.full(len(rows), 0.5), where=whole != 0.0))
    return np.stack(found, axis=1)
