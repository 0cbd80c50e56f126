"""From a text network to one ONNX file: exported, checked, quantized."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from gearshift.compress.evaluate import predict
from gearshift.compress.families.text_data import INPUT
from gearshift.errors import GearshiftError

Ids = npt.NDArray[np.int64]

OUTPUT = "probabilities"
OPSET = 18
IR_VERSION = 8
TOLERANCE = 2e-4
"""The largest difference of an output between torch and ONNX Runtime, both in float32."""
CHECKED = 16
"""Rows that are run by both."""


class ExportError(GearshiftError):
    """The exported graph does not compute what the trained network computes."""


def to_onnx(served: nn.Module, ids: Ids, output: str = OUTPUT) -> bytes:
    """Export a network of token ids int64 [n, t] with a free first dimension.

    The first rows of `ids` are run by both torch and ONNX Runtime, at several batch sizes; a
    difference above `TOLERANCE` is an error.
    """
    served = served.eval()
    examples = ids[:CHECKED]
    rows = torch.from_numpy(examples.copy())
    with warnings.catch_warnings():
        # The exporter warns about its own internals; nothing in them is ours to change.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            served,
            (rows[:2],),
            input_names=[INPUT],
            output_names=[output],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise ExportError("the exporter returned nothing")
    model = program.model_proto
    _strip(model)
    content = bytes(model.SerializeToString())
    with torch.inference_mode():
        expected = served(rows).numpy()
    for batch in (1, 3, CHECKED):
        difference = float(np.abs(predict(content, examples, batch) - expected).max())
        if not difference <= TOLERANCE:
            raise ExportError(
                f"at batch {batch} the exported graph differs by {difference:.2e} from the "
                f"network, more than {TOLERANCE:.0e}"
            )
    return content


def _strip(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes (they hold stack traces), and date the format back."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        del part.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
    for tensor in graph.initializer:
        del tensor.metadata_props[:]
        tensor.doc_string = ""
    model.doc_string = graph.doc_string = ""
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)


def to_dynamic_int8(
    content: bytes, *, per_channel: bool = True, reduce_range: bool = False
) -> bytes:
    """Int8 weights, and activations whose scale is found anew at every product.

    The scale is found over all rows of a batch, so an answer depends a little on its
    neighbours. On processors without VNNI the products of 8-bit weights can overflow the 16
    bits that pairs of them are added in; `reduce_range` gives the weights 7 bits, which cannot
    (onnxruntime.ai/docs/performance/model-optimizations/quantization.html).
    """
    with tempfile.TemporaryDirectory() as temporary:
        source, target = (Path(temporary) / name for name in ("fp32.onnx", "int8.onnx"))
        source.write_bytes(content)
        prepared = source.with_name("ready.onnx")
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_dynamic(
            str(prepared),
            str(target),
            per_channel=per_channel,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
        )
        return _saved(onnx.load(target))


class _Rows(CalibrationDataReader):  # type: ignore[misc]
    """Feeds calibration rows one batch at a time."""

    def __init__(self, ids: Ids, batch: int = 16) -> None:
        self._batches: Iterator[Ids] = iter(
            [ids[start : start + batch] for start in range(0, len(ids), batch)]
        )

    def get_next(self) -> dict[str, Ids] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


def to_static_int8(content: bytes, calibration: Ids) -> bytes:
    """Int8 weights and activations with fixed scales, set by the rows `calibration` [n, t]."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source, prepared, target = (folder / n for n in ("fp32.onnx", "ready.onnx", "int8.onnx"))
        source.write_bytes(content)
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            _Rows(calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            op_types_to_quantize=["MatMul", "Gemm", "Gather"],
        )
        return _saved(onnx.load(target))


def _saved(model: onnx.ModelProto) -> bytes:
    model.ir_version = IR_VERSION
    return bytes(model.SerializeToString())
