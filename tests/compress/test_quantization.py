"""int8 forms agree with what they were made of, and layers that cannot bear it are found."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from gearshift.compress import conversion, quantization
from gearshift.compress.dataset import Part
from gearshift.compress.evaluate import predict
from onnx_models import blobs, classifier, row_sum


def part(n: int = 200, seed: int = 3) -> Part:
    rows, labels = blobs(n, seed)
    return Part({"x": rows}, labels)


def agreement(one: bytes, other: bytes) -> float:
    rows = part(300, seed=4).inputs
    return float((predict(one, rows).argmax(1) == predict(other, rows).argmax(1)).mean())


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    return classifier(tmp_path / "model.onnx", hidden=256).read_bytes()


@pytest.mark.parametrize("method", quantization.METHODS)
@pytest.mark.parametrize("per_channel", [True, False])
def test_static_int8_is_smaller_and_agrees(content: bytes, method: str, per_channel: bool) -> None:
    found = quantization.static(content, part(), method=method, per_channel=per_channel)
    assert len(found.content) < 0.55 * len(content)
    assert found.left == ()
    assert agreement(found.content, content) > 0.97
    kinds = {node.op_type for node in onnx.load_from_string(found.content).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds


def test_dynamic_int8_is_smaller_and_agrees(content: bytes) -> None:
    found = quantization.dynamic(content)
    assert len(found.content) < 0.55 * len(content)
    assert agreement(found.content, content) > 0.97


def test_few_calibration_rows_are_enough_for_a_histogram(content: bytes) -> None:
    quantization.static(content, part(7), method="entropy")


def test_the_layer_whose_return_gains_most_is_left_in_float(content: bytes) -> None:
    """The score is a stand-in: it counts which of the layers are in float."""
    values = {("hidden",): 0.95, ("head",): 0.6, ("head", "hidden"): 0.97, (): 0.5}

    def score(candidate: bytes) -> float:
        graph = onnx.load_from_string(candidate).graph
        weights = {tensor.name for tensor in graph.initializer}
        names = {"hidden": "w1", "head": "w2"}
        return values[tuple(sorted(k for k, weight in names.items() if weight in weights))]

    def left(tolerance: float, most: int) -> tuple[str, ...]:
        return quantization.static(
            content,
            part(),
            method="minmax",
            tolerance=tolerance,
            most_left=most,
            score=score,
            goal=1.0,
        ).left

    assert left(0.6, 8) == ()
    assert left(0.06, 8) == ("hidden",)
    assert left(0.01, 8) == ("hidden", "head")
    assert left(0.01, 1) == ("hidden",)


def test_a_node_that_is_kept_stays_in_float(content: bytes) -> None:
    found = quantization.static(content, part(), method="minmax", keep=["head"])
    assert "w2" in {
        tensor.name for tensor in onnx.load_from_string(found.content).graph.initializer
    }
    with pytest.raises(quantization.QuantizationError, match="keep names tail, .* hidden, head"):
        quantization.static(content, part(), method="minmax", keep=["tail"])


def test_what_the_quantizer_cannot_do_is_one_clear_error(content: bytes) -> None:
    with pytest.raises(quantization.QuantizationError, match="needs calibration rows"):
        quantization.static(content, part(0), method="minmax")
    with pytest.raises(quantization.QuantizationError, match="cannot handle this graph: .*`keep`"):
        quantization.static(b"not a graph", part(), method="minmax")


@pytest.mark.parametrize("convert", [conversion.to_fp16, conversion.to_bf16_weights])
def test_sixteen_bits_halve_the_file_and_agree(content: bytes, convert: object) -> None:
    found = convert(content)  # type: ignore[operator]
    assert len(found) < 0.6 * len(content)
    assert agreement(found, content) > 0.98


def test_small_tensors_keep_their_bits(tmp_path: Path) -> None:
    content = row_sum(tmp_path / "model.onnx").read_bytes()
    assert conversion.to_bf16_weights(content) == content
