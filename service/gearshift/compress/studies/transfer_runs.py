"""The training behind `transfer`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gearshift.compress.dataset import Part
from gearshift.compress.families.garment import INPUT
from gearshift.compress.families.garment_nets import WHITE, convolutions
from gearshift.compress.learning import Task as Loss
from gearshift.compress.learning import fit
from gearshift.compress.made import Report
from gearshift.compress.metrics import score
from gearshift.compress.networks import take_weights
from gearshift.compress.recipe import Learning
from gearshift.compress.studies.transfer import (
    FROZEN,
    PIXELS,
    SCRATCH,
    TUNED,
    Count,
    Target,
    Task,
)

Layers = Sequence[tuple[int, int, int]]
BATCH = 64
RATE = 3e-3
LOSS = Loss(activation="softmax")
STEP = 256


def run(
    tasks: Sequence[Task],
    seeds: Sequence[int],
    report: Report,
    *,
    layers: Layers,
    epochs: int,
    steps: int,
) -> list[Target]:
    """Pretrain once a task, then learn it from few labels in every way."""
    torch.set_num_threads(1)
    return [_target(task, seeds, report, layers, epochs, steps) for task in tasks]


def _target(
    task: Task, seeds: Sequence[int], report: Report, layers: Layers, epochs: int, steps: int
) -> Target:
    report(f"{task.name}: pretraining on {task.backbone}")
    torch.manual_seed(0)
    backbone = convolutions(layers)
    schedule = Learning(epochs=epochs, rate=0.1, batch=BATCH)
    fit(backbone, *_tensors(task.source), schedule, LOSS, seed=0, report=report)
    counts = []
    measured = task.evaluation
    for labels in task.counts:
        found: dict[str, list[float]] = {arm: [] for arm in (SCRATCH, TUNED, FROZEN, PIXELS)}
        for seed in seeds:
            report(f"{task.name}: {labels} labels a class, seed {seed}")
            rows = few(task.training, labels, seed)
            found[SCRATCH].append(_network(layers, None, rows, measured, steps, seed))
            found[TUNED].append(_network(layers, backbone, rows, measured, steps, seed))
            found[FROZEN].append(
                linear(_features(backbone, rows), rows, _features(backbone, measured), measured)
            )
            found[PIXELS].append(linear(_flat(rows), rows, _flat(measured), measured))
        counts.append(Count(labels, dict(found)))
    return Target(
        name=task.name,
        backbone=task.backbone,
        classes=len(np.unique(task.training.labels)),
        n=len(task.evaluation),
        counts=counts,
        method=(
            f"Images: three convolutions and a linear layer; at every number of labels about "
            f"{steps} steps of AdamW with one schedule, whether it starts pretrained or not; the "
            "last layer always starts at random. Where there are many labels that is little for "
            "the networks: training longer may change the order. Linear: logistic regression on "
            "the standardized features of the frozen layers, or on the pixels. Neither the rate "
            "nor the regularization was tuned for a number of labels: with so few there is "
            "nothing to tune by."
        ),
    )


def few(part: Part, labels: int, seed: int) -> Part:
    """`labels` rows of every class, or all where there are fewer."""
    generator = np.random.default_rng(seed)
    chosen = [
        generator.permutation(np.flatnonzero(part.labels == label))[:labels]
        for label in np.unique(part.labels)
    ]
    return part.rows(np.sort(np.concatenate(chosen)))


def _network(
    layers: Layers, backbone: nn.Module | None, rows: Part, evaluation: Part, steps: int, seed: int
) -> float:
    torch.manual_seed(seed)
    net = convolutions(layers)
    if backbone is not None:
        body = {n: w for n, w in backbone.state_dict().items() if not n.startswith("net.head")}
        take_weights(net, body)
    batch = min(BATCH, len(rows))
    epochs = math.ceil(steps / (len(rows) // batch))
    schedule = Learning(epochs=epochs, rate=RATE, batch=batch, optimizer="adamw", weight_decay=1e-2)
    fit(net, *_tensors(rows), schedule, LOSS, seed=seed, report=lambda line: None)
    with torch.no_grad():
        pixels = torch.from_numpy(evaluation.inputs[INPUT])
        outputs = torch.cat([net(some) for some in pixels.split(STEP)])
    return score("top1", evaluation.labels, outputs.numpy())


def linear(known: Any, rows: Part, asked: Any, evaluation: Part) -> float:
    """The accuracy of logistic regression on standardized features, `known` to learn from."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    model.fit(known, rows.labels)
    return float((model.predict(asked) == evaluation.labels).mean())


def _features(backbone: Any, part: Part) -> Any:
    """What the frozen layers give before the last one: float32 [n, width]."""
    inner = backbone.eval().net
    pixels = torch.from_numpy(part.inputs[INPUT])
    with torch.no_grad():
        parts = [
            inner.pool(inner.body(some.float().unsqueeze(1) / WHITE)).flatten(1)
            for some in pixels.split(STEP)
        ]
    return torch.cat(parts).numpy()


def _flat(part: Part) -> Any:
    return part.inputs[INPUT].reshape(len(part), -1).astype(np.float32)


def _tensors(part: Part) -> tuple[tuple[Tensor, ...], Tensor]:
    pixels = torch.from_numpy(np.ascontiguousarray(part.inputs[INPUT]))
    return (pixels,), torch.from_numpy(part.labels)
