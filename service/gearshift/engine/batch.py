"""One batch on its way to a worker and back: put together, failed, told of."""

from __future__ import annotations

import math
import sys
import uuid
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import structlog

from gearshift.core.catalog import Late, Model, Variant
from gearshift.core.decisions import Dispatch
from gearshift.core.wanted import worker_seconds
from gearshift.engine.flight import Flight
from gearshift.engine.log_keys import of_requests
from gearshift.errors import ExecutorFailed, RequestError
from gearshift.ports import BYTES, Ran, Tensors, TraceIds, Worker

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


def latest(batch: Sequence[Flight]) -> float:
    """When nobody has use for the answers any more, infinite where somebody always has."""
    tickets = [member.ticket for member in batch]
    return max(math.inf if ticket.late is Late.SERVE else ticket.deadline for ticket in tickets)


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


class Tally(NamedTuple):
    """What a batch's members are together: how many, their rows, the seconds that they waited, and
    the worker seconds that they would have cost in the gears that they wanted."""

    requests: int
    rows: int
    queue: float
    wanted: float


def tally(batch: Sequence[Flight], begun: float) -> Tally:
    """Of a batch that was begun then; whose first run this is not was counted with that."""
    rows = sum(member.ticket.rows for member in batch)
    queue = sum(begun - member.ticket.arrival for member in batch)
    fresh = [m for m in batch if m.first is None and m.failed_by is None]
    wanted = worker_seconds([(m.wanted, m.ticket) for m in fresh], rows)
    return Tally(len(batch), rows, queue, wanted)


def report(
    dispatch: Dispatch,
    worker: Worker,
    counted: Tally,
    times: tuple[float, float, float, float],
    predicted: tuple[float, float],
    broken: bool,
    trace: TraceIds | None,
) -> Ran:
    """What is told of a batch. `times` are when it was begun, put together, finished and settled;
    `predicted` the p50 and p99 of its duration."""
    variant, (begun, assembled, finished, settled) = dispatch.profile.runs.variant, times
    return Ran(
        model=dispatch.model.name,
        variant=variant.name,
        version=variant.version,
        worker=worker.id,
        device=worker.device,
        requests=counted.requests,
        rows=counted.rows,
        queue=counted.queue,
        input=assembled - begun,
        compute=finished - assembled,
        output=settled - finished,
        p50=predicted[0],
        p99=predicted[1],
        failed=broken,
        wanted=counted.wanted,
        trace=trace,
    )
