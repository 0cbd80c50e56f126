"""Exact simplifications of ONNX graphs: the same function with fewer numbers to store.

Rounding of the last bits aside, every function here leaves what the graph computes as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

Array = npt.NDArray[np.floating]


def merge_linear_convolutions(model: onnx.ModelProto) -> int:
    """Replace pairs of consecutive 1 x 1 convolutions by their product; return how many.

    B(Ax + a) + b is (BA)x + (Ba + b): one convolution does the work of two when nothing else
    reads what lies between. Only pairs whose product holds fewer numbers are replaced. Neither
    may be padded or grouped, and the second must not stride. Runs until no pair is left.
    """
    merged = 0
    while _merge_one(model.graph):
        merged += 1
    if merged:
        _drop_unread_initializers(model.graph)
    return merged


def share_initializers(model: onnx.ModelProto, *, int8: bool = False) -> int:
    """Store tensors of equal type, shape and content once; return the bytes that this saves.

    Quantized graphs hold the same zero points and scales many times over. Tensors of type int8
    stay apart unless `int8` is set: asked for exact products (session.x64quantprecision) on a
    processor without VNNI, ONNX Runtime rewrites weights above 7 bits with their zero points,
    and fails on a zero point that it has rewritten before. Weights of 7 bits are left alone.
    """
    graph = model.graph
    kept: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    renamed, saved = {}, 0
    inputs = {value.name for value in graph.input}
    for tensor in list(graph.initializer):
        content = tensor.raw_data or numpy_helper.to_array(tensor).tobytes()
        key = (tensor.data_type, tuple(tensor.dims), content)
        if tensor.name in inputs or (tensor.data_type == onnx.TensorProto.INT8 and not int8):
            continue
        first = kept.setdefault(key, tensor.name)
        if first != tensor.name:
            renamed[tensor.name] = first
            saved += tensor.ByteSize()
            graph.initializer.remove(tensor)
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
    return saved


def shorten_names(model: onnx.ModelProto) -> int:
    """Number the inner values, drop notes, shapes and defaults; return the bytes that this saves.

    Inputs and outputs keep their names: they are the graph's signature.
    """
    graph, before = model.graph, model.ByteSize()
    names = {value.name: value.name for value in (*graph.input, *graph.output)}
    for tensor in graph.initializer:
        tensor.name = names.setdefault(tensor.name, f"w{len(names)}")
        tensor.doc_string = ""
    for node in graph.node:
        for field in (node.input, node.output):
            for index, name in enumerate(field):
                # An empty name stands for an optional input that is left out.
                field[index] = names.setdefault(name, f"v{len(names)}") if name else ""
        node.name = node.doc_string = ""
        del node.metadata_props[:]
        kept = [each for each in node.attribute if not _is_default(node, each)]
        del node.attribute[:]
        node.attribute.extend(kept)
    del graph.value_info[:]
    del model.metadata_props[:]
    return int(before - model.ByteSize())


def prelu_as_maximum(model: onnx.ModelProto) -> int:
    """Write PRelu(x) as max(x, slope x) where every slope is at most one; return how many.

    The same numbers, but ONNX Runtime's kernel for PRelu takes three to four times as long as
    these two operators, and keeps a convolution before it from its blocked layout.
    """
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    rewritten = 0
    for position, node in enumerate(list(graph.node)):
        slope = tensors.get(node.input[1]) if node.op_type == "PRelu" else None
        if slope is None or (numpy_helper.to_array(slope) > 1.0).any():
            continue
        x, product = node.input[0], f"{node.output[0]}_below"
        graph.node.remove(node)
        pair = (
            onnx.helper.make_node("Mul", [x, node.input[1]], [product]),
            onnx.helper.make_node("Max", [x, product], [node.output[0]]),
        )
        for offset, added in enumerate(pair):
            graph.node.insert(position + rewritten + offset, added)
        rewritten += 1
    return rewritten


def _merge_one(graph: onnx.GraphProto) -> bool:
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    reads = Counter(name for node in graph.node for name in node.input)
    makers = {name: node for node in graph.node for name in node.output}
    for second in graph.node:
        first = makers.get(second.input[0]) if second.input else None
        between = second.input[0] if second.input else ""
        if first is None or reads[between] != 1 or between in outputs:
            continue
        if not (_is_pointwise(first, tensors) and _is_pointwise(second, tensors)):
            continue
        if list(_attribute(second, "strides", [1, 1])) != [1, 1]:
            continue
        if _merge(graph, first, second, tensors):
            return True
    return False


def _merge(
    graph: onnx.GraphProto,
    first: onnx.NodeProto,
    second: onnx.NodeProto,
    tensors: Mapping[str, onnx.TensorProto],
) -> bool:
    """Put the product in the place of `second`, unless it is larger than both."""
    (a, a_bias), (b, b_bias) = (_parameters(node, tensors) for node in (first, second))
    if len(b) * a.shape[1] >= a.size + b.size:
        return False
    kind = numpy_helper.to_array(tensors[second.input[1]]).dtype
    weight = (b @ a).astype(kind)[:, :, None, None]
    bias = (b @ a_bias + b_bias).astype(kind)
    names = [f"{second.output[0]}_merged_{part}" for part in ("weight", "bias")]
    for name, values in zip(names, (weight, bias), strict=True):
        graph.initializer.append(numpy_helper.from_array(values, name))
    strides = onnx.helper.make_attribute("strides", _attribute(first, "strides", [1, 1]))
    merged = onnx.helper.make_node(
        "Conv", [first.input[0], *names], list(second.output), name=second.name
    )
    merged.attribute.extend([onnx.helper.make_attribute("kernel_shape", [1, 1]), strides])
    position = list(graph.node).index(second)
    graph.node.insert(position, merged)
    graph.node.remove(second)
    graph.node.remove(first)
    return True


def _parameters(
    node: onnx.NodeProto, tensors: Mapping[str, onnx.TensorProto]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Weight [out, in] and bias [out] of a 1 x 1 convolution, in double precision."""
    weight = numpy_helper.to_array(tensors[node.input[1]]).astype(np.float64)[:, :, 0, 0]
    if len(node.input) > 2 and node.input[2]:
        return weight, numpy_helper.to_array(tensors[node.input[2]]).astype(np.float64)
    return weight, np.zeros(len(weight))


