"""Training the garment networks, each kept in the cache under a key of all that made it."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from gearshift.compress import garment_nets as nets
from gearshift.compress import timings
from gearshift.compress.data import ImageSet, Report
from gearshift.compress.training import (
    Distillation,
    Schedule,
    augment,
    fit,
    log_probabilities,
    top1,
)

VALIDATION = 5_000
"""The last training images: every choice between networks is made on them, none on the test."""
MEMBERS = 3

TEACHER_SCHEDULE = Schedule(epochs=13, peak_rate=0.25)
REFINING_SCHEDULE = Schedule(epochs=15, peak_rate=0.12)
"""A second, lower cycle from where the first ended (warm restart: Loshchilov and Hutter, 2016)."""
TEACHER_RECIPE = f"{TEACHER_SCHEDULE} then {REFINING_SCHEDULE}"
PRUNED_SHARE = 0.5
PRUNED_SCHEDULE = Schedule(epochs=7, peak_rate=0.1)
STUDENT_SCHEDULE = Schedule(epochs=10, peak_rate=0.25, weight_decay=2e-4, hole_share=0.25)
TINY_SCHEDULE = Schedule(
    epochs=16,
    peak_rate=0.25,
    weight_decay=5e-5,
    smoothing=0.0,
    shift=1,
    hole_share=0.0,
)
"""The smaller the net, the less it needs to be kept from learning by heart."""
TAYLOR_IMAGES = 2_048


@dataclass(frozen=True, slots=True)
class Images:
    """The training images, split: tensors uint8 [n, 28, 28] and int64 [n]."""

    pixels: Tensor
    labels: Tensor
    validation_pixels: Tensor
    validation_labels: Tensor


def split(training: ImageSet) -> Images:
    """All but the last `VALIDATION` images to learn from, those to choose by."""
    pixels, labels = torch.from_numpy(training.pixels.copy()), torch.from_numpy(training.labels)
    return Images(
        pixels[:-VALIDATION], labels[:-VALIDATION], pixels[-VALIDATION:], labels[-VALIDATION:]
    )


def cached(
    folder: Path, name: str, recipe: str, net: nn.Module, train: Callable[[], nn.Module]
) -> nn.Module:
    """The weights of an earlier run of the same recipe, or those of `train()`, then kept.

    `recipe` must say everything that decides the weights beside the network's own layout.
    """
    key = hashlib.sha256(f"{recipe}\n{net}".encode()).hexdigest()[:16]
    path = folder / f"{name}-{key}.pt"
    if path.exists():
        net.load_state_dict(torch.load(path, weights_only=True))
        return net.eval()
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    net = train()
    timings.note(folder.parent, f"garment: {name}", time.monotonic() - started)
    partial = path.with_suffix(".partial")
    torch.save(net.state_dict(), partial)
    partial.replace(path)
    return net


def train_teacher(images: Images, seed: int, folder: Path, report: Report) -> nn.Module:
    """One member of the ensemble, trained in two cycles; each is kept when it is done."""
    torch.manual_seed(seed)
    net = nets.teacher()

    def first() -> nn.Module:
        report(f"garment: training teacher {seed} of {MEMBERS}")
        return fit(net, images.pixels, images.labels, TEACHER_SCHEDULE, seed=seed, report=report)

    recipe = f"{TEACHER_SCHEDULE} seed {seed}"
    cached(folder, f"teacher-{seed}", recipe, net, first)

    def second() -> nn.Module:
        report(f"garment: refining teacher {seed} of {MEMBERS}")
        again = seed + MEMBERS
        fit(net, images.pixels, images.labels, REFINING_SCHEDULE, seed=again, report=report)
        accuracy = top1(log_probabilities(net, images.validation_pixels), images.validation_labels)
        report(f"garment: teacher {seed}: validation top-1 {accuracy:.4f}")
        return net

    recipe = f"{recipe} then {REFINING_SCHEDULE}"
    return cached(folder, f"refined-{seed}", recipe, net, second)


def train_pruned(
    teacher: nn.Module, images: Images, seed: int, folder: Path, report: Report
) -> nn.Module:
    """The teacher with half of its channels removed, then taught by the whole teacher.

    Channels go by Taylor importance (Molchanov et al., 2019): how much the loss would change
    without them, estimated on training batches. torch-pruning finds what must
    go together: a residual sum keeps the same channels on both sides.
    """
    torch.manual_seed(seed)
    net = _without_channels(copy.deepcopy(teacher), images, PRUNED_SHARE)

    def train() -> nn.Module:
        report(f"garment: fine-tuning the pruned net, {count(net):,} parameters left")
        return _distil(net, teacher, images, PRUNED_SCHEDULE, seed, report)

    recipe = f"{TEACHER_RECIPE} {PRUNED_SCHEDULE} {PRUNED_SHARE} seed {seed}"
    return cached(folder, "pruned", recipe, net, train)


def train_student(
    teacher: nn.Module, images: Images, seed: int, folder: Path, report: Report
) -> nn.Module:
    """A small net of its own layout, taught by the teacher from the start."""
    torch.manual_seed(seed)
    net = nets.student()

    def train() -> nn.Module:
        report(f"garment: training the student, {count(net):,} parameters")
        return _distil(net, teacher, images, STUDENT_SCHEDULE, seed, report)

    recipe = f"{TEACHER_RECIPE} {STUDENT_SCHEDULE} seed {seed}"
    return cached(folder, "student", recipe, net, train)


def train_tiny(images: Images, seed: int, folder: Path, report: Report) -> nn.Module:
    """The smallest net learns from the labels alone: it has no room for a teacher's nuances."""
    torch.manual_seed(seed)
    net = nets.tiny()

    def train() -> nn.Module:
        report(f"garment: training the tiny net, {count(net):,} parameters")
        return fit(net, images.pixels, images.labels, TINY_SCHEDULE, seed=seed, report=report)

    return cached(folder, "tiny", f"{TINY_SCHEDULE} seed {seed}", net, train)


