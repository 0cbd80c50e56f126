"""Evaluation of the artifact as served, and the proof that it never saw the rows before.

Every variant of a model goes through this one code path: an ONNX Runtime session on the very
file that is published, one thread, in batches of the size that the server allows.
"""

from __future__ import annotations

import hashlib
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


class OverlapError(GearshiftError):
    """Evaluation rows were used for training: the measurement would mean nothing."""


def session(artifact: Path | bytes) -> onnxruntime.InferenceSession:
    """A session as the server opens it by default: CPU, one thread, all optimizations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry(*EXACT_INT8)
    source = artifact if isinstance(artifact, bytes) else str(artifact)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def predict(
    artifact: Path | bytes, inputs: Array, batch: int = MAX_BATCH
) -> npt.NDArray[np.float32]:
    """The artifact's only output for all rows of `inputs`, computed in batches of `batch`."""
    runtime = session(artifact)
    name = runtime.get_inputs()[0].name
    parts = [
        runtime.run(None, {name: inputs[start : start + batch]})[0]
        for start in range(0, len(inputs), batch)
    ]
    return np.concatenate(parts)


def row_digests(inputs: Array) -> npt.NDArray[np.bytes_]:
    """One 16-byte digest of the content of each row: equal rows have equal digests."""
    rows = np.ascontiguousarray(inputs).reshape(len(inputs), -1)
    digests = [hashlib.blake2b(row.tobytes(), digest_size=16).hexdigest() for row in rows]
    return np.array(digests, dtype="S32")


def content_sha256(inputs: Array, labels: Array) -> str:
    """The identity of a set of rows: SHA-256 over dtype, shape and bytes of both arrays."""
    digest = hashlib.sha256()
    for array in (inputs, labels):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def unseen(evaluation: Array, training: Array) -> npt.NDArray[np.bool_]:
    """True for each evaluation row whose content does not also occur in training.

    Public data sets hold duplicates; rows that a split happens to separate from their twin
    are left out of the evaluation, and their number is reported.
    """
    return ~np.isin(row_digests(evaluation), row_digests(training))


def require_disjoint(evaluation: Array, training: Array) -> None:
    """Refuse a measurement when any evaluation row also occurs, by content, in training."""
    seen = np.flatnonzero(~unseen(evaluation, training))
    if seen.size:
        raise OverlapError(
            f"{seen.size} of {len(evaluation)} evaluation rows also occur in the training rows "
            f"(the first is row {seen[0]}); leave them out with `unseen` before measuring"
        )
