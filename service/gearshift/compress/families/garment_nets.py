"""The networks of the garment family, from a residual teacher down to a tiny one.

All of them take raw pixels uint8 [n, 28, 28] and return logits [n, 10].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

CLASSES = 10
SIDE = 28
LEAST = 1e-9
"""The least probability that has a logarithm here."""
WHITE = 255.0
"""The largest pixel value: raw pixels are divided by it, so black stays exactly zero and the
zero padding of a convolution means "more black"."""


def conv_bn_relu(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Convolution, batch normalization (folded into the convolution at export), ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """x + f(x) with two convolutions in f (He et al., 2015, in the order of ResNet-9)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = conv_bn_relu(width, width)
        self.second = conv_bn_relu(width, width)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.second(self.first(x))
        return result


class ConvNet(nn.Module):
    """Convolutions by a list of layers, global average pooling, one linear layer.

    `layers` holds (width, stride, residual blocks after it) per convolution.
    """

    def __init__(self, layers: Sequence[tuple[int, int, int]]) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        inputs = 1
        for width, stride, blocks in layers:
            stages.append(conv_bn_relu(inputs, width, stride))
            stages.extend(Residual(width) for _ in range(blocks))
            inputs = width
        self.body = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(inputs, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.pool(self.body(x)).flatten(1))
        return logits


class TinyNet(nn.Module):
    """Two strided convolutions and a linear layer on what is left of the image: 4x4 places.

    Averaging the places away would cost a net of this size several points.
    """

    def __init__(self, widths: tuple[int, int]) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, widths[0], 5, 3, 1, bias=False),  # 28 -> 9
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
            nn.Conv2d(widths[0], widths[1], 3, 2, 0, bias=False),  # 9 -> 4
            nn.BatchNorm2d(widths[1]),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Linear(widths[1] * 16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(x).flatten(1))
        return logits


class FromPixels(nn.Module):
    """Raw pixels in front of a body of float images: uint8 [n, 28, 28] to logits [n, 10]."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixels: Tensor) -> Tensor:
        image = pixels.float().unsqueeze(1) / WHITE
        if self.training or pixels.is_cuda:
            # Channels last is the layout in which processors convolve fastest going back, and
            # GPUs in both directions.
            image = image.to(memory_format=torch.channels_last)
        logits: Tensor = self.net(image)
        return logits

    def segments(self) -> list[nn.Module]:
        """The modules between which gradient checkpointing keeps activations."""
        return list(self.net.body.children())


def convolutions(layers: Sequence[Sequence[int]]) -> nn.Module:
    """A `ConvNet` of (width, stride, residual blocks) a layer, on raw pixels."""
    return FromPixels(ConvNet([(width, stride, blocks) for width, stride, blocks in layers]))


def tiny(widths: Sequence[int]) -> nn.Module:
    """What a few microseconds buy: two convolutions and a linear layer, on raw pixels."""
    return FromPixels(TinyNet((widths[0], widths[1])))


def perceptron(width: int) -> nn.Module:
    """What costs next to nothing: one hidden layer of `width` neurons, on raw pixels."""
    return FromPixels(
        nn.Sequential(
            nn.Flatten(),
            nn.Linear(SIDE * SIDE, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(inplace=True),
            nn.Linear(width, CLASSES),
        )
    )


class Ensemble(nn.Module):
    """The mean of the members' probabilities, as its logarithm: logits [n, 10].

    A shoe that points left is a shoe that points right: the members were trained on both, and
    their errors on the two views differ. So every second member sees the mirror image.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, pixels: Tensor) -> Tensor:
        mirrored = pixels.flip(2)
        answers = [
            member(mirrored if index % 2 else pixels).float().softmax(dim=1)
            for index, member in enumerate(self.members)
        ]
        return torch.stack(answers).mean(dim=0).clamp_min(LEAST).log()
