"""A network's inputs, made of what a caller has sent: checked first, then row by row."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from gearshift.core.catalog import Model
from gearshift.errors import Cancelled, InvalidInput
from gearshift.ports import Array, Tensors


def check(model: Model, sent: Tensors) -> None:
    """InvalidInput for a row with more bytes than its step reads. Costs next to nothing."""
    for step in model.before:
        for index, value in enumerate(sent[step.takes.name].flat):
            if len(value) > step.most_bytes:
                raise InvalidInput(
                    f"input {step.takes.name!r}, row {index}: has {len(value)} bytes; at most"
                    f" {step.most_bytes} are read (max_bytes of the model's step)"
                )


def made(model: Model, sent: Tensors, wanted: Callable[[], bool]) -> tuple[Tensors, float]:
    """The network's inputs of a request that has passed `check`, and the seconds that it took.
    Asks before each row whether it is still `wanted`, and raises Cancelled if not. InvalidInput
    names the row that cannot be read, and why."""
    begun = time.monotonic()
    known = {step.takes.name for step in model.before}
    found: dict[str, Array] = {name: array for name, array in sent.items() if name not in known}
    for step in model.before:
        values = sent[step.takes.name].reshape(-1)
        arrays = [
            np.empty((len(values), *s.shape), triton_to_np_dtype(s.datatype)) for s in step.makes
        ]
        for index, value in enumerate(values):
            if not wanted():
                raise Cancelled("nobody waits for it any more")
            try:
                row = step.row(value)
            except ValueError as error:
                raise InvalidInput(f"input {step.takes.name!r}, row {index}: {error}") from None
            for array, each in zip(arrays, row, strict=True):
                array[index] = each
        found |= {spec.name: array for spec, array in zip(step.makes, arrays, strict=True)}
    return found, time.monotonic() - begun
