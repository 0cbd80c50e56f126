"""A model with steps, and what callers send it."""

from __future__ import annotations

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from builders import ONE_VECTOR
from gearshift.steps import Labels, Threshold
from grpc_bench import GrpcBench
from written import Written, column

(Y,) = ONE_VECTOR.outputs


def steps(**changes: object) -> dict[str, object]:
    after = (Threshold(Y, "high", 10.0), Labels(Y, "label", ["sum"], 1))
    return {"before": (Written(**changes),), "after": after}


def text_of(*sent: bytes, name: str = "written") -> triton.InferInput:
    made = triton.InferInput(name, [len(sent), 1], "BYTES")
    made.set_data_from_numpy(column(*sent))
    return made


def numbers_of(*rows: list[float]) -> triton.InferInput:
    made = triton.InferInput("x", [len(rows), 3], "FP32")
    made.set_data_from_numpy(np.array(rows, np.float32))
    return made


def refused(client, *inputs, **options) -> tuple[str, str]:
    with pytest.raises(InferenceServerException) as caught:
        client.infer("m", list(inputs), **options)
    return caught.value.status().removeprefix("StatusCode."), caught.value.message()


def step_of(bench: GrpcBench) -> Written:
    (step,) = bench.engine.catalog.models["m"].before
    assert isinstance(step, Written)
    return step


def asked(client, *sent: bytes, **options) -> list[object]:
    """Asks without waiting; the list gets the answer, or the error."""
    got: list[object] = []
    client.async_infer(
        "m", [text_of(*sent)], lambda result, error: got.append(error or result), **options
    )
    return got
