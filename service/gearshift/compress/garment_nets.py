"""The networks of the garment family, from a residual teacher down to a tiny one.

All of them take pixels scaled to 0..1 as [n, 1, 28, 28] and return logits [n, 10]. `Served`
and `Ensemble` wrap them into what a variant serves: raw pixels in, probabilities out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

CLASSES = 10
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


def teacher() -> nn.Module:
    """About 464,000 parameters and 36 million multiplications: half of them at 14x14."""
    return ConvNet([(32, 1, 0), (64, 2, 1), (128, 2, 1)])


def student() -> nn.Module:
    """About 61,000 parameters and 3.7 million multiplications, no shortcut, never at 28x28."""
    return ConvNet([(16, 2, 0), (32, 1, 0), (64, 2, 0), (64, 1, 0)])


def tiny() -> nn.Module:
    """About 6,000 parameters: what a few microseconds buy."""
    return TinyNet((12, 24))


class Served(nn.Module):
    """Raw pixels uint8 [n, 28, 28] in, probabilities [n, 10] out.

    The division by 255 is expected to have been folded into the first convolution.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.net(pixels.float().unsqueeze(1))
        return logits.softmax(dim=1)


class Ensemble(nn.Module):
    """The mean of the members' probabilities over the image and its mirror image.

    A shoe that points left is a shoe that points right: the members were trained on both, and
    their errors on the two views differ enough for the mean to be better than either.
    """

    def __init__(self, members: Sequence[nn.Module], *, mirrored: bool) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.mirrored = mirrored

    def forward(self, pixels: Tensor) -> Tensor:
        image = pixels.float().unsqueeze(1)
        # Joined along the batch, each member runs once on twice the images.
        views = torch.cat([image, image.flip(3)]) if self.mirrored else image
        total = sum(member(views).softmax(dim=1) for member in self.members)
        mean: Tensor = total / len(self.members)
        if self.mirrored:
            mean = mean.reshape(2, pixels.shape[0], CLASSES).mean(dim=0)
        return mean
