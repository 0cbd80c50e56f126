"""What a model on another server takes and gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import triton_to_np_dtype

from gearshift.core.catalog import Signature, TensorSpec


def signature(metadata: pb.ModelMetadataResponse, batches: bool) -> Signature:
    """ValueError with a sentence for a model that cannot be served. `batches`: its first dimension
    is that of a batch, whatever it says."""
    return Signature(
        tuple(_spec(each, "input", batches) for each in metadata.inputs),
        tuple(_spec(each, "output", batches) for each in metadata.outputs),
    )


def _spec(tensor: Any, role: str, batches: bool) -> TensorSpec:
    shape: Sequence[int] = tuple(tensor.shape)
    if triton_to_np_dtype(tensor.datatype) is None:
        raise ValueError(f"{role} {tensor.name!r} has type {tensor.datatype!r}, which is not known")
    if not shape or not (batches or shape[0] == -1):
        raise ValueError(
            f"{role} {tensor.name!r} has shape {list(shape)} there; its first dimension must be"
            " that of a batch (in Triton: max_batch_size above 0, or -1 as the first of dims)"
        )
    if min(shape[1:], default=0) < 0:
        raise ValueError(
            f"{role} {tensor.name!r} has shape {list(shape)} there; only the first dimension may"
            " vary"
        )
    return TensorSpec(tensor.name, tensor.datatype, tuple(shape[1:]))
