"""What is simplified still computes the same; what may not be simplified is left alone."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from gearshift.compress.fusion import (
    merge_linear_convolutions,
    prelu_as_maximum,
    share_initializers,
    shorten_names,
)

Parts = list[onnx.NodeProto]


def graph(
    nodes: Parts, weights: dict[str, np.ndarray], outputs: tuple[str, ...]
) -> onnx.ModelProto:
    """A model of x float [n, 3, 8, 8] with these nodes, weights and outputs."""
    made = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list("nchw")) for name in outputs],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def answers(model: onnx.ModelProto) -> list[np.ndarray]:
    x = np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32)
    content = model.SerializeToString()
    runtime = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return list(runtime.run(None, {"x": x}))


def weight(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def pair(
    middle: int = 16, *, kernel: int = 1, outputs: tuple[str, ...] = ("y",), **second: object
) -> onnx.ModelProto:
    """x to `middle` channels to 5: the product of 15 numbers is smaller when middle is large."""
    nodes = [
        helper.make_node("Conv", ["x", "a", "ab"], ["m"], strides=[2, 2]),
        helper.make_node("Conv", ["m", "b"], ["y"], **second),
    ]
    weights = {
        "a": weight(middle, 3, kernel, kernel),
        "ab": weight(middle, seed=1),
        "b": weight(5, middle, 1, 1, seed=2),
    }
    return graph(nodes, weights, outputs)


def test_two_linear_layers_become_one_that_computes_the_same() -> None:
    model = pair()
    before = answers(model)[0]
    assert merge_linear_convolutions(model) == 1
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Conv"]
    assert sum(int(np.prod(t.dims)) for t in model.graph.initializer) == 15 + 5
    after = answers(model)[0]
    assert before.shape == after.shape == (2, 5, 4, 4)
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)


def test_three_in_a_row_become_one() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["m"]),
        helper.make_node("Conv", ["m", "b"], ["k"]),
        helper.make_node("Conv", ["k", "c"], ["y"]),
    ]
    weights = {"a": weight(9, 3, 1, 1), "b": weight(9, 9, 1, 1), "c": weight(2, 9, 1, 1)}
    model = graph(nodes, weights, ("y",))
    before = answers(model)[0]
    assert merge_linear_convolutions(model) == 2
    np.testing.assert_allclose(answers(model)[0], before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(pair(middle=1), id="the product is larger"),
        pytest.param(pair(outputs=("y", "m")), id="the middle is an output"),
        pytest.param(pair(kernel=3), id="the first looks around"),
        pytest.param(pair(strides=[2, 2]), id="the second strides"),
        pytest.param(pair(pads=[1, 1, 1, 1]), id="the second pads"),
    ],
)
def test_what_may_not_be_merged_is_left_alone(model: onnx.ModelProto) -> None:
    before = model.SerializeToString()
    assert merge_linear_convolutions(model) == 0
    assert model.SerializeToString() == before


def test_a_middle_with_two_readers_is_left_alone() -> None:
    model = pair()
    model.graph.node.append(helper.make_node("Relu", ["m"], ["r"]))
    model.graph.output.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, list("nchw")))
    assert merge_linear_convolutions(model) == 0


def test_a_grouped_convolution_is_left_alone() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["m"], group=3),
        helper.make_node("Conv", ["m", "b"], ["y"]),
    ]
    model = graph(nodes, {"a": weight(30, 1, 1, 1), "b": weight(2, 30, 1, 1)}, ("y",))
    assert merge_linear_convolutions(model) == 0


def activation(slopes: list[float]) -> onnx.ModelProto:
    values = np.array(slopes, np.float32).reshape(3, 1, 1)
    return graph([helper.make_node("PRelu", ["x", "s"], ["y"])], {"s": values}, ("y",))


def test_an_activation_becomes_a_maximum() -> None:
    model = activation([0.25, 1.0, -3.0])
    before = answers(model)[0]
    assert prelu_as_maximum(model) == 1
    assert [node.op_type for node in model.graph.node] == ["Mul", "Max"]
    np.testing.assert_array_equal(answers(model)[0], before)


def test_a_steep_activation_is_no_maximum() -> None:
    assert prelu_as_maximum(activation([0.25, 1.5, 0.0])) == 0


def test_equal_tensors_are_stored_once() -> None:
    nodes = [
        helper.make_node("Mul", ["x", "a"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["k"]),
        helper.make_node("Add", ["k", "c"], ["y"]),
    ]
    weights = {"a": weight(8), "b": weight(8), "c": weight(8, seed=1)}
    model = graph(nodes, weights, ("y",))
    before, size = answers(model)[0], model.ByteSize()
    assert share_initializers(model) > 32
    assert model.ByteSize() < size - 32
    assert [t.name for t in model.graph.initializer] == ["a", "c"]
    np.testing.assert_array_equal(answers(model)[0], before)


def test_zero_points_of_int8_stay_apart_unless_asked_for() -> None:
    zeros = {name: np.zeros(4, np.int8) for name in ("a", "b")}
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    assert share_initializers(graph(nodes, zeros, ("y",))) == 0
    assert share_initializers(graph(nodes, zeros, ("y",)), int8=True) > 0


def test_short_names_keep_the_signature_and_the_answers() -> None:
    model = pair()
    model.graph.node[1].name = "a name of some length"
    before = answers(model)[0]
    assert shorten_names(model) > 0
    onnx.checker.check_model(model)
    assert (model.graph.input[0].name, model.graph.output[0].name) == ("x", "y")
    np.testing.assert_array_equal(answers(model)[0], before)


def test_an_input_that_is_left_out_gets_no_name() -> None:
    nodes = [helper.make_node("Clip", ["x", "", "highest"], ["y"])]
    model = graph(nodes, {"highest": np.array(0.5, np.float32)}, ("y",))
    shorten_names(model)
    assert model.graph.node[0].input[1] == ""
    assert answers(model)[0].max() == 0.5
