"""Few bits a weight: rounded well, stored densely, and computed with as promised."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from gearshift.compress.packing import (
    LARGEST_LEVEL,
    Rounded,
    levels_of,
    nearest,
    pack,
    packed,
    round_weights,
)

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("bits", range(2, 8))
def test_levels_rise_and_cannot_overflow(bits: int) -> None:
    levels = levels_of(bits)
    assert len(levels) == 2**bits
    assert (np.diff(levels.astype(int)) >= 0).all()
    # Two uint8 inputs times two weights must fit the 16 bits in which AVX2 adds them.
    assert 2 * 255 * np.abs(levels.astype(int)).max() < 2**15
    assert levels.max() <= LARGEST_LEVEL


@pytest.mark.parametrize("bits", [1, 8])
def test_other_widths_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match="2 to 7"):
        levels_of(bits)


def test_few_levels_are_those_of_least_error_for_normal_weights() -> None:
    # Max (1960), table 1: the outer two of four levels are 3.33 times as far out as the inner.
    assert levels_of(2).tolist() == [-63, -19, 19, 63]


def test_the_nearest_level_is_taken() -> None:
    levels = np.array([-10, 0, 4, 60], np.int8)
    values = np.array([-99.0, -6, -4, 1.9, 2.1, 31, 33])
    assert nearest(values, levels).tolist() == [0, 0, 1, 1, 2, 2, 3]


@pytest.mark.parametrize(("bits", "most"), [(3, 0.2), (4, 0.11), (6, 0.04)])
def test_rounding_errs_no_more_than_its_bits_allow(bits: int, most: float) -> None:
    weight = RNG.normal(size=(16, 64, 1, 1)) * RNG.uniform(0.1, 10, (16, 1, 1, 1))
    rounded = round_weights(weight, bits)
    assert rounded.bits == bits
    error = np.linalg.norm(rounded.values() - weight) / np.linalg.norm(weight)
    assert error < most


def test_what_is_on_the_grid_already_stays() -> None:
    rounded = round_weights(RNG.normal(size=(4, 32, 1, 1)), 4)
    again = round_weights(rounded.values(), 4)
    np.testing.assert_allclose(again.values(), rounded.values(), rtol=2e-3, atol=1e-4)


def test_feedback_makes_the_answers_better_than_rounding_each_weight() -> None:
    mixed = RNG.normal(size=(500, 8)) @ RNG.normal(size=(8, 40)) + RNG.normal(size=(500, 40)) * 0.1
    weight, gram = RNG.normal(size=(6, 40)), mixed.T @ mixed
    errors = [
        np.linalg.norm(mixed @ (round_weights(weight, 3, g).values() - weight).T)
        for g in (None, gram)
    ]
    assert errors[1] < 0.6 * errors[0]


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7])
def test_words_hold_every_index(bits: int) -> None:
    indices = RNG.integers(0, 2**bits, 1001).astype(np.uint8)
    words = packed(indices, bits)
    assert words.dtype == np.uint64
    assert len(words) == -(-1001 // (64 // bits))
    shifts = (np.arange(64 // bits, dtype=np.uint64) * np.uint64(bits))[:, None]
    unpacked = (words >> shifts) & np.uint64(2**bits - 1)
    np.testing.assert_array_equal(unpacked.ravel()[:1001], indices)


class Reader(CalibrationDataReader):
    """Three batches of the values that the test asks about."""

    def __init__(self, x: np.ndarray) -> None:
        self.batches = iter([{"x": x}] * 3)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def network() -> tuple[onnx.ModelProto, dict[str, Rounded]]:
    """Two convolutions with an activation between, their weights rounded to 3 and to 4 bits."""
    first, second = RNG.normal(size=(256, 3, 3, 3)), RNG.normal(size=(16, 256, 1, 1)) * 0.1
    rounded = {"a": round_weights(first, 4), "b": round_weights(second, 3)}
    slopes = RNG.uniform(0, 0.5, (256, 1, 1))
    constants = {
        "a": rounded["a"].values(),
        "a_bias": RNG.normal(size=256),
        "slope": slopes.astype(np.float16),
        "b": rounded["b"].values(),
        "b_bias": RNG.normal(size=16),
    }
    nodes = [
        helper.make_node("Conv", ["x", "a", "a_bias"], ["m"]),
        helper.make_node("Mul", ["m", "slope"], ["p"]),
        helper.make_node("Max", ["m", "p"], ["q"]),
        helper.make_node("Conv", ["q", "b", "b_bias"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 16, 6, 6])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8), rounded


def quantized(model: onnx.ModelProto, x: np.ndarray, folder: str) -> onnx.ModelProto:
    source, target = f"{folder}/source.onnx", f"{folder}/target.onnx"
    onnx.save(model, source)
    quantize_static(
        source,
        target,
        Reader(x),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Conv"],
    )
    return onnx.load(target)


def run(content: bytes, x: np.ndarray, optimized: str = "") -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = optimized
    runtime = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return np.asarray(runtime.run(None, {"x": x})[0])


def test_a_packed_network_computes_with_its_rounded_weights(tmp_path: object) -> None:
    model, rounded = network()
    x = RNG.normal(size=(4, 3, 8, 8)).astype(np.float32)
    exact = run(model.SerializeToString(), x)
    small = quantized(model, x, str(tmp_path))
    before = small.ByteSize()
    pack(small, rounded)
    onnx.checker.check_model(small, full_check=True)
    assert small.ByteSize() < before
    optimized = f"{tmp_path}/optimized.onnx"
    found = run(small.SerializeToString(), x, optimized)
    assert np.abs(found - exact).max() < 0.03 * np.abs(exact).max()
    # Everything is unpacked while the session is made: what runs is int8 as before.
    kinds = [node.op_type for node in onnx.load(optimized).graph.node]
    assert kinds.count("QLinearConv") == 2
    assert not {"BitShift", "Gather", "Split", "Round", "Conv"} & set(kinds)


def test_weights_that_nobody_reads_are_an_error(tmp_path: object) -> None:
    model, rounded = network()
    x = RNG.normal(size=(4, 3, 8, 8)).astype(np.float32)
    small = quantized(model, x, str(tmp_path))
    with pytest.raises(ValueError, match="'c'"):
        pack(small, {**rounded, "c": rounded["b"]})


def test_a_convolution_that_was_not_rounded_is_an_error(tmp_path: object) -> None:
    model, rounded = network()
    x = RNG.normal(size=(4, 3, 8, 8)).astype(np.float32)
    small = quantized(model, x, str(tmp_path))
    del rounded["b"]
    with pytest.raises(ValueError, match="'b' were not rounded"):
        pack(small, rounded)
