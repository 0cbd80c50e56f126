"""Runs whose tensors lie where they are computed.

With `session.run` a provider on a GPU takes memory for its inputs and outputs anew at each run.
Here they have places of their own there, bound to the session once (onnxruntime.ai/docs, "I/O
Binding"): one set for each power of two of rows, so that such a provider meets few shapes, as each
new one costs it a search for algorithms. What a batch has fewer is filled with zeros.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from tritonclient.utils import triton_to_np_dtype

from gearshift.core.catalog import Signature
from gearshift.ports import Array, Tensors

PROCESSOR, CUDA = "cpu", "cuda"
"""Kinds of memory as ONNX Runtime calls them."""


@dataclass(frozen=True, slots=True)
class Place:
    """For one tensor: (rows, ...) of its type."""

    name: str
    shape: tuple[int, ...]
    dtype: Any

    @property
    def size(self) -> int:
        """In bytes."""
        return math.prod(self.shape) * int(np.dtype(self.dtype).itemsize)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is bound for batches of up to `rows`."""

    rows: int
    inputs: Sequence[Place]
    outputs: Sequence[Place]

    @property
    def size(self) -> int:
        """Bytes of all places together."""
        return sum(each.size for each in (*self.inputs, *self.outputs))


def plan(signature: Signature, rows: int, most: int) -> Plan:
    """For a batch of `rows`: the next power of two, or `most`, the model's largest."""
    size = max(rows, min(1 << (rows - 1).bit_length(), most))

    def places(specs: Any) -> Sequence[Place]:
        return [
            Place(spec.name, (size, *spec.shape), triton_to_np_dtype(spec.datatype))
            for spec in specs
        ]

    return Plan(size, places(signature.inputs), places(signature.outputs))


class Bound:
    """The places of a plan in the memory `kind` of the device with that number, bound to a session.
    Used for one batch at a time."""

    def __init__(self, session: Any, plan: Plan, kind: str, number: int) -> None:
        self.size = plan.size
        self._session = session
        self._rows = plan.rows
        self._binding = session.io_binding()
        self._inputs = {each.name: _taken(each, kind, number) for each in plan.inputs}
        self._outputs = {each.name: _taken(each, kind, number) for each in plan.outputs}
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)

    def run(self, inputs: Tensors) -> dict[str, Array]:
        """Copy there, run, copy back."""
        rows = len(next(iter(inputs.values())))
        for name, array in inputs.items():
            self._inputs[name].update_inplace(_filled(array, self._rows))
        self._session.run_with_iobinding(self._binding)
        # A copy, because in the processor's memory it is the place itself that is shown.
        return {name: value.numpy()[:rows].copy() for name, value in self._outputs.items()}


def _taken(place: Place, kind: str, number: int) -> Any:
    return ort.OrtValue.ortvalue_from_shape_and_type(place.shape, place.dtype, kind, number)


def _filled(array: Array, rows: int) -> Array:
    """To so many rows, in one piece."""
    if len(array) == rows:
        return np.ascontiguousarray(array)
    filled = np.zeros((rows, *array.shape[1:]), array.dtype)
    filled[: len(array)] = array
    return filled
