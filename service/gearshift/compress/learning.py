"""One training loop for every network: one cycle of the rate, with or without a teacher.

A killed run goes on from its last whole epoch. Mixed precision (bfloat16) is used where the
device computes in it: on processors without, PyTorch imitates it ten times slower than float32.
On a GPU the rows lie in its memory, if they fit, and nothing waits for it but the end of an epoch.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gearshift.compress.machine import machine
from gearshift.compress.made import Report
from gearshift.compress.recipe import Learning, Teaching
from gearshift.errors import GearshiftError

Inputs = tuple[Tensor, ...]
"""One tensor a graph input, in the graph's order; rows first."""
Augment = Callable[[Inputs, torch.Generator], Inputs]
"""Inputs and generator are on one device: what is drawn must be asked for there, too."""


class LossError(GearshiftError):
    """The loss became NaN or infinite: nothing that was trained can be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What the loss compares: the network's output with labels, a teacher's opinion, or both."""

    activation: str
    """As in the recipe's `[output]`: `softmax` and `sigmoid` have labels to learn from."""
    smoothing: float = 0.0
    teaching: Teaching | None = None
    teacher: Callable[[Inputs], Tensor] | None = None
    """Logits [n, k] or embeddings [n, d] of the teacher for a batch."""


def rate_at(learning: Learning, progress: float) -> float:
    """The learning rate after the share `progress` (0..1) of all steps (Smith, 2018)."""
    if progress < learning.warmup:
        return learning.rate * progress / learning.warmup
    falling = (progress - learning.warmup) / max(1.0 - learning.warmup, 1e-9)
    return learning.rate * 0.5 * (1.0 + math.cos(math.pi * falling))


def device_of_training() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name() -> str:
    """Where training runs and in what arithmetic, in words."""
    device = device_of_training()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else machine()
    return f"{name}, {'bfloat16' if fast_half(device) else 'float32'}"


def fast_half(device: torch.device) -> bool:
    """Whether `device` computes in bfloat16 itself instead of imitating it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported())


def fit(
    net: nn.Module,
    inputs: Inputs,
    labels: Tensor,
    learning: Learning,
    task: Task,
    *,
    seed: int,
    report: Report,
    augment: Augment | None = None,
    state: Path | None = None,
    half: bool | None = None,
) -> nn.Module:
    """Train `net` in place on rows [n, ...] and `labels` [n]; return it in eval mode.

    The same seed, number of threads and machine give the same network, also when `state` lets
    a killed run go on (on a GPU up to the order in which it adds). `half` computes in bfloat16;
    None does so where the device is made for it. LossError when the loss stops being a number.
    """
    device = device_of_training()
    generator = torch.Generator(device).manual_seed(seed)
    net = net.to(device).train()
    if device.type == "cuda":
        # What GPUs convolve fastest in; every batch has the same shape, so trying pays.
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        torch.backends.cudnn.benchmark = True
    inputs, labels = _placed((*inputs, labels), device)
    extra = _projection(net, inputs, task, device)
    trained = [*net.parameters(), *(extra.parameters() if extra is not None else ())]
    optimizer = _optimizer(trained, learning)
    first = _resume(state, net, optimizer, generator, extra)
    batch = min(learning.batch, len(labels))
    batches = max(1, len(labels) // batch)
    total = learning.epochs * batches
    started = time.monotonic()
    half = fast_half(device) if half is None else half
    with _checkpointed(net, learning.checkpoints):
        for epoch in range(first, learning.epochs):
            running = torch.zeros((), dtype=torch.float64, device=device)
            for index, rows in enumerate(_batches(len(labels), batch, generator)):
                for group in optimizer.param_groups:
                    group["lr"] = rate_at(learning, (epoch * batches + index) / total)
                *given, wanted = (_taken(tensor, rows) for tensor in (*inputs, labels))
                changed = tuple(given) if augment is None else augment(tuple(given), generator)
                with torch.autocast(device.type, torch.bfloat16, enabled=half):
                    loss = _loss(net, changed, wanted, task, extra)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                running += loss.detach()
            total_loss = float(running)
            if not math.isfinite(total_loss):
                raise LossError(
                    f"the loss is {total_loss} in epoch {epoch + 1} of {learning.epochs}; a lower "
                    f"rate than {learning.rate:g} or smaller inputs may help"
                )
            report(
                f"epoch {epoch + 1}/{learning.epochs} loss {total_loss / batches:.4f} "
                f"{time.monotonic() - started:.0f} s"
            )
            _keep(state, net, optimizer, generator, extra, epoch + 1)
    return net.cpu().to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload,no-any-return]


def _placed(tensors: Sequence[Tensor], device: torch.device) -> tuple[Inputs, Tensor]:
    """Rows and, last, labels: on a GPU where half of its free memory holds them all."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if sum(tensor.nbytes for tensor in tensors) <= free // 2:
            tensors = [tensor.to(device) for tensor in tensors]
    *inputs, labels = tensors
    return tuple(inputs), labels