def _is_pointwise(node: onnx.NodeProto, tensors: Mapping[str, onnx.TensorProto]) -> bool:
    """A plain 1 x 1 convolution of two dimensions whose parameters are stored in the graph."""
    if node.op_type != "Conv" or node.domain or _attribute(node, "group", 1) != 1:
        return False
    stored = all(name in tensors for name in node.input[1:] if name)
    if not stored or list(tensors[node.input[1]].dims[2:]) != [1, 1]:
        return False
    # SAME padding of a 1 x 1 kernel is none whatever the stride, VALID is none by definition.
    return not any(_attribute(node, "pads", [0]))


DEFAULTS = {"dilations": {1}, "strides": {1}, "pads": {0}}
"""Attributes of a convolution that say nothing when they hold these numbers only."""


def _is_default(node: onnx.NodeProto, attribute: onnx.AttributeProto) -> bool:
    if node.op_type != "Conv":
        return False
    if attribute.name == "group":
        return bool(attribute.i == 1)
    if attribute.name == "auto_pad":
        return bool(attribute.s == b"NOTSET")
    return attribute.name in DEFAULTS and set(attribute.ints) == DEFAULTS[attribute.name]


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    for attribute in node.attribute:
        if attribute.name == name:
            return onnx.helper.get_attribute_value(attribute)
    return default


def _drop_unread_initializers(graph: onnx.GraphProto) -> None:
    read = {name for node in graph.node for name in node.input}
    for tensor in list(graph.initializer):
        if tensor.name not in read:
            graph.initializer.remove(tensor)
