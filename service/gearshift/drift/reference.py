"""The held-out samples as cells of features, and how full each is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gearshift.artifacts import SamplesFile
from gearshift.core.catalog import Model
from gearshift.drift.features import Array, Features, Values

MOST_CELLS = 10
"""Cells of one feature, beside those for values that no sample has and for those that are none."""

ROWS_PER_CELL = 10
LEAST_SAMPLES = 50
"""Samples (their effective number) that a cell, and that a model, needs at least."""

MOST_BYTES = 256 * 1024 * 1024
"""Of samples that are read, unpacked."""

_PART = 256
"""Samples that are turned into features at a time."""

Cells = npt.NDArray[np.uint8]


class NotWatchedError(Exception):
    """Why a model's inputs cannot be compared with anything."""


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """The cells of one feature, between `marks` (ascending): up to the first, from there up to the
    second and so on, beyond the last. If `exact`, the marks are the values themselves, and beyond
    them is whatever else there is. One more cell is for NaN. `shares` are the samples' weights."""

    marks: Values
    exact: bool
    shares: tuple[float, ...] = ()

    @property
    def cells(self) -> int:
        return len(self.marks) + 2

    def cells_of(self, values: Values) -> npt.NDArray[np.intp]:
        """In which cell each value lies."""
        found = np.searchsorted(self.marks, values)
        if self.exact:
            nearest = self.marks[np.minimum(found, len(self.marks) - 1)]
            found = np.where(nearest == values, found, len(self.marks))
        return np.where(np.isnan(values), len(self.marks) + 1, found)


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What the features of one model's only input, named `tensor`, were. `size` is how many rows
    the samples are worth, which is fewer than there are where their weights differ."""

    tensor: str
    features: Features
    scales: tuple[Scale, ...]
    size: float

    def cells_of(self, rows: Array) -> Cells:
        """The cell of each feature of each row, as Features.taken gives them: (rows, features)."""
        values = self.features.of_taken(rows)
        columns = [
            scale.cells_of(column) for scale, column in zip(self.scales, values.T, strict=True)
        ]
        return np.stack(columns, axis=1).astype(np.uint8)


def read(model: Model) -> Reference:
    """The reference of a model from its samples; NotWatchedError with the reason if it has none."""
    if len(model.signature.inputs) != 1:
        raise NotWatchedError("it has several inputs, and samples.npz holds one")
    spec = model.signature.inputs[0]
    if spec.datatype == "BYTES":
        raise NotWatchedError("its input is BYTES; only numbers are compared")
    if model.samples is None:
        raise NotWatchedError("it has no samples.npz to compare with")
    try:
        inputs, weights = _arrays(model.samples)
    except KeyError as error:
        raise NotWatchedError(f"samples.npz has no {error}") from error
    except ValueError as error:
        raise NotWatchedError(f"samples.npz {error}") from error
    if inputs.shape[1:] != spec.shape or weights.shape != inputs.shape[:1]:
        raise NotWatchedError("samples.npz has arrays that do not fit the model or each other")
    if not np.isfinite(weights).all() or weights.min() < 0.0 or not weights.any():
        raise NotWatchedError("weights in samples.npz must be at least 0, and not all 0")
    features = Features(spec)
    size = float(weights.sum() ** 2 / (weights**2).sum())  # Kish, 1965
    if size < LEAST_SAMPLES:
        raise NotWatchedError(
            f"its samples are worth {size:.0f} rows; at least {LEAST_SAMPLES} are needed"
        )
    values = np.concatenate(
        [features.of(inputs[at : at + _PART]) for at in range(0, len(inputs), _PART)]
    )
    most = int(min(MOST_CELLS, size // ROWS_PER_CELL))
    scales = tuple(scale_of(column, weights, most) for column in values.T)
    return Reference(spec.name, features, scales, size)


def _arrays(path: str) -> tuple[Array, Values]:
    with SamplesFile(Path(path)) as samples:
        shape, kind = samples.header("inputs")
        size = math.prod(shape) * kind.itemsize
        if size > MOST_BYTES:
            raise ValueError(f"inputs take {size} bytes, more than the {MOST_BYTES} that are read")
        inputs = samples.array("inputs")
        weights = samples.array("weights") if "weights" in samples else np.ones(len(inputs))
    return inputs, weights.astype(np.float64)


def scale_of(values: Values, weights: Values, most: int) -> Scale:
    """Cells of equal weight, at most `most`; where there are few different values, a cell each."""
    known = ~np.isnan(values)
    order = np.argsort(values[known], kind="stable")
    ranked, heavy = values[known][order], np.cumsum(weights[known][order])
    marks = np.unique(ranked)
    exact = 0 < len(marks) <= most
    if not exact and len(marks):
        wanted = np.arange(1, most) / most * heavy[-1]
        marks = np.unique(ranked[np.minimum(np.searchsorted(heavy, wanted), len(ranked) - 1)])
    scale = Scale(marks, exact)
    full = np.bincount(scale.cells_of(values), weights=weights, minlength=scale.cells)
    return Scale(marks, exact, tuple((full / full.sum()).tolist()))