def _taken(tensor: Tensor, rows: Tensor) -> Tensor:
    """The `rows` of `tensor`, on the device of `rows`."""
    return tensor[rows.to(tensor.device)].to(rows.device)


def _loss(
    net: nn.Module, given: Inputs, labels: Tensor, task: Task, extra: nn.Module | None
) -> Tensor:
    teaching = task.teaching
    if teaching is None or task.teacher is None:
        return hard_loss(net(*given).float(), labels, task)
    with torch.no_grad():
        target = task.teacher(given).float()
    if teaching.learn == "logits":
        output = net(*given).float()
        soft = _soft(output, target, task.activation, teaching.temperature)
        hard_output = output
    else:
        embedded = embedding(net, given).float()
        projected = embedded if extra is None else extra(embedded)
        # The angle is what a comparison of embeddings looks at; their length carries nothing.
        soft = (1.0 - functional.cosine_similarity(projected, target, dim=1)).mean()
        hard_output = None
    if teaching.hard_share == 0.0:
        return soft
    if hard_output is None:
        hard_output = net(*given).float()
    hard = hard_loss(hard_output, labels, task)
    return teaching.hard_share * hard + (1.0 - teaching.hard_share) * soft


def hard_loss(output: Tensor, labels: Tensor, task: Task) -> Tensor:
    """The loss that labels alone give."""
    if task.activation == "softmax":
        return functional.cross_entropy(output, labels, label_smoothing=task.smoothing)
    if task.activation == "sigmoid":
        wanted = labels.to(output.dtype) * (1.0 - task.smoothing) + 0.5 * task.smoothing
        return functional.binary_cross_entropy_with_logits(output.reshape(len(labels)), wanted)
    raise LossError(
        f"an output with activation {task.activation!r} has no labels to learn from: give the "
        "step a `teaching` table with hard_share = 0"
    )


def _soft(output: Tensor, target: Tensor, activation: str, temperature: float) -> Tensor:
    """The teacher's opinion as the target; the gradient shrinks with the temperature squared."""
    if activation == "softmax":
        wanted = (target / temperature).softmax(dim=1)
        return functional.cross_entropy(output / temperature, wanted) * temperature**2
    if activation == "sigmoid":
        wanted = (target / temperature).sigmoid()
        loss = functional.binary_cross_entropy_with_logits(output / temperature, wanted)
        return loss * temperature**2
    return (1.0 - functional.cosine_similarity(output, target, dim=1)).mean()


def embedding(net: nn.Module, given: Inputs) -> Tensor:
    """What the network thinks before it decides: `features` where it has them, or its output."""
    features = getattr(net, "features", net)
    found: Tensor = features(*given)
    return found


