"""Eight-bit integers by ONNX Runtime's quantizer, and which layers must not have them.

Static (QDQ): activations get the scales that calibration rows set, weights one scale a
channel. Dynamic: weights are stored as integers, activations are scaled as they come, which
pays for products of matrices (transformers).
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantType,
    quantize_dynamic,
)
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.shape_inference import quant_pre_process

from gearshift.compress.dataset import Array, Part
from gearshift.compress.graph_file import IR_VERSION
from gearshift.errors import GearshiftError

METHODS: Mapping[str, CalibrationMethod] = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}
CONVOLUTIONAL = (
    "Conv",
    "Gemm",
    "MatMul",
    "Add",
    "Relu",
    "PRelu",
    "ReduceMean",
    "GlobalAveragePool",
    "MaxPool",
)
"""What becomes int8 in a graph with convolutions. Softmax and Sigmoid stay in float32: they are
cheap, and their rounding would be the answer's."""
PRODUCTS = ("Gemm", "MatMul", "Gather")
"""What becomes int8 in any other graph: the sums of a transformer hold its mask, a number so far
below all others that a scale that reaches it tells none of them apart."""
WEIGHTED = ("Conv", "Gemm", "MatMul")
BATCH = 32


class QuantizationError(GearshiftError):
    """The quantizer cannot handle a graph."""


@dataclass(frozen=True, slots=True)
class Quantized:
    """An int8 graph and the nodes that stayed in floating point in it."""

    content: bytes
    left: tuple[str, ...]


class _Rows(CalibrationDataReader):  # type: ignore[misc]
    """Feeds calibration rows in batches of one size: histograms take no other."""

    def __init__(self, part: Part, batch: int) -> None:
        size = min(batch, len(part))
        self._batches: Iterator[dict[str, Array]] = iter(
            [
                dict(part.rows(slice(start, start + size)).inputs)
                for start in range(0, len(part) - size + 1, size)
            ]
        )

    def get_next(self) -> dict[str, Array] | None:
        return next(self._batches, None)


class StaticQuantizer:
    """One graph with its scales, from which int8 forms are made with this or that layer left.

    Calibration runs the graph once; leaving layers out afterwards costs a second each.
    """

    def __init__(
        self,
        content: bytes,
        calibration: Part,
        method: str,
        per_channel: bool,
        bins: int | None = None,
    ) -> None:
        if not len(calibration):
            raise QuantizationError(
                "static quantization needs calibration rows, and there are none"
            )
        self._per_channel = per_channel
        self._content = _prepared(content)
        self._ranges = _ranges(self._content, calibration, method, bins)
        graph = onnx.load_from_string(self._content).graph
        self.layers = [node.name for node in graph.node if node.op_type in WEIGHTED]
        """Nodes that hold weights, in the graph's order."""

    def quantize(self, left: Sequence[str] = ()) -> bytes:
        """The int8 form in which the nodes `left` stay in floating point."""
        model = onnx.load_from_string(self._content)
        with _explained():
            quantizer = QDQQuantizer(
                model,
                self._per_channel,
                False,
                QuantType.QInt8,
                QuantType.QUInt8,
                self._ranges,
                [],
                list(left),
                operators(model),
                {},
            )
            quantizer.quantize_model()
        result = quantizer.model.model
        result.ir_version = IR_VERSION
        return bytes(result.SerializeToString())


def static(
    content: bytes,
    calibration: Part,
    *,
    method: str,
    per_channel: bool = True,
    keep: Sequence[str] = (),
    tolerance: float = 0.0,
    most_left: int = 0,
    score: Callable[[bytes], float] | None = None,
    goal: float = -np.inf,
    report: Callable[[str], None] = lambda line: None,
    bins: int | None = None,
) -> Quantized:
    """Quantize, and while `score` stays more than `tolerance` under `goal`, leave layers out.

    `score` measures a graph on calibration rows, higher is better. The layer that goes back to
    floating point is each time the one whose return gains most: found by measuring every one.
    `bins` is how finely a histogram is looked at, ONNX Runtime's own number by default.
    """
    quantizer = StaticQuantizer(content, calibration, method, per_channel, bins)
    unknown = [name for name in keep if name not in _node_names(content)]
    if unknown:
        raise QuantizationError(
            f"keep names {', '.join(unknown)}, which the graph does not have; its layers with "
            f"weights are {', '.join(quantizer.layers)}"
        )
    left = list(keep)
    found = quantizer.quantize(left)
    if score is None:
        return Quantized(found, tuple(left))
    reached = score(found)
    while goal - reached > tolerance and len(left) - len(keep) < most_left:
        tried = {}
        for layer in quantizer.layers:
            if layer not in left:
                candidate = quantizer.quantize([*left, layer])
                tried[layer] = (score(candidate), candidate)
        if not tried:
            break
        best = max(tried, key=lambda layer: tried[layer][0])
        if tried[best][0] <= reached:
            break
        report(f"leaves {best} in floating point: {reached:.4f} becomes {tried[best][0]:.4f}")
        left.append(best)
        reached, found = tried[best]
    return Quantized(found, tuple(left))


def dynamic(content: bytes, *, per_channel: bool = True, keep: Sequence[str] = ()) -> Quantized:
    """Weights of products as int8, activations scaled as they come."""
    with tempfile.TemporaryDirectory() as temporary:
        source, target = Path(temporary, "source.onnx"), Path(temporary, "target.onnx")
        source.write_bytes(_prepared(content))
        with _explained():
            quantize_dynamic(
                source,
                target,
                per_channel=per_channel,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=list(keep),
            )
        model = onnx.load(target)
    model.ir_version = IR_VERSION
    return Quantized(bytes(model.SerializeToString()), tuple(keep))


def _prepared(content: bytes) -> bytes:
    """The graph with shapes inferred and constants folded, as the quantizer wants it."""
    with tempfile.TemporaryDirectory() as temporary:
        source, target = Path(temporary, "source.onnx"), Path(temporary, "ready.onnx")
        source.write_bytes(content)
        with _explained():
            quant_pre_process(str(source), str(target), skip_symbolic_shape=True)
        return target.read_bytes()


def _ranges(content: bytes, calibration: Part, method: str, bins: int | None) -> Any:
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary, "source.onnx")
        source.write_bytes(content)
        # Histograms want every activation at once; min-max forgets a batch before the next.
        with _explained(), contextlib.redirect_stdout(io.StringIO()):
            calibrator = create_calibrator(
                source,
                operators(onnx.load_from_string(content)),
                augmented_model_path=str(Path(temporary, "augmented.onnx")),
                calibrate_method=METHODS[method],
                extra_options={} if bins is None else {"num_bins": bins},
            )
            calibrator.collect_data(_Rows(calibration, BATCH))
            ranges = calibrator.compute_data()
            del calibrator
    return ranges


def operators(model: onnx.ModelProto) -> list[str]:
    """The kinds of nodes that are quantized in this graph."""
    kinds = {node.op_type for node in model.graph.node}
    return list(CONVOLUTIONAL if "Conv" in kinds else PRODUCTS)


def _node_names(content: bytes) -> set[str]:
    return {node.name for node in onnx.load_from_string(content).graph.node}


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """What the quantizer throws, of whatever type, as one error that says where it came from."""
    try:
        yield
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise QuantizationError(
            f"ONNX Runtime's quantizer cannot handle this graph: "
            f"{reason[0] if reason else type(error).__name__}; leave the operator in floating "
            "point by its name in `keep`, or take method = 'dynamic'"
        ) from error
