"""From a trained garment network to one ONNX file: folded, exported, checked, quantized."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from gearshift.compress.data import Pixels
from gearshift.compress.evaluate import predict
from gearshift.compress.garment_nets import WHITE
from gearshift.errors import GearshiftError

INPUT = "pixels"
OUTPUT = "probabilities"
OPSET = 18
IR_VERSION = 8
TOLERANCE = 2e-4
"""The largest difference of a probability between torch and ONNX Runtime, both in float32."""
CALIBRATION_IMAGES = 1_024
CHECKED_IMAGES = 256


class ExportError(GearshiftError):
    """The exported graph does not compute what the trained network computes."""


def folded(net: nn.Module) -> nn.Module:
    """A copy with every batch normalization, and the division by 255, inside a convolution.

    The zero padding stays right: black is zero before and after the division.
    """
    result = copy.deepcopy(net).eval()
    for module in result.modules():
        if isinstance(module, nn.Sequential):
            _fold_sequence(module)
    first = next(m for m in result.modules() if isinstance(m, nn.Conv2d))
    first.weight.data /= WHITE
    return result


def _fold_sequence(sequence: nn.Sequential) -> None:
    for index in range(len(sequence) - 1):
        conv, norm = sequence[index], sequence[index + 1]
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            sequence[index] = fuse_conv_bn_eval(conv, norm)
            sequence[index + 1] = nn.Identity()


def to_onnx(served: nn.Module, examples: Pixels) -> bytes:
    """Export a network of raw pixels uint8 [n, 28, 28] with a free first dimension.

    `examples` are run by both torch and ONNX Runtime, at several batch sizes; a difference
    above `TOLERANCE` is an error.
    """
    served = served.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    images = torch.from_numpy(examples[:CHECKED_IMAGES].copy())
    with warnings.catch_warnings():
        # The exporter warns about its own internals; nothing in them is ours to change.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            served,
            (images[:2],),
            input_names=[INPUT],
            output_names=[OUTPUT],
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
        expected = served(images).numpy()
    for batch in (1, 7, 64):
        found = predict(content, examples[:CHECKED_IMAGES], batch)
        difference = float(np.abs(found - expected).max())
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


class _Images(CalibrationDataReader):  # type: ignore[misc]
    """Feeds calibration images in batches of 64."""

    def __init__(self, pixels: Pixels) -> None:
        self._batches: Iterator[Pixels] = iter(
            [pixels[start : start + 64] for start in range(0, len(pixels), 64)]
        )

    def get_next(self) -> dict[str, Pixels] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


def to_int8(content: bytes, calibration: Pixels) -> bytes:
    """Static int8 quantization (QDQ, weights per channel), scales from training images.

    Softmax stays in float32: it is cheap, and its rounding would be the answer's.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source, prepared, target = (folder / n for n in ("fp32.onnx", "ready.onnx", "int8.onnx"))
        source.write_bytes(content)
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            _Images(calibration[:CALIBRATION_IMAGES]),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            op_types_to_quantize=[
                "Conv",
                "Gemm",
                "MatMul",
                "Add",
                "Relu",
                "ReduceMean",
                "GlobalAveragePool",
            ],
        )
        model = onnx.load(target)
    model.ir_version = IR_VERSION
    return bytes(model.SerializeToString())
