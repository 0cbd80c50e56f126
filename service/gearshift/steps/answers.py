"""Steps after a network: one more output, made of one that is there, row by row."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gearshift.core.catalog import TensorSpec
from gearshift.core.steps import After
from gearshift.ports import BYTES, Array

MOST_VALUES = 65_536
"""Numbers of a whole batch that a step may read: it is done on the event loop, and takes up to a
millisecond."""

MOST_LABELS = 4_096
"""Texts of a whole batch: each is an object of its own."""


def largest(rows: Array, count: int) -> Array:
    """The places of the `count` largest of each row, (rows, count), of an array (rows, ...): the
    largest first, of those that are alike the first, and NaN last."""
    flat = rows.reshape(len(rows), -1).astype(np.float64)
    # NaN is no large number.
    falling = -np.where(np.isnan(flat), -np.inf, flat)
    found: Array = np.argsort(falling, axis=1, kind="stable")[:, :count]
    return found


class Softmax(After):
    """Probabilities of scores: along the last axis they sum up to 1."""

    kind = "softmax"

    def __init__(self, of: TensorSpec, output: str) -> None:
        _numbers(of)
        self.of = of.name
        self.makes = TensorSpec(output, "FP32", of.shape)

    def rows(self, values: Array) -> Array:
        scores = values.astype(np.float64)
        with np.errstate(invalid="ignore"):
            # Relative to the largest, so that nothing overflows.
            powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
        found: Array = (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
        return found


class Normalize(After):
    """Vectors of length one along the last axis, so that a dot product is a cosine. One of length
    zero stays as it is."""

    kind = "normalize"

    def __init__(self, of: TensorSpec, output: str) -> None:
        _numbers(of)
        self.of = of.name
        self.makes = TensorSpec(output, "FP32", of.shape)

    def rows(self, values: Array) -> Array:
        vectors = values.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            lengths = np.sqrt((vectors * vectors).sum(axis=-1, keepdims=True))
            found: Array = (vectors / np.where(lengths == 0.0, 1.0, lengths)).astype(np.float32)
        return found


class Threshold(After):
    """Whether each number is at least so large, as BOOL; NaN is not."""

    kind = "threshold"

    def __init__(self, of: TensorSpec, output: str, at: float) -> None:
        _numbers(of)
        self.of, self._at = of.name, at
        self.makes = TensorSpec(output, "BOOL", of.shape)

    def rows(self, values: Array) -> Array:
        found: Array = values.astype(np.float64) >= self._at
        return found


class Labels(After):
    """The names of the largest `top` numbers of a row, the largest first."""

    kind = "labels"

    def __init__(self, of: TensorSpec, output: str, labels: Sequence[str], top: int) -> None:
        _numbers(of)
        width = math.prod(of.shape)
        if len(labels) != width:
            raise ValueError(
                f"{len(labels)} labels for output {of.name!r}, which has {width} numbers a row"
            )
        if top > width:
            raise ValueError(f"top is {top}, and there are {width} labels")
        self.of, self._top = of.name, top
        self.labels = tuple(labels)
        self._names = np.array([label.encode() for label in labels], BYTES)
        self.makes = TensorSpec(output, "BYTES", (top,))

    def rows(self, values: Array) -> Array:
        found: Array = self._names[largest(values, self._top)]
        return found


def _numbers(of: TensorSpec) -> None:
    if of.datatype in ("BYTES", "BOOL"):
        raise ValueError(f"output {of.name!r} is {of.datatype}, and this step needs numbers")
    if not of.shape or math.prod(of.shape) < 1:
        raise ValueError(f"output {of.name!r} has no axis beside the rows, and this step needs one")
