"""Weights of a few bits in an ordinary ONNX file, unpacked once when a session is made.

A quantized graph (QDQ) spends a byte on every weight and twelve more on every channel. Here a
weight is an index of b bits into a short table of int8 levels, 64 // b of them in one uint64,
and the numbers of a channel (scale, bias, slope) are float16. Nodes of the standard operators
turn them back into what the quantized graph needs. They read constants only, so ONNX Runtime
computes them while it loads the file, before it fuses the quantized operators: what runs is
int8 as ever, at the speed of int8. Only the file is small; in memory a weight is a byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Floats = npt.NDArray[np.float64]

WORD = 64
LARGEST_LEVEL = 63
"""Below it two products of a weight and a uint8 fit 16 bits with their sum: processors with AVX2
but without VNNI add them there, and give the same answers as all others."""

SHRINKINGS = np.linspace(0.35, 1.0, 27)
"""Which shares of the largest weight are tried as the end of the scale."""


@dataclass(frozen=True, slots=True)
class Rounded:
    """A weight tensor as indices into `levels`: value = levels[indices] * scale of its channel."""

    indices: npt.NDArray[np.uint8]
    """As the weight: [out, ...]."""
    levels: npt.NDArray[np.int8]
    """[2 ** bits], rising."""
    scales: npt.NDArray[np.float16]
    """[out]"""

    @property
    def bits(self) -> int:
        return int(len(self.levels) - 1).bit_length()

    def values(self) -> npt.NDArray[np.float32]:
        """What the runtime multiplies with."""
        shape = (-1, *[1] * (self.indices.ndim - 1))
        scales = self.scales.astype(np.float32).reshape(shape)
        return self.levels[self.indices].astype(np.float32) * scales


def levels_of(bits: int) -> npt.NDArray[np.int8]:
    """The int8 levels for weights of 2 to 7 bits.

    Up to four bits they are those of least square error for normally distributed weights (Lloyd,
    1957; Max, 1960), stretched so that the outermost is `LARGEST_LEVEL`; above, evenly spaced:
    there the difference is smaller than that of the int8 grid.
    """
    if not 2 <= bits <= 7:
        raise ValueError(f"weights of {bits} bits: only 2 to 7 can be packed")
    if bits > 4:
        half = 2 ** (bits - 1)
        return np.arange(-half + 1, half + 1, dtype=np.int8).clip(-LARGEST_LEVEL, LARGEST_LEVEL)
    points = np.linspace(-5, 5, 20_001)
    density = np.exp(-(points**2) / 2)
    levels = np.linspace(-2, 2, 2**bits)
    for _ in range(500):
        cell = np.searchsorted((levels[1:] + levels[:-1]) / 2, points)
        mass = np.bincount(cell, density, len(levels))
        levels = np.bincount(cell, density * points, len(levels)) / mass
    stretched: npt.NDArray[np.int8] = np.rint(levels / levels[-1] * LARGEST_LEVEL).astype(np.int8)
    return stretched


def nearest(values: Floats, levels: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """The index of the level next to each value."""
    middles = (levels[1:].astype(np.float64) + levels[:-1]) / 2
    return np.searchsorted(middles, values).astype(np.uint8)


def round_weights(
    weight: npt.NDArray[np.floating], bits: int, gram: Floats | None = None
) -> Rounded:
    """Round a weight [out, ...] to `bits` bits with the scale of least error for each channel.

    With `gram` = X X' [in, in] of the layer's inputs X, what counts is the error of the layer's
    output instead of the weights': the weights are rounded one input after the other, and each
    error is made good by those not yet rounded (GPTQ: Frantar et al., 2023).
    """
    levels = levels_of(bits)
    flat = np.asarray(weight, np.float64).reshape(len(weight), -1)
    importance = np.ones(flat.shape[1]) if gram is None else np.diag(gram)
    scales = _best_scales(flat, levels, importance)
    if gram is None:
        indices = nearest(flat / scales[:, None].astype(np.float64), levels)
    else:
        indices = _with_feedback(flat, levels, scales.astype(np.float64), gram)
    return Rounded(indices.reshape(weight.shape), levels, scales)


def _best_scales(
    flat: Floats, levels: npt.NDArray[np.int8], importance: Floats
) -> npt.NDArray[np.float16]:
    largest = np.maximum(np.abs(flat).max(axis=1), 1e-6)
    best = np.full(len(flat), np.inf)
    chosen = np.ones(len(flat), np.float16)
    for share in SHRINKINGS:
        scales = np.maximum(largest * share / levels.max(), 1e-7).astype(np.float16)
        wide = scales.astype(np.float64)[:, None]
        error = ((levels[nearest(flat / wide, levels)] * wide - flat) ** 2) @ importance
        better = error < best
        best, chosen = np.where(better, error, best), np.where(better, scales, chosen)
    return chosen.astype(np.float16)


def _with_feedback(
    flat: Floats, levels: npt.NDArray[np.int8], scales: Floats, gram: Floats
) -> npt.NDArray[np.uint8]:
    size = len(gram)
    # A little on the diagonal: inputs that are always zero would make the matrix singular.
    damped = gram + np.eye(size) * (0.01 * np.trace(gram) / size + 1e-12)
    order = np.argsort(-np.diag(damped))
    inverse = np.linalg.inv(damped[np.ix_(order, order)])
    factor = np.linalg.cholesky(inverse).T
    work = flat[:, order].copy()
    indices = np.empty(flat.shape, np.uint8)
    for step, column in enumerate(order):
        chosen = nearest(work[:, step] / scales, levels)
        indices[:, column] = chosen
        error = (work[:, step] - levels[chosen] * scales) / factor[step, step]
        work[:, step:] -= np.outer(error, factor[step, step:])
    return indices


def packed(indices: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint64]:
    """Indices as words of 64 // bits each: word j holds j, j + m, j + 2m, ... of m words."""
    per_word = WORD // bits
    words = -(-indices.size // per_word)
    padded = np.zeros(words * per_word, np.uint64)
    padded[: indices.size] = indices.ravel()
    shifts = (np.arange(per_word, dtype=np.uint64) * np.uint64(bits))[:, None]
    return np.asarray(np.bitwise_or.reduce(padded.reshape(per_word, words) << shifts, axis=0))


def pack(model: onnx.ModelProto, rounded: Mapping[str, Rounded]) -> None:
    """Store the named weights of a QDQ graph packed, and the numbers of its channels short.

    `model` comes from static quantization per channel of a graph that holds `rounded`'s values;
    a name is that of the weight before quantization. What a weight's convolution computes is
    then exactly `Rounded.values` times its inputs.
    """
    _Packer(model, rounded).run()


class _Packer:
    """Rewrites one graph; what is stored together comes as (name, array) until it is written."""

    def __init__(self, model: onnx.ModelProto, rounded: Mapping[str, Rounded]) -> None:
        self.graph, self.rounded = model.graph, dict(rounded)
        self.tensors = {tensor.name: tensor for tensor in self.graph.initializer}
        self.makers = {name: node for node in self.graph.node for name in node.output}
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[tuple[str, Rounded]] = []
        self.halves: list[tuple[str, npt.NDArray[np.float16]]] = []
        self.late: list[onnx.NodeProto] = []

    def run(self) -> None:
        for node in self.graph.node:
            if node.op_type == "Conv":
                self._short_convolution(node)
            elif node.op_type == "Mul":
                self._short_slope(node)
        if self.rounded:
            raise ValueError(f"no quantized convolution has the weights {sorted(self.rounded)}")
        self._write_weights()
        self._write_halves()
        kept = list(self.graph.node)
        del self.graph.node[:]
        self.graph.node.extend([*self.nodes, *self.late, *kept])
        read = {name for node in self.graph.node for name in node.input}
        for tensor in list(self.graph.initializer):
            if tensor.name not in read:
                self.graph.initializer.remove(tensor)

    def _short_convolution(self, conv: onnx.NodeProto) -> None:
        """Packed weights, scale and bias in float16; the scale of the bias follows from both."""
        inputs, weight, bias = (self.makers[name] for name in conv.input[:3])
        name = weight.input[0].removesuffix("_quantized")
        if name not in self.rounded:
            raise ValueError(f"the weights {name!r} were not rounded")
        rounded = self.rounded.pop(name)
        self.weights.append((f"{name}_p", rounded))
        values = self._array(bias.input[0]) * self._array(bias.input[1]).astype(np.float64)
        self.halves.append((f"{name}_s", rounded.scales))
        self.halves.append((f"{name}_b", values.astype(np.float16)))
        self.late += [
            helper.make_node("Mul", [inputs.input[1], f"{name}_s"], [f"{name}_bs"]),
            helper.make_node("Div", [f"{name}_b", f"{name}_bs"], [f"{name}_bd"]),
            helper.make_node("Round", [f"{name}_bd"], [f"{name}_br"]),
            helper.make_node("Cast", [f"{name}_br"], [f"{name}_bq"], to=onnx.TensorProto.INT32),
        ]
        weight.input[0], weight.input[1] = f"{name}_p", f"{name}_s"
        bias.input[0], bias.input[1] = f"{name}_bq", f"{name}_bs"

    def _short_slope(self, product: onnx.NodeProto) -> None:
        """The slopes of an activation, [channels, 1, 1], in float16."""
        for index, name in enumerate(product.input):
            tensor = self.tensors.get(name)
            if tensor is not None and len(tensor.dims) == 3:
                slopes = self._array(name)
                self.halves.append((f"{name}_f", slopes.astype(np.float16).ravel()))
                shape = self._constant(f"{name}_d", np.array(slopes.shape, np.int64))
                self.late.append(helper.make_node("Reshape", [f"{name}_f", shape], [f"{name}_h"]))
                product.input[index] = f"{name}_h"

    def _write_weights(self) -> None:
        for bits, group in groupby(sorted(self.weights, key=lambda w: w[1].bits), _bits):
            members = list(group)
            flat = np.concatenate([rounded.indices.ravel() for _, rounded in members])
            words = packed(flat, bits)
            per_word = WORD // bits
            rest = per_word * len(words) - flat.size
            shifts = (np.arange(per_word, dtype=np.uint64) * np.uint64(bits))[:, None]
            table = self._constant(f"words{bits}", words)
            steps = self._constant(f"shifts{bits}", shifts)
            mask = self._constant(f"mask{bits}", np.uint64(2**bits - 1))
            levels = self._constant(f"levels{bits}", members[0][1].levels)
            every = self._constant("flat", np.array([-1], np.int64))
            sizes = [rounded.indices.size for _, rounded in members]
            names = [f"{name}_i" for name, _ in members]
            self.nodes += [
                helper.make_node("BitShift", [table, steps], [f"s{bits}"], direction="RIGHT"),
                helper.make_node("BitwiseAnd", [f"s{bits}", mask], [f"a{bits}"]),
                helper.make_node("Cast", [f"a{bits}"], [f"c{bits}"], to=onnx.TensorProto.INT32),
                helper.make_node("Gather", [levels, f"c{bits}"], [f"g{bits}"]),
                helper.make_node("Reshape", [f"g{bits}", every], [f"r{bits}"]),
            ]
            self._split(f"r{bits}", names, sizes, rest)
            for name, rounded in members:
                shape = np.array(rounded.indices.shape, np.int64)
                kept = self._constant(f"{name}_d", shape)
                self.nodes.append(helper.make_node("Reshape", [f"{name}_i", kept], [name]))

    def _write_halves(self) -> None:
        names = [name for name, _ in self.halves]
        table = self._constant("halves", np.concatenate([values for _, values in self.halves]))
        self.nodes.append(helper.make_node("Cast", [table], ["floats"], to=onnx.TensorProto.FLOAT))
        self._split("floats", names, [values.size for _, values in self.halves], 0)

    def _split(self, source: str, names: Sequence[str], sizes: Sequence[int], rest: int) -> None:
        """Cut a flat tensor into named pieces; what is left over at its end is read by nobody."""
        parts = [*names, *([f"{source}_rest"] if rest else [])]
        lengths = np.array([*sizes, *([rest] if rest else [])], np.int64)
        pieces = self._constant(f"{source}_sizes", lengths)
        self.nodes.append(helper.make_node("Split", [source, pieces], parts))

    def _constant(self, name: str, values: npt.NDArray[np.generic] | np.generic) -> str:
        if name not in self.tensors:
            tensor = numpy_helper.from_array(np.asarray(values), name)
            self.graph.initializer.append(tensor)
            self.tensors[name] = tensor
        return name

    def _array(self, name: str) -> npt.NDArray[np.generic]:
        return np.asarray(numpy_helper.to_array(self.tensors[name]))


def _bits(weight: tuple[str, Rounded]) -> int:
    return weight[1].bits
