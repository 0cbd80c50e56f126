"""From a trained network to one ONNX file that computes the same."""

from __future__ import annotations

import logging
import warnings

import torch
from torch import nn

from gearshift.compress.dataset import Part
from gearshift.compress.evaluate import predict
from gearshift.compress.graph_file import CHECKED_ROWS, ExportError, cleaned, require_equal
from gearshift.compress.networks import Answering

OPSET = 18
TOLERANCE = 1e-3
"""The largest difference between torch and ONNX Runtime, as a share of the largest output."""
BATCHES = (1, 7, 64)


# Whoever has no torchvision is told so at every export.
logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)


def to_onnx(net: nn.Module, examples: Part, *, activation: str, output: str) -> bytes:
    """Export `net` with `activation` behind it; the first dimension of every input is free.

    The exporter folds batch normalizations and constants. Rows of `examples` are run by torch
    and by ONNX Runtime at several batch sizes; a difference above `TOLERANCE` is an error.
    """
    served = Answering(net, activation).eval()
    rows = examples.rows(slice(0, CHECKED_ROWS))
    tensors = tuple(torch.from_numpy(array.copy()) for array in rows.inputs.values())
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        # The exporter warns about its own internals; nothing in them is ours to change.
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                served,
                tuple(tensor[:2] for tensor in tensors),
                input_names=list(rows.inputs),
                output_names=[output],
                dynamic_shapes={"inputs": tuple({0: batch} for _ in tensors)},
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        except Exception as error:
            reason = str(error).strip().splitlines()
            raise ExportError(
                f"{type(net).__name__} cannot be exported: {reason[0] if reason else error!r}"
            ) from error
    if program is None:
        raise ExportError("the exporter returned nothing")
    content = cleaned(program.model_proto)
    with torch.inference_mode():
        expected = served(*tensors).numpy()
    for size in BATCHES:
        require_equal(predict(content, rows.inputs, size), expected, TOLERANCE, f"at batch {size}")
    return content
