"""ONNX graphs for tabular variants, built node by node: raw features in, a probability out.

Writing the few operators directly keeps one signature for all variants (converters add labels
and maps of their own), folds the preprocessing into the first layer, and makes the float32
thresholds of the trees exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
import onnx.compose
from onnx import TensorProto, helper, numpy_helper

Floats = npt.NDArray[np.float32]

OPSET = 17
ML_OPSET = 3
IR_VERSION = 8
"""Old enough for every ONNX Runtime that can be expected beside this package (1.20 and on)."""
FEATURES = "features"
PROBABILITY = "probability"
LOG_OFFSET = 0.01
"""Keeps the logarithm of zero finite; small beside what is measured."""


def tabular_model(
    nodes: Sequence[onnx.NodeProto], constants: Sequence[onnx.TensorProto], width: int
) -> bytes:
    """A checked model `features` [n, width] -> `probability` [n, 1] around `nodes`."""
    graph = helper.make_graph(
        nodes,
        "gearshift",
        [helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["batch", width])],
        [helper.make_tensor_value_info(PROBABILITY, TensorProto.FLOAT, ["batch", 1])],
        constants,
    )
    model = helper.make_model(
        graph,
        producer_name="gearshift",
        ir_version=IR_VERSION,
        opset_imports=[
            helper.make_opsetid("", OPSET),
            helper.make_opsetid("ai.onnx.ml", ML_OPSET),
        ],
    )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """Standardization after clipping: (min(max(x, low), high) - mean) / deviation, each [d].

    Clipping bounds what an extreme raw value can do to a network that never saw one. A column
    is ignored by a deviation of infinity.
    """

    low: Floats
    high: Floats
    mean: Floats
    deviation: Floats
    logarithmic: bool = False
    """Take log(max(x, 0) + `LOG_OFFSET`) first: for lengths and areas, which are skewed."""

    @classmethod
    def fit(
        cls,
        features: Floats,
        reach: float,
        *,
        ignored: Sequence[int] = (),
        logarithmic: bool = False,
    ) -> Scaling:
        """Fit on training rows: clip at `reach` deviations from the mean, drop `ignored`."""
        wide = (_logarithm(features) if logarithmic else features).astype(np.float64)
        mean, deviation = wide.mean(axis=0), wide.std(axis=0)
        low, high = mean - reach * deviation, mean + reach * deviation
        deviation[list(ignored)] = np.inf
        mean[list(ignored)] = 0.0
        single = np.float32
        return cls(
            low=low.astype(single),
            high=high.astype(single),
            mean=mean.astype(single),
            deviation=deviation.astype(single),
            logarithmic=logarithmic,
        )

    def apply(self, features: Floats) -> Floats:
        """The scaled features, as a network is trained on them: float32 [n, d]."""
        values = _logarithm(features) if self.logarithmic else features
        clipped = np.clip(values, self.low, self.high)
        scaled: Floats = ((clipped - self.mean) / self.deviation).astype(np.float32)
        return scaled


@dataclass(frozen=True, slots=True)
class Layer:
    """One fully connected layer of one or many members: weight [m, d, k], bias [m, 1, k]."""

    weight: Floats
    bias: Floats


def perceptron(scaling: Scaling, layers: Sequence[Layer]) -> bytes:
    """Members of fully connected layers with ReLU between; the mean of their sigmoids.

    The scaling after the clipping is folded into the first layer. Several members with one
    hidden layer become one wide network; deeper ones are batched products [m, n, d] x [m, d, k].
    """
    first = layers[0].weight / scaling.deviation[None, :, None]
    shift = layers[0].bias - np.einsum("d,mdk->mk", scaling.mean, first)[:, None, :]
    folded = [Layer(first, shift), *layers[1:]]
    if len(folded) == 2:
        folded = side_by_side(*folded)
    members = folded[0].weight.shape[0]
    outputs = folded[-1].weight.shape[2]
    constants = [_constant("low", scaling.low), _constant("high", scaling.high)]
    nodes = []
    source = FEATURES
    if scaling.logarithmic:
        constants += [
            _constant("zero", np.zeros(1, np.float32)),
            _constant("offset", np.full(1, LOG_OFFSET, np.float32)),
        ]
        nodes += [
            helper.make_node("Max", [FEATURES, "zero"], ["positive"]),
            helper.make_node("Add", ["positive", "offset"], ["shifted"]),
            helper.make_node("Log", ["shifted"], ["logarithm"]),
        ]
        source = "logarithm"
    nodes += [
        helper.make_node("Max", [source, "low"], ["above"]),
        helper.make_node("Min", ["above", "high"], ["clipped"]),
    ]
    current = "clipped"
    for index, layer in enumerate(folded):
        weight, bias, out = f"weight{index}", f"bias{index}", f"sum{index}"
        last = index == len(folded) - 1
        if members == 1:
            constants += [_constant(weight, layer.weight[0]), _constant(bias, layer.bias[0, 0])]
            nodes.append(helper.make_node("Gemm", [current, weight, bias], [out]))
        else:
            constants += [_constant(weight, layer.weight), _constant(bias, layer.bias)]
            nodes.append(helper.make_node("MatMul", [current, weight], [f"product{index}"]))
            nodes.append(helper.make_node("Add", [f"product{index}", bias], [out]))
        current = f"active{index}"
        nodes.append(helper.make_node("Sigmoid" if last else "Relu", [out], [current]))
    if members > 1:
        nodes.append(helper.make_node("ReduceMean", [current], [PROBABILITY], axes=[0], keepdims=0))
    elif outputs > 1:
        nodes.append(helper.make_node("ReduceMean", [current], [PROBABILITY], axes=[1], keepdims=1))
    else:
        nodes[-1].output[0] = PROBABILITY
    return tabular_model(nodes, constants, len(scaling.low))


def side_by_side(hidden: Layer, output: Layer) -> list[Layer]:
    """Members with one hidden layer as one network whose outputs [n, m] are theirs.

    They read the same inputs, so their hidden layers join without a wasted product; only the
    output layer gets zeros (a block per member). Two plain products beat two batched ones.
    """
    members, width, units = hidden.weight.shape
    joined = np.zeros((1, members * units, members), np.float32)
    for member in range(members):
        joined[0, member * units : (member + 1) * units, member] = output.weight[member, :, 0]
    return [
        Layer(
            hidden.weight.transpose(1, 0, 2).reshape(1, width, members * units),
            hidden.bias.reshape(1, 1, members * units),
        ),
        Layer(joined, output.bias.reshape(1, 1, members)),
    ]


@dataclass(slots=True)
class Forest:
    """Trees in the flat form of ONNX's TreeEnsembleRegressor; every leaf adds its value.

    Rows go to the left child where feature <= threshold.
    """

    tree: list[int] = field(default_factory=list)
    node: list[int] = field(default_factory=list)
    feature: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    leaf_tree: list[int] = field(default_factory=list)
    leaf_node: list[int] = field(default_factory=list)
    leaf_value: list[float] = field(default_factory=list)
    trees: int = 0

    def add(
        self,
        feature: npt.NDArray[np.int64],
        threshold: npt.NDArray[np.float64],
        left: npt.NDArray[np.int64],
        right: npt.NDArray[np.int64],
        value: npt.NDArray[np.float64],
    ) -> None:
        """Append a tree given by arrays over its nodes; a negative feature marks a leaf."""
        exact = float32_at_most(threshold)
        for index in range(len(feature)):
            leaf = feature[index] < 0
            self.tree.append(self.trees)
            self.node.append(index)
            self.feature.append(0 if leaf else int(feature[index]))
            self.threshold.append(0.0 if leaf else float(exact[index]))
            self.left.append(0 if leaf else int(left[index]))
            self.right.append(0 if leaf else int(right[index]))
            if leaf:
                self.leaf_tree.append(self.trees)
                self.leaf_node.append(index)
                self.leaf_value.append(float(value[index]))
        self.trees += 1

    def parameters(self) -> int:
        """Two numbers per split (feature, threshold) and one per leaf."""
        return 2 * (len(self.node) - len(self.leaf_node)) + len(self.leaf_node)

    def model(self, width: int, *, offset: float | None = None) -> bytes:
        """The ONNX model: the sum of the leaves that a row of `width` features ends in.

        With `offset` the leaves are log-odds: it is added to them, and a sigmoid follows.
        """
        leaves = set(zip(self.leaf_tree, self.leaf_node, strict=True))
        modes = [
            "LEAF" if key in leaves else "BRANCH_LEQ"
            for key in zip(self.tree, self.node, strict=True)
        ]
        # The division by the number of trees is in the leaf values already: no second pass.
        ensemble = helper.make_node(
            "TreeEnsembleRegressor",
            [FEATURES],
            [PROBABILITY if offset is None else "logit"],
            domain="ai.onnx.ml",
            n_targets=1,
            aggregate_function="SUM",
            # ONNX Runtime's regressor ignores LOGISTIC here, so the sigmoid is a node of its own.
            post_transform="NONE",
            base_values=[offset or 0.0],
            nodes_treeids=self.tree,
            nodes_nodeids=self.node,
            nodes_featureids=self.feature,
            nodes_values=self.threshold,
            nodes_modes=modes,
            nodes_truenodeids=self.left,
            nodes_falsenodeids=self.right,
            target_treeids=self.leaf_tree,
            target_nodeids=self.leaf_node,
            target_ids=[0] * len(self.leaf_tree),
            target_weights=self.leaf_value,
        )
        if offset is None:
            return tabular_model([ensemble], [], width)
        return tabular_model(
            [ensemble, helper.make_node("Sigmoid", ["logit"], [PROBABILITY])], [], width
        )


def mean_of(models: Sequence[bytes]) -> bytes:
    """One model that gives the mean of the probabilities of several with the same input."""
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    outputs = []
    width = 0
    for index, content in enumerate(models):
        graph = onnx.load_from_string(content).graph
        width = graph.input[0].type.tensor_type.shape.dim[1].dim_value
        renamed = onnx.compose.add_prefix_graph(graph, f"m{index}_", rename_inputs=False)
        nodes.extend(renamed.node)
        constants.extend(renamed.initializer)
        outputs.append(renamed.output[0].name)
    nodes.append(helper.make_node("Mean", outputs, [PROBABILITY]))
    return tabular_model(nodes, constants, width)


def float32_at_most(values: npt.NDArray[np.float64]) -> Floats:
    """The largest float32 not above each value.

    For any float32 x, `x <= value` is then the same as `x <= float32_at_most(value)`: a
    threshold rounded to the nearest could send a row to the other side.
    """
    nearest = values.astype(np.float32)
    down = np.nextafter(nearest, np.float32(-np.inf))
    return np.where(nearest.astype(np.float64) > values, down, nearest)


def _logarithm(features: Floats) -> Floats:
    logarithm: Floats = np.log(np.maximum(features, np.float32(0)) + np.float32(LOG_OFFSET))
    return logarithm


def _constant(name: str, values: Floats) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name)
