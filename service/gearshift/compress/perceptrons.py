"""Training fully connected networks on tables: one, or many side by side as one.

The members of an ensemble differ in their initial weights and in the order of their rows
(deep ensembles: Lakshminarayanan et al., 2017). They are trained together as one batched
product, which on a small table takes hardly longer than training one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from gearshift.compress.graphs import Layer
from gearshift.compress.learning import LossError

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The shape of the networks and how they are trained (AdamW, rate falling to zero)."""

    hidden: tuple[int, ...]
    members: int = 1
    epochs: int
    batch: int
    rate: float
    weight_decay: float = 0.0
    dropout: float = 0.0
    noise: float = 0.0
    """Deviation of Gaussian noise on the scaled inputs while training."""


def fit_perceptrons(inputs: Floats, targets: Floats, plan: Plan, seed: int) -> list[Layer]:
    """Fit scaled `inputs` [n, d] to `targets` [n], probabilities or labels, by cross-entropy."""
    # Products this small gain nothing from threads, and one thread makes them repeatable.
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.from_numpy(inputs), torch.from_numpy(targets)
    parameters = _initial(inputs.shape[1], plan, float(targets.mean()), generator)
    weights, biases = parameters[0::2], parameters[1::2]
    optimizer = torch.optim.AdamW(
        [
            {"params": weights, "weight_decay": plan.weight_decay},
            {"params": biases, "weight_decay": 0.0},
        ],
        lr=plan.rate,
    )
    n, batch = len(y), min(plan.batch, len(y))
    steps = plan.epochs * (n // batch)
    step = 0
    for _ in range(plan.epochs):
        order = torch.argsort(torch.rand(plan.members, n, generator=generator), dim=1)
        for start in range(0, n - batch + 1, batch):
            for group in optimizer.param_groups:
                group["lr"] = plan.rate * 0.5 * (1.0 + math.cos(math.pi * step / steps))
            rows = order[:, start : start + batch]
            logits = _forward(x[rows], parameters, plan, generator)
            # Summed over the members: each gets the gradient that it would get alone.
            loss = functional.binary_cross_entropy_with_logits(logits, y[rows]) * plan.members
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1
    final = float(loss.detach())
    if not math.isfinite(final):
        raise LossError(f"the loss is {final}; lower the rate {plan.rate}")
    arrays = [parameter.detach().numpy() for parameter in parameters]
    return [Layer(w, b) for w, b in zip(arrays[0::2], arrays[1::2], strict=True)]


def _initial(width: int, plan: Plan, share: float, generator: torch.Generator) -> list[Tensor]:
    """He-initialized weights; the last bias starts at the log-odds of the positive class."""
    parameters = []
    sizes = [width, *plan.hidden, 1]
    for inputs, outputs in pairwise(sizes):
        weight = torch.randn(plan.members, inputs, outputs, generator=generator)
        parameters += [weight * math.sqrt(2.0 / inputs), torch.zeros(plan.members, 1, outputs)]
    parameters[-1] += math.log(share / (1.0 - share))
    return [parameter.requires_grad_() for parameter in parameters]


def _forward(
    x: Tensor, parameters: Sequence[Tensor], plan: Plan, generator: torch.Generator
) -> Tensor:
    if plan.noise > 0:
        x = x + plan.noise * torch.randn(x.shape, generator=generator)
    for index in range(0, len(parameters), 2):
        x = torch.baddbmm(parameters[index + 1], x, parameters[index])
        if index < len(parameters) - 2:
            x = x.relu()
            if plan.dropout > 0:
                kept = torch.rand(x.shape, generator=generator) >= plan.dropout
                x = x * kept / (1.0 - plan.dropout)
    return x.squeeze(2)


def parameters(layers: Sequence[Layer]) -> int:
    """How many numbers were learned."""
    return sum(layer.weight.size + layer.bias.size for layer in layers)
