"""ONNX files: cleaned, counted, and held against what they were made from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx

from gearshift.errors import GearshiftError

Floats = npt.NDArray[np.float32]
IR_VERSION = 8
CHECKED_ROWS = 128


class ExportError(GearshiftError):
    """A graph does not compute what it was made from, or cannot be made."""


def require_equal(found: Floats, expected: Floats, tolerance: float, where: str) -> float:
    """The largest difference as a share of the largest output; ExportError above `tolerance`."""
    scale = max(float(np.abs(expected).max()), 1e-6)
    difference = float(np.abs(found - expected).max()) / scale
    if not difference <= tolerance:
        raise ExportError(
            f"{where} the graph differs by {difference:.2e} of the largest output from what it "
            f"was made from, more than {tolerance:.0e}"
        )
    return difference


def cleaned(model: onnx.ModelProto) -> bytes:
    """The file without the exporter's notes (they hold stack traces) and of a widely read age."""
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
    return bytes(model.SerializeToString())


def count_parameters(content: bytes) -> int:
    """How many floating-point numbers a graph holds, weights of eight bits among them."""
    graph = onnx.load_from_string(content).graph
    # A scale and a zero point describe weights, they are none.
    described = {name for node in graph.node for name in _scales(node)}
    return sum(
        int(np.prod(tensor.dims)) for tensor in graph.initializer if tensor.name not in described
    )


def _scales(node: onnx.NodeProto) -> Mapping[str, None]:
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return dict.fromkeys(node.input[1:])
    return {}
