"""Rounding the convolutions of an ONNX network to few bits, layer after layer, from data.

Each layer is rounded with the inputs that it gets from the layers rounded before it, so that it
can make good a part of their errors as well as its own. No gradient and no label is needed: a
few hundred unlabelled examples set the scales, the rounding and the biases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from gearshift.compress.evaluate import session
from gearshift.compress.packing import Floats, Rounded, round_weights

Inputs = Mapping[str, npt.NDArray[np.generic]]
Bits = Callable[[tuple[int, ...]], int]
"""From the shape of a weight [out, in / groups, height, width] to its number of bits."""

PLACES = 64
"""Places taken from each example's feature map: neighbours say almost the same."""
BATCH = 20


@dataclass(frozen=True, slots=True)
class Seen:
    """One inner value over all examples."""

    mean: Floats
    """Of each channel, over every place: [channels]."""
    rows: npt.NDArray[np.float32]
    """At some places: [examples * places, channels]."""


def round_network(
    content: bytes, inputs: Inputs, bits: Bits, report: Callable[[str], None], *, pull: float = 1.0
) -> tuple[bytes, dict[str, Rounded]]:
    """The network with every convolution rounded, and how, by the names of the weights.

    A pointwise layer W is first moved to the W' whose answers to the rounded network's inputs z
    are nearest to those of W to the exact x, in least squares, as far as the share `pull` of
    the way; then rounded with feedback. Every bias takes up the mean error of its channel.
    """
    model = onnx.load_from_string(content)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    wanted = {node.input[0] for node in convolutions if _pointwise(node, tensors)}
    wanted |= {node.output[0] for node in convolutions}
    exact = dict(_seen(model, sorted(wanted), inputs))
    rounded: dict[str, Rounded] = {}
    for index, node in enumerate(convolutions):
        weight = numpy_helper.to_array(tensors[node.input[1]]).astype(np.float64)
        bias = numpy_helper.to_array(tensors[node.input[2]]).astype(np.float64)
        gram, seen = None, None
        if _pointwise(node, tensors):
            seen = dict(_seen(model, [node.input[0]], inputs))[node.input[0]]
            gram, crossed = _products(exact[node.input[0]], seen)
            flat = weight[:, :, 0, 0]
            moved = np.linalg.solve(gram, (flat @ crossed).T).T
            weight = (flat + pull * (moved - flat))[:, :, None, None]
        chosen = round_weights(weight, bits(weight.shape), gram)
        rounded[node.input[1]] = chosen
        _store(tensors[node.input[1]], chosen.values())
        if seen is not None:
            # A pointwise layer's mean answer is its answer to the mean input.
            after = chosen.values().astype(np.float64)[:, :, 0, 0] @ seen.mean + bias
        else:
            after = dict(_seen(model, [node.output[0]], inputs))[node.output[0]].mean
        _store(tensors[node.input[2]], bias + exact[node.output[0]].mean - after)
        if index % 10 == 9:
            report(f"  rounded {index + 1} of {len(convolutions)} convolutions")
    return bytes(model.SerializeToString()), rounded


def _products(exact: Seen, seen: Seen) -> tuple[Floats, Floats]:
    """Means of z z' and of x z', both [channels, channels], with z what the rounded network has.

    With fewer rows than channels the plain means claim that some inputs never vary, so entries
    off the diagonal are drawn to zero, the more the fewer rows there are.
    """
    x, z = (rows.astype(np.float64) for rows in (exact.rows, seen.rows))
    n, size = z.shape
    share = size / (size + n)
    own, crossed = z.T @ z / n, x.T @ z / n
    ridge = np.diag(np.diag(own)) + np.eye(size) * 1e-9
    return (1 - share) * own + share * ridge, (1 - share) * crossed + share * ridge


def _seen(
    model: onnx.ModelProto, names: Sequence[str], inputs: Inputs
) -> Iterator[tuple[str, Seen]]:
    """What inner values are for all inputs; the graph is cut after the last of them."""
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    makers = [i for i, node in enumerate(cut.graph.node) if set(node.output) & set(names)]
    made = max(makers, default=-1)
    del cut.graph.node[made + 1 :]
    del cut.graph.output[:]
    for name in names:
        value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        cut.graph.output.append(value)
    read = {used for node in cut.graph.node for used in node.input}
    for tensor in list(cut.graph.initializer):
        if tensor.name not in read:
            cut.graph.initializer.remove(tensor)
    runtime = session(cut.SerializeToString())
    n = len(next(iter(inputs.values())))
    means: dict[str, list[Floats]] = {name: [] for name in names}
    rows: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in names}
    for start in range(0, n, BATCH):
        batch = {key: values[start : start + BATCH] for key, values in inputs.items()}
        for name, values in zip(names, runtime.run(list(names), batch), strict=True):
            means[name].append(values.sum(axis=(0, 2, 3), dtype=np.float64))
            size = values.shape[2] * values.shape[3]
            means[name][-1] /= size * n
            # The same places every time: the rows of two networks are compared one by one.
            chosen = np.sort(np.random.default_rng(start).permutation(size)[:PLACES])
            flat = values.reshape(*values.shape[:2], size)[:, :, chosen]
            rows[name].append(flat.transpose(0, 2, 1).reshape(-1, values.shape[1]))
    for name in names:
        yield name, Seen(np.sum(means[name], axis=0), np.concatenate(rows[name]))


def _pointwise(node: onnx.NodeProto, tensors: Mapping[str, onnx.TensorProto]) -> bool:
    grouped = any(a.name == "group" and a.i > 1 for a in node.attribute)
    return not grouped and list(tensors[node.input[1]].dims[2:]) == [1, 1]


def _store(tensor: onnx.TensorProto, values: npt.NDArray[np.floating]) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), tensor.name))
