"""Evaluation of the artifact as served.

Every variant of a model goes through this one code path: an ONNX Runtime session on the very
file that is published, one thread, in batches of the size that the server allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from gearshift.errors import GearshiftError

Array = npt.NDArray[np.generic]
MAX_BATCH = 64
EXACT_INT8 = ("session.x64quantprecision", "1")
"""As the server's executor sets it: without it an int8 artifact is another model, some points
worse, on x86 processors that have no VNNI instructions (see docs/decisions)."""


class NotFinite(GearshiftError):
    """An artifact answers what is no number."""


def session(artifact: Path | bytes) -> onnxruntime.InferenceSession:
    """A session as the server opens it by default: CPU, one thread, all optimizations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry(*EXACT_INT8)
    source = artifact if isinstance(artifact, bytes) else str(artifact)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def predict(
    artifact: Path | bytes, inputs: Mapping[str, Array], batch: int = MAX_BATCH
) -> npt.NDArray[np.float32]:
    """The artifact's first output for all rows of `inputs`, computed in batches of `batch`.

    NotFinite when an answer holds NaN or infinity: no metric of such a thing means anything.
    """
    runtime = session(artifact)
    n = len(next(iter(inputs.values())))
    parts = [
        runtime.run(None, {name: array[start : start + batch] for name, array in inputs.items()})[0]
        for start in range(0, n, batch)
    ]
    outputs: npt.NDArray[np.float32] = np.concatenate(parts)
    if not np.isfinite(outputs).all():
        row = int(np.flatnonzero(~np.isfinite(outputs).reshape(n, -1).all(axis=1))[0])
        raise NotFinite(f"the artifact answers NaN or infinity, first for row {row} of {n}")
    return outputs
