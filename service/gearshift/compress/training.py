"""One training loop for all image networks: SGD with one cycle, with or without a teacher.

Mixed precision (bfloat16) halves the time on CPUs with AVX512-BF16 and is used where it is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from gearshift.compress.garment_nets import WHITE
from gearshift.errors import GearshiftError


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how strongly to train.

    The learning rate rises to `peak_rate` during the first `warmup` share of the steps and
    falls along a cosine to zero after it (one cycle: Smith, 2018).
    """

    epochs: int
    peak_rate: float
    batch: int = 256
    warmup: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    smoothing: float = 0.05
    shift: int = 2
    """Largest random shift, in pixels, in both directions."""
    hole: int = 8
    """Side, in pixels, of the square that is blacked out (cutout: DeVries and Taylor, 2017)."""
    hole_share: float = 0.5
    """Share of the images that get such a hole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distillation:
    """Learn a teacher's probabilities beside the labels (Hinton et al., 2015)."""

    teacher: Callable[[Tensor], Tensor]
    """Pixels scaled to 0..1, [n, 1, 28, 28], to the logarithm of probabilities, [n, 10]."""
    temperature: float = 2.0
    weight: float = 0.9
    """The share of the loss that comes from the teacher; the labels give the rest."""


class LossError(GearshiftError):
    """The loss became NaN or infinite: nothing that was trained can be used."""


def rate_at(schedule: Schedule, progress: float) -> float:
    """The learning rate after the share `progress` (0..1) of all steps."""
    if progress < schedule.warmup:
        return schedule.peak_rate * progress / schedule.warmup
    falling = (progress - schedule.warmup) / (1.0 - schedule.warmup)
    return schedule.peak_rate * 0.5 * (1.0 + math.cos(math.pi * falling))


def augment(pixels: Tensor, schedule: Schedule, generator: torch.Generator) -> Tensor:
    """Shift, mirror and cut each image at random: uint8 [n, 28, 28] to float [n, 1, 28, 28]."""
    n, side = len(pixels), pixels.shape[-1]
    reach = schedule.shift
    padded = functional.pad(pixels, (reach, reach, reach, reach))
    windows = padded.unfold(1, side, 1).unfold(2, side, 1)
    offset = torch.randint(0, 2 * reach + 1, (2, n), generator=generator)
    images = windows[torch.arange(n), offset[0], offset[1]]
    mirrored = torch.rand(n, 1, 1, generator=generator) < 0.5
    images = torch.where(mirrored, images.flip(2), images)
    if schedule.hole_share > 0:
        corner = torch.randint(
            -schedule.hole // 2, side - schedule.hole // 2, (2, n, 1), generator=generator
        )
        along = torch.arange(side)
        rows, columns = ((along >= c) & (along < c + schedule.hole) for c in corner)
        chosen = torch.rand(n, 1, 1, generator=generator) < schedule.hole_share
        hole = rows[:, :, None] & columns[:, None, :] & chosen
        images = images.masked_fill(hole, 0)
    return images.unsqueeze(1).float() / WHITE


def fit(
    net: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    schedule: Schedule,
    *,
    seed: int,
    report: Callable[[str], None],
    distillation: Distillation | None = None,
) -> nn.Module:
    """Train `net` in place on uint8 `pixels` [n, 28, 28] and `labels` [n]; return it in eval mode.

    The same seed, number of threads and machine give the same network.
    """
    generator = torch.Generator().manual_seed(seed)
    # Channels last is the layout that the CPU's bfloat16 convolutions work in.
    net = net.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(
        net.parameters(),
        lr=0.0,
        momentum=schedule.momentum,
        nesterov=True,
        weight_decay=schedule.weight_decay,
    )
    batches = len(labels) // schedule.batch
    total = schedule.epochs * batches
    started = time.monotonic()
    for epoch in range(schedule.epochs):
        running = 0.0
        for index, rows in enumerate(_batches(len(labels), schedule.batch, generator)):
            for group in optimizer.param_groups:
                group["lr"] = rate_at(schedule, (epoch * batches + index) / total)
            images = augment(pixels[rows], schedule, generator)
            images = images.to(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                logits = net(images)
            loss = _loss(logits.float(), labels[rows], images, schedule, distillation)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            running += float(loss.detach())
        if not math.isfinite(running):
            raise LossError(f"the loss is {running} in epoch {epoch + 1}; lower peak_rate")
        seconds = time.monotonic() - started
        report(
            f"  epoch {epoch + 1}/{schedule.epochs} loss {running / batches:.4f} {seconds:.0f} s"
        )
    return net.eval()


def _loss(
    logits: Tensor,
    labels: Tensor,
    images: Tensor,
    schedule: Schedule,
    distillation: Distillation | None,
) -> Tensor:
    hard = functional.cross_entropy(logits, labels, label_smoothing=schedule.smoothing)
    if distillation is None:
        return hard
    with torch.no_grad():
        target = (distillation.teacher(images) / distillation.temperature).softmax(dim=1)
    soft = functional.cross_entropy(logits / distillation.temperature, target)
    # The gradient of the soft loss shrinks with the square of the temperature.
    soft = soft * distillation.temperature**2
    return distillation.weight * soft + (1.0 - distillation.weight) * hard


def _batches(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    order = torch.randperm(n, generator=generator)
    for start in range(0, n - size + 1, size):
        yield order[start : start + size]


@torch.inference_mode()
def log_probabilities(net: nn.Module, pixels: Tensor, *, mirrored: bool = False) -> Tensor:
    """The logarithm of the net's probabilities [n, 10] for uint8 pixels [n, 28, 28]."""
    parts = []
    for chunk in pixels.split(512):
        images = (chunk.unsqueeze(1).float() / WHITE).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            result = net(images).float().log_softmax(dim=1)
            if mirrored:
                other = net(images.flip(3)).float().log_softmax(dim=1)
                result = torch.logaddexp(result, other) - math.log(2)
        parts.append(result)
    return torch.cat(parts)


def top1(log_probs: Tensor, labels: Tensor) -> float:
    """The share of rows whose most probable class is the label."""
    return float((log_probs.argmax(dim=1) == labels).float().mean())