def _distil(
    net: nn.Module,
    teacher: nn.Module,
    images: Images,
    schedule: Schedule,
    seed: int,
    report: Report,
) -> nn.Module:
    def opinion(batch: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            logits: Tensor = teacher(batch)
        return logits.float().log_softmax(dim=1)

    teacher.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    fit(
        net,
        images.pixels,
        images.labels,
        schedule,
        seed=seed,
        report=report,
        distillation=Distillation(teacher=opinion),
    )
    accuracy = top1(log_probabilities(net, images.validation_pixels), images.validation_labels)
    report(f"garment: validation top-1 {accuracy:.4f}")
    return net


def _without_channels(net: nn.Module, images: Images, share: float) -> nn.Module:
    """Remove `share` of the channels of every layer, in multiples of eight, by importance."""
    import torch_pruning

    generator = torch.Generator().manual_seed(0)
    rows = torch.randperm(len(images.labels), generator=generator)[:TAYLOR_IMAGES]
    net.eval()
    for chosen in rows.split(256):
        batch = augment(images.pixels[chosen], TEACHER_SCHEDULE, generator)
        functional.cross_entropy(net(batch), images.labels[chosen]).backward()  # type: ignore[no-untyped-call]
    pruner = torch_pruning.pruner.BasePruner(
        net,
        torch.zeros(1, 1, 28, 28),
        importance=torch_pruning.importance.GroupTaylorImportance(),
        pruning_ratio=share,
        ignored_layers=[module for module in net.modules() if isinstance(module, nn.Linear)],
        # Whole vectors of eight channels are what the processor computes with anyway.
        round_to=8,
    )
    pruner.step()
    net.zero_grad()
    return net


def count(net: nn.Module) -> int:
    """The number of learned parameters."""
    return sum(parameter.numel() for parameter in net.parameters())
