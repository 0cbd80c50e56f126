"""The training behind `precision`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from gearshift.compress.dataset import Part
from gearshift.compress.families.garment import INPUT, changed
from gearshift.compress.families.garment_nets import convolutions
from gearshift.compress.learning import Task, device_name, device_of_training, fast_half, fit
from gearshift.compress.made import Report
from gearshift.compress.metrics import score
from gearshift.compress.networks import count
from gearshift.compress.recipe import Learning
from gearshift.compress.studies.precision import Arm, Precisions

STEP = 500
"""Rows that are asked at once for the accuracy."""


def compare(
    layers: Sequence[tuple[int, int, int]],
    training: Part,
    measured: Part,
    seeds: Sequence[int],
    epochs: int,
    report: Report,
) -> Precisions:
    """Train the same network from the same seeds in each arithmetic, without and with checkpoints.

    `layers` as in `garment_nets.convolutions`; at least two epochs, since the first is not timed.
    """
    own = fast_half(device_of_training())
    arms = []
    for half in (False, True) if own else (False,):
        for checkpoints in (False, True):
            schedule = Learning(epochs=epochs, rate=0.1, checkpoints=checkpoints)
            seconds: list[float] = []
            peaks, values = [], []
            for seed in seeds:
                report(f"half {half}, checkpoints {checkpoints}, seed {seed}")
                torch.manual_seed(seed)
                net = convolutions(layers)
                before = _held()
                seconds += _fitted(net, training, schedule, seed, half=half)
                peaks.append(_peak() - before)
                values.append(_top1(net, measured))
            arms.append(
                Arm(
                    half=half,
                    checkpoints=checkpoints,
                    seconds=seconds,
                    peak_mib=max(peaks) / 2**20 if torch.cuda.is_available() else None,
                    values=values,
                )
            )
    return Precisions(
        arms=arms,
        device=device_name().rpartition(", ")[0],
        own=own,
        parameters=count(convolutions(layers)),
        rows=len(training),
        epochs=epochs,
        measured=len(measured),
    )


def _fitted(
    net: nn.Module, training: Part, schedule: Learning, seed: int, *, half: bool
) -> list[float]:
    """Train `net`; the seconds of each epoch but the first."""
    ends: list[float] = []
    fit(
        net,
        (torch.from_numpy(training.inputs[INPUT]),),
        torch.from_numpy(training.labels),
        schedule,
        Task(activation="softmax"),
        seed=seed,
        report=lambda line: ends.append(time.monotonic()),
        augment=changed,
        half=half,
    )
    return [later - earlier for earlier, later in pairwise(ends)]


def _held() -> int:
    """Bytes in the GPU's memory; from here on a new peak is kept."""
    if not torch.cuda.is_available():
        return 0
    torch.cuda.reset_peak_memory_stats()
    return int(torch.cuda.memory_allocated())


def _peak() -> int:
    return int(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else 0


def _top1(net: nn.Module, part: Part) -> float:
    device = device_of_training()
    pixels = torch.from_numpy(part.inputs[INPUT])
    net.to(device).eval()
    with torch.no_grad():
        outputs = torch.cat([net(some.to(device)).cpu() for some in pixels.split(STEP)])
    net.cpu()
    return score("top1", part.labels, outputs.numpy())
