"""From a face network to ONNX bytes: exported and checked, merged, quantized to 8 and 4 bits."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from gearshift.compress import export
from gearshift.compress.dataset import Part
from gearshift.compress.evaluate import predict
from gearshift.compress.families.face_data import INPUT
from gearshift.compress.fusion import (
    merge_linear_convolutions,
    prelu_as_maximum,
    share_initializers,
    shorten_names,
)
from gearshift.compress.graph_file import CHECKED_ROWS, IR_VERSION, require_equal
from gearshift.compress.packing import Rounded, pack

Pixels = npt.NDArray[np.uint8]

OUTPUT = "embedding"
TOLERANCE = 1e-4
"""The largest difference that merging may make, as a share of the largest output."""
BATCH = 20


def to_onnx(net: nn.Module, examples: Pixels) -> bytes:
    """Export with a free first dimension, linear pairs merged; `examples` prove it equal."""
    part = Part({INPUT: examples}, np.zeros(len(examples), np.int64))
    exported = export.to_onnx(net, part, activation="none", output=OUTPUT)
    model = onnx.load_from_string(exported)
    merge_linear_convolutions(model)
    prelu_as_maximum(model)
    content = _finished(model)
    rows = part.rows(slice(0, CHECKED_ROWS)).inputs
    require_equal(predict(content, rows), predict(exported, rows), TOLERANCE, "simplified")
    return content


def _finished(model: onnx.ModelProto, *, share_int8: bool = False) -> bytes:
    share_initializers(model, int8=share_int8)
    shorten_names(model)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


class _Faces(CalibrationDataReader):  # type: ignore[misc]
    """Feeds calibration faces in small batches."""

    def __init__(self, faces: Pixels) -> None:
        self._batches: Iterator[Pixels] = iter(
            [faces[start : start + BATCH] for start in range(0, len(faces), BATCH)]
        )

    def get_next(self) -> dict[str, Pixels] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


def to_int8(
    content: bytes,
    calibration: Pixels,
    *,
    reduce_range: bool = True,
    method: CalibrationMethod = CalibrationMethod.MinMax,
) -> bytes:
    """Static quantization (QDQ, weights per channel), scales from `calibration` faces.

    `reduce_range` keeps weights to 7 bits: processors with AVX2 but without VNNI add two
    products of 8 bits in 16, which overflows; with it both kinds give the same answers.
    The normalization at the end stays in float32.
    """
    return _finished(_quantized(content, calibration, reduce_range, method))


def _quantized(
    content: bytes, calibration: Pixels, reduce_range: bool, method: CalibrationMethod
) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source, prepared, target = (folder / n for n in ("fp32.onnx", "ready.onnx", "int8.onnx"))
        source.write_bytes(content)
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            _Faces(calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=reduce_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=method,
            op_types_to_quantize=["Conv", "Add", "PRelu"],
        )
        model = onnx.load(target)
    model.ir_version = IR_VERSION
    return model


def to_packed(
    content: bytes,
    calibration: Pixels,
    rounded: Mapping[str, Rounded],
    *,
    method: CalibrationMethod = CalibrationMethod.MinMax,
) -> bytes:
    """As `to_int8`, with every convolution's weights rounded to few bits and packed.

    `rounded` has all of them by their names in `content`, as `convolutions` gives them.
    """
    model = onnx.load_from_string(content)
    for tensor in model.graph.initializer:
        if tensor.name in rounded:
            values = rounded[tensor.name].values()
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    quantized = _quantized(model.SerializeToString(), calibration, True, method)
    pack(quantized, rounded)
    # No packed weight has more than 7 bits.
    return _finished(quantized, share_int8=True)


def convolutions(content: bytes) -> dict[str, npt.NDArray[np.float32]]:
    """The weights of every convolution by name, in the order of the graph."""
    graph = onnx.load_from_string(content).graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    return {
        node.input[1]: onnx.numpy_helper.to_array(tensors[node.input[1]])
        for node in graph.node
        if node.op_type == "Conv"
    }
