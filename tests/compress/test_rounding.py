"""Rounding from data: layers make good the errors of those before them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from gearshift.compress.packing import round_weights
from gearshift.compress.rounding import round_network


def silent(line: str) -> None:
    """Nobody listens to the progress here."""


def network(channels: int = 24) -> bytes:
    """x float [n, 4, 12, 12] through a pointwise, a depthwise and a pointwise layer."""
    rng = np.random.default_rng(0)
    weights = {
        "a": rng.normal(size=(channels, 4, 1, 1)),
        "ab": rng.normal(size=channels),
        "d": rng.normal(size=(channels, 1, 3, 3)),
        "db": rng.normal(size=channels),
        "b": rng.normal(size=(8, channels, 1, 1)),
        "bb": rng.normal(size=8),
    }
    nodes = [
        helper.make_node("Conv", ["x", "a", "ab"], ["p"]),
        helper.make_node("Relu", ["p"], ["q"]),
        helper.make_node("Conv", ["q", "d", "db"], ["r"], group=channels),
        helper.make_node("Relu", ["r"], ["s"]),
        helper.make_node("Conv", ["s", "b", "bb"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4, 12, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8, 10, 10])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )
    opsets = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(model.SerializeToString())


def examples(n: int = 60, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, 4, 12, 12)) + rng.normal(size=(n, 4, 1, 1))).astype(np.float32)


def run(content: bytes, x: np.ndarray) -> np.ndarray:
    runtime = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.asarray(runtime.run(None, {"x": x})[0])


def plainly_rounded(content: bytes, bits: int) -> bytes:
    model = onnx.load_from_string(content)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim == 4:
            rounded = round_weights(values, bits).values()
            tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
    return bytes(model.SerializeToString())


def error(content: bytes, found: bytes, x: np.ndarray) -> float:
    exact = run(content, x)
    return float(np.linalg.norm(run(found, x) - exact) / np.linalg.norm(exact - exact.mean()))


def test_data_make_rounding_better_on_examples_not_used() -> None:
    content, unseen = network(), examples(seed=2)
    found, _ = round_network(content, {"x": examples()}, lambda shape: 3, silent)
    plain = error(content, plainly_rounded(content, 3), unseen)
    assert error(content, found, unseen) < 0.8 * plain


def test_every_weight_is_what_its_indices_say() -> None:
    found, rounded = round_network(
        network(), {"x": examples()}, lambda shape: 6 if shape[2:] == (3, 3) else 3, silent
    )
    stored = {t.name: t for t in onnx.load_from_string(found).graph.initializer}
    assert {name: each.bits for name, each in rounded.items()} == {"a": 3, "d": 6, "b": 3}
    for name, each in rounded.items():
        np.testing.assert_array_equal(numpy_helper.to_array(stored[name]), each.values())


def test_channels_keep_their_mean() -> None:
    content, x = network(), examples()
    found, _ = round_network(content, {"x": x}, lambda shape: 3, silent)
    means = [run(model, x).mean(axis=(0, 2, 3)) for model in (content, found)]
    np.testing.assert_allclose(means[1], means[0], atol=1e-4)
    plain = run(plainly_rounded(content, 3), x).mean(axis=(0, 2, 3))
    assert np.abs(plain - means[0]).max() > 0.05


@pytest.mark.parametrize("n", [1, 3])
def test_fewer_examples_than_channels_are_no_obstacle(n: int) -> None:
    content = network(channels=64)
    found, _ = round_network(content, {"x": examples(n)}, lambda shape: 4, silent)
    assert error(content, found, examples(seed=2)) < 0.5


def test_the_same_data_give_the_same_network() -> None:
    first, second = (
        round_network(network(), {"x": examples()}, lambda shape: 3, silent)[0] for _ in range(2)
    )
    assert first == second