def _projection(
    net: nn.Module, inputs: Inputs, task: Task, device: torch.device
) -> nn.Module | None:
    """A linear layer between embeddings of different widths; it is thrown away afterwards."""
    if task.teaching is None or task.teaching.learn == "logits" or task.teacher is None:
        return None
    probe = tuple(tensor[:2].to(device) for tensor in inputs)
    with torch.no_grad():
        net.eval()
        own, wanted = embedding(net, probe), task.teacher(probe)
        net.train()
    if own.shape[1] == wanted.shape[1]:
        return None
    return nn.Linear(own.shape[1], wanted.shape[1], bias=False).to(device)


def _optimizer(trained: Sequence[nn.Parameter], learning: Learning) -> torch.optim.Optimizer:
    # Biases and the scales of normalizations are not pulled towards zero.
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": learning.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if learning.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=0.0)
    return torch.optim.SGD(groups, lr=0.0, momentum=0.9, nesterov=True)


def _batches(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    order = torch.randperm(n, generator=generator, device=generator.device)
    for start in range(0, n - size + 1, size):
        yield order[start : start + size]


def _keep(
    state: Path | None,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    extra: nn.Module | None,
    epochs: int,
) -> None:
    if state is None:
        return
    state.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: somebody else may be at the same step on the same cache.
    partial = state.with_suffix(f".{os.getpid()}.partial")
    kept: dict[str, Any] = {
        "epochs": epochs,
        "net": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generator": generator.get_state(),
        "device": generator.device.type,
        "dropout": _dropout(generator.device),
        "extra": {} if extra is None else extra.state_dict(),
    }
    torch.save(kept, partial)
    partial.replace(state)


def _resume(
    state: Path | None,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    extra: nn.Module | None,
) -> int:
    """The number of epochs that an earlier, killed run has done on this kind of device."""
    if state is None or not state.exists():
        return 0
    kept = torch.load(state, map_location="cpu", weights_only=True)
    if kept["device"] != generator.device.type:
        return 0  # Its generator is of another kind: what it would draw next is not known here.
    net.load_state_dict(kept["net"])
    optimizer.load_state_dict(kept["optimizer"])
    generator.set_state(kept["generator"])
    if generator.device.type == "cuda":
        torch.cuda.set_rng_state(kept["dropout"], generator.device)
    else:
        torch.set_rng_state(kept["dropout"])
    if extra is not None:
        extra.load_state_dict(kept["extra"])
    return int(kept["epochs"])


def _dropout(device: torch.device) -> Tensor:
    """The state of the generator that dropout draws from."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


@contextmanager
def _checkpointed(net: nn.Module, wanted: bool) -> Iterator[None]:
    """Let each of `net.segments()` forget what it computed and compute it again going back."""
    if not wanted:
        yield
        return
    segments = getattr(net, "segments", None)
    if segments is None:
        raise LossError(
            f"checkpoints = true needs a method `segments()` of {type(net).__name__} that names "
            "the modules between which activations are kept"
        )
    with checkpointing(list(segments())):
        yield


@contextmanager
def checkpointing(blocks: Sequence[nn.Module]) -> Iterator[None]:
    """Keep only the activations at the edges of `blocks` (Chen et al., 2016).

    A batch normalization inside sees each batch twice, so its momentum m becomes
    1 - sqrt(1 - m): two such steps move the running figures exactly as one of m does.
    """
    from torch.utils.checkpoint import checkpoint

    originals = [block.forward for block in blocks]
    norms = {
        module: module.momentum
        for block in blocks
        for module in block.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.momentum is not None
    }
    for block, original in zip(blocks, originals, strict=True):

        def again(*given: Any, _original: Callable[..., Any] = original) -> Any:
            return checkpoint(_original, *given, use_reentrant=False)

        block.forward = again  # type: ignore[method-assign]
    for module, momentum in norms.items():
        module.momentum = 1.0 - math.sqrt(1.0 - momentum)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward
        for module, momentum in norms.items():
            module.momentum = momentum
