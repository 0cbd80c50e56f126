"""ONNX Runtime sessions that take or give BF16, which their Python interface has no arrays of.

Buffers are bound to their names instead, with the number of the type beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from gearshift.core.catalog import Signature, TensorSpec
from gearshift.ports import Array, Tensors, narrowed, widened
from gearshift.ports.bfloat16 import BITS

BF16 = 16
"""TensorProto.DataType.BFLOAT16 (onnx.proto)."""

HERE = ("cpu", 0)
"""Where buffers lie: ONNX Runtime copies them to and from a device."""


class Bfloat16Session:
    """Stands in for a session where one is run."""

    def __init__(self, session: Any, signature: Signature) -> None:
        self._session = session
        self._inputs = {spec.name: spec for spec in signature.inputs}
        self._outputs = {spec.name: spec for spec in signature.outputs}

    def run(self, names: Sequence[str], inputs: Tensors) -> list[Array]:
        """As `InferenceSession.run`, with BF16 as float32."""
        binding = self._session.io_binding()
        rows = len(next(iter(inputs.values())))
        # What is bound must outlive the run.
        held = {name: _lying(self._inputs[name], array) for name, array in inputs.items()}
        for name, array in held.items():
            kind = _kind(self._inputs[name], array)
            binding.bind_input(name, *HERE, kind, array.shape, array.ctypes.data)
        found = {name: _room(self._outputs[name], rows) for name in names}
        for name, array in found.items():
            kind = _kind(self._outputs[name], array)
            binding.bind_output(name, *HERE, kind, array.shape, array.ctypes.data)
        self._session.run_with_iobinding(binding)
        return [
            widened(found[name]) if self._outputs[name].datatype == "BF16" else found[name]
            for name in names
        ]


def _lying(spec: TensorSpec, array: Array) -> Array:
    return narrowed(array) if spec.datatype == "BF16" else np.ascontiguousarray(array)


def _kind(spec: TensorSpec, array: Array) -> Any:
    return BF16 if spec.datatype == "BF16" else array.dtype.type


def _room(spec: TensorSpec, rows: int) -> Array:
    kind = BITS if spec.datatype == "BF16" else triton_to_np_dtype(spec.datatype)
    return np.empty((rows, *spec.shape), kind)
