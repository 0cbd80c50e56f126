"""One batch on its way to a worker and back: put together, checked, failed."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Sequence

import numpy as np
import structlog

from gearshift.core.catalog import Model, Variant
from gearshift.engine.flight import Flight
from gearshift.engine.log_keys import of_requests
from gearshift.errors import ExecutorFailed, RequestError
from gearshift.ports import BYTES, Tensors, TraceIds

log = structlog.get_logger(__name__)


def bytes_of(inputs: Tensors) -> int:
    """What the inputs of one request take; elements of BYTES are objects of their own."""
    total = 0
    for array in inputs.values():
        total += array.nbytes
        if array.dtype == BYTES:
            total += sum(map(sys.getsizeof, array.flat))
    return total


def assemble(model: Model, batch: Sequence[Flight]) -> Tensors:
    """One array per input, the members' rows in order; a batch of one is not copied."""
    if len(batch) == 1:
        return batch[0].inputs
    return {
        spec.name: np.concatenate([member.inputs[spec.name] for member in batch])
        for spec in model.signature.inputs
    }


def check_outputs(model: Model, outputs: Tensors, rows: int) -> None:
    """Wrong shapes must not reach callers: rows would be handed to the wrong neighbour."""
    for spec in model.signature.outputs:
        array = outputs.get(spec.name)
        shape = None if array is None else array.shape
        if shape != (rows, *spec.shape):
            raise ValueError(
                f"output {spec.name!r} has shape {shape}, expected {(rows, *spec.shape)}"
            )


def failed(
    model: Model,
    variant: Variant,
    cause: Exception,
    request_ids: Sequence[bytes],
    trace: TraceIds | None = None,
) -> RequestError:
    """What the members of a batch hear that broke, whatever broke. A cause that is not made for
    callers is logged once; they see the reference and nothing internal. `trace` is the batch's."""
    if isinstance(cause, RequestError):
        return cause
    reference = uuid.uuid4().hex[:12]
    log.error(
        "executor failed",
        model=model.name,
        variant=variant.name,
        reference=reference,
        **of_requests(request_ids, trace),
        exc_info=cause,
    )
    return ExecutorFailed(f"internal error, reference {reference}", reference)
