"""Graph optimization at export: constants folded, operators fused, linear layers merged."""

from __future__ import annotations

import onnx

from gearshift.compress.dataset import Part
from gearshift.compress.evaluate import predict
from gearshift.compress.fusion import merge_linear_convolutions
from gearshift.compress.graph_file import CHECKED_ROWS, cleaned, require_equal


def optimized(content: bytes, examples: Part, tolerance: float) -> tuple[bytes, dict[str, object]]:
    """The graph with less in it, and what was done: ExportError if it computes anything else.

    onnxslim removes what is constant, unused or twice there and fuses what belongs together.
    Pairs of 1x1 convolutions with nothing between them are multiplied into one when that makes
    the graph smaller.
    """
    import onnxslim

    model = onnx.load_from_string(content)
    before = len(model.graph.node)
    merged = merge_linear_convolutions(model)
    slim = onnxslim.slim(model)
    result = cleaned(slim)
    rows = examples.rows(slice(0, CHECKED_ROWS)).inputs
    difference = require_equal(
        predict(result, rows), predict(content, rows), tolerance, "optimized"
    )
    return result, {
        "nodes_before": before,
        "nodes_after": len(slim.graph.node),
        "convolutions_merged": merged,
        "bytes_before": len(content),
        "bytes_after": len(result),
        "largest_difference": difference,
    }
