"""Tensors to measure with: the model's own samples where there are some, else random ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from gearshift.artifacts import SamplesFile
from gearshift.core.catalog import Model, TensorSpec
from gearshift.ports import BYTES, Array, Tensors

SEED = 20_231
"""The same random inputs at every start: latencies of different days are compared."""


class InputMaker:
    """Makes batches of any size for one model; its samples are read once."""

    def __init__(self, model: Model) -> None:
        self._specs = model.signature.inputs
        self._random = np.random.default_rng(SEED)
        self._rows: Array | None = None
        if model.samples is not None and len(self._specs) == 1:
            with SamplesFile(Path(model.samples)) as samples:
                self._rows = _as_bytes(samples.array("inputs"))

    def batch(self, rows: int) -> Tensors:
        """One batch of that many rows: (rows, *shape) by input name."""
        if self._rows is not None:
            # Samples are used over and over where the batch is larger than they are many.
            return {self._specs[0].name: self._rows[np.arange(rows) % len(self._rows)]}
        return {spec.name: self._noise(spec, rows) for spec in self._specs}

    def _noise(self, spec: TensorSpec, rows: int) -> Array:
        shape = (rows, *spec.shape)
        if spec.datatype == "BYTES":
            return np.full(shape, b"gearshift", dtype=BYTES)
        dtype = np.dtype(triton_to_np_dtype(spec.datatype))
        if dtype.kind == "f":
            return self._random.standard_normal(shape).astype(dtype)
        if dtype == np.uint8:  # most often pixels
            return self._random.integers(0, 256, shape, dtype=np.uint8)
        # Any other whole number may be an index: 0 and 1 are in the smallest vocabulary.
        return self._random.integers(0, 2, shape).astype(dtype)


def _as_bytes(rows: Array) -> Array:
    """Text as the datatype BYTES travels: an object array of `bytes`."""
    if rows.dtype.kind == "U":
        rows = np.char.encode(rows, "utf-8")
    return rows.astype(BYTES) if rows.dtype.kind == "S" else rows
