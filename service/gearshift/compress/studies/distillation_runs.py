"""The training behind `distillation`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gearshift.compress import graphs
from gearshift.compress.dataset import DataSets, Part, joined
from gearshift.compress.evaluate import predict
from gearshift.compress.families import fraud as fraud_family
from gearshift.compress.families.fraud_data import INPUT as PAYMENT
from gearshift.compress.families.fraud_data import TIME
from gearshift.compress.families.garment import INPUT, changed
from gearshift.compress.families.garment_nets import convolutions
from gearshift.compress.learning import Inputs, Task, fit
from gearshift.compress.made import Report
from gearshift.compress.metrics import score
from gearshift.compress.networks import count
from gearshift.compress.perceptrons import Plan as NetworkPlan
from gearshift.compress.perceptrons import fit_perceptrons
from gearshift.compress.recipe import Learning, Teaching
from gearshift.compress.studies.distillation import Arm, Pair, Plan, Trial

LABELS = "labels alone"
PUBLISHED = "published teacher, logits"
LOGITS = "same-rows teacher, logits"
EMBEDDINGS = "same-rows teacher, embeddings"
STEP = 256


class Numbered(nn.Module):
    """A network of pictures that is also told the number of each row, for a teacher's table."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.inner = net

    def features(self, pixels: Tensor, rows: Tensor) -> Tensor:
        """What the network thinks before its last layer decides."""
        inner = self.inner.net
        image = pixels.float().unsqueeze(1) / 255.0
        found: Tensor = inner.pool(inner.body(image)).flatten(1)
        return found

    def forward(self, pixels: Tensor, rows: Tensor) -> Tensor:
        logits: Tensor = self.inner.net.head(self.features(pixels, rows))
        return logits


def garment(
    training: Part,
    evaluation: Part,
    plan: Plan,
    seeds: Sequence[int],
    report: Report,
    published: bytes | None = None,
) -> Trial:
    """A small student of pictures: labels alone, logits, embeddings.

    What a teacher thinks of each row is asked once and looked up afterwards, so the pictures
    are not augmented for any student.
    """
    torch.set_num_threads(1)
    pixels, labels = torch.from_numpy(training.inputs[INPUT]), torch.from_numpy(training.labels)
    opinions: dict[str, Tensor] = {}
    if published is not None:
        report("asking the published teacher")
        answers = predict(published, training.inputs)
        opinions[PUBLISHED] = torch.from_numpy(answers).clamp_min(1e-12).log()
    own = _teacher(pixels, labels, plan, report)
    numbers = torch.arange(len(labels))
    opinions[LOGITS] = _asked(own, pixels, numbers)
    opinions[EMBEDDINGS] = _asked(own.features, pixels, numbers)
    found: dict[str, list[float]] = {name: [] for name in (LABELS, *opinions)}
    for seed in seeds:
        for name, values in found.items():
            report(f"student, {name}, seed {seed}")
            task = _task(name, opinions)
            torch.manual_seed(seed)
            net = Numbered(convolutions(plan.student))
            schedule = Learning(epochs=plan.epochs, rate=0.1, batch=plan.batch)
            fit(net, (pixels, numbers), labels, schedule, task, seed=seed, report=_silent)
            values.append(_top1(net, evaluation))
    teacher = _top1(own, evaluation)
    ahead = 100 * (teacher - fmean(found[LABELS]))
    lead = f"this teacher is {ahead:+.2f} points from the twins without"
    return Trial(
        model="garment",
        metric="top-1",
        arms=[Arm(name, values) for name, values in found.items()],
        pairs=[Pair(name, name, LABELS, "" if name == PUBLISHED else lead) for name in opinions],
        method=(
            f"garment: a student of {count(convolutions(plan.student)):,} parameters, "
            f"{len(labels):,} images of Fashion-MNIST, {plan.epochs} epochs, temperature 2, labels "
            f"10 % of the loss (50 % with embeddings); {len(evaluation):,} held-out images. The "
            "published teacher learned from all 55,000 images: it brings what it saw in the "
            f"others, too. The teacher of these rows ({count(own):,} parameters, top-1 "
            f"{teacher:.4f}) learned from the same rows as its students. Students can take from "
            "it only what it is ahead of them: compare its top-1 with that of `labels alone` "
            "before reading more into its rows."
        ),
    )


def _teacher(pixels: Tensor, labels: Tensor, plan: Plan, report: Report) -> Numbered:
    torch.manual_seed(0)
    net = Numbered(convolutions(plan.teacher))

    def augment(given: Inputs, generator: torch.Generator) -> Inputs:
        return (*changed(given[:1], generator), given[1])

    schedule = Learning(epochs=plan.teacher_epochs, rate=0.2, batch=2 * plan.batch)
    task = Task(activation="softmax")
    inputs = (pixels, torch.arange(len(labels)))
    fit(net, inputs, labels, schedule, task, seed=0, report=report, augment=augment)
    return net


def _asked(ask: Callable[..., Tensor], pixels: Tensor, numbers: Tensor) -> Tensor:
    with torch.no_grad():
        parts = zip(pixels.split(STEP), numbers.split(STEP), strict=True)
        return torch.cat([ask(some, rows) for some, rows in parts])


def _task(name: str, opinions: Mapping[str, Tensor]) -> Task:
    if name == LABELS:
        return Task(activation="softmax")
    table = opinions[name]
    teaching = Teaching(teacher="teacher")
    if name == EMBEDDINGS:
        teaching = Teaching(teacher="teacher", learn="embeddings", hard_share=0.5)
    return Task(
        activation="softmax",
        teaching=teaching,
        teacher=lambda given: table.to(given[1].device)[given[1]],
    )


def _top1(net: nn.Module, part: Part) -> float:
    pixels = torch.from_numpy(part.inputs[INPUT])
    outputs = _asked(net, pixels, torch.arange(len(part)))
    return score("top1", part.labels, outputs.numpy())


def _silent(line: str) -> None:
    """A student of seconds need not tell each of its epochs."""


def fraud(data: DataSets, seeds: Sequence[int], report: Report) -> Trial:
    """The published network's settings with and without its trees, on the same rows each.

    An earlier comparison gave the taught network more rows; here both effects stand alone.
    """
    plan = NetworkPlan(
        hidden=(16,), epochs=15, batch=1024, rate=3e-3, weight_decay=1e-2, dropout=0.1
    )
    sets = {"fewer rows": data.training, "all rows": joined(data.training, data.calibration)}
    arms = []
    for words, rows in sets.items():
        report(f"fraud, {words}: asking trees about rows that they did not grow on")
        soft = _out_of_fold(fraud_family.timeless(rows), rows.labels, seed=1)
        for name, share in (("labels", 0.0), ("trees", 0.9)):
            targets = (share * soft + (1.0 - share) * rows.labels).astype(np.float32)
            values = []
            for seed in seeds:
                report(f"fraud, {name}, {words}, seed {seed}")
                values.append(_average_precision(rows, targets, plan, seed, data.evaluation))
            arms.append(Arm(f"{name}, {words}", values))
    fewer, more = (len(rows) for rows in sets.values())
    return Trial(
        model="fraud",
        metric="average precision",
        arms=arms,
        pairs=[
            Pair("trees, all rows", "trees, all rows", "labels, all rows"),
            Pair("trees, fewer rows", "trees, fewer rows", "labels, fewer rows"),
            Pair("more rows, labels", "labels, all rows", "labels, fewer rows"),
            Pair("more rows, trees", "trees, all rows", "trees, fewer rows"),
        ],
        method=(
            f"fraud: the published `mlp` (16 hidden units, 15 epochs) from the first {fewer:,} or "
            f"the first {more:,} payments, measured on {len(data.evaluation):,} later ones with "
            f"{int(data.evaluation.labels.sum())} frauds. Trees: 90 % of the target is the opinion "
            "of extra trees that did not see the row (the same trees for all seeds), 10 % the "
            "label. The further rows are later ones, nearer to those measured on: their effect is "
            "that of more and of fresher rows together."
        ),
    )


def _out_of_fold(features: Any, labels: Any, seed: int) -> Any:
    """The trees' opinion on each row, from trees that did not see it: [n]."""
    from sklearn.model_selection import StratifiedKFold

    soft = np.zeros(len(labels), np.float32)
    settings = {"n_estimators": 60, "min_samples_leaf": 3, "max_features": 10}
    folds = StratifiedKFold(3, shuffle=True, random_state=seed)
    for seen, asked in folds.split(features, labels):
        classifier = fraud_family.extra_trees(seed, settings)
        classifier.fit(features[seen], labels[seen])
        soft[asked] = classifier.predict_proba(features[asked])[:, 1]
    return soft


def _average_precision(
    rows: Part, targets: Any, plan: NetworkPlan, seed: int, evaluation: Part
) -> float:
    features = np.asarray(rows.inputs[PAYMENT], np.float32)
    scaling = graphs.Scaling.fit(features, fraud_family.REACH, ignored=(TIME,))
    layers = fit_perceptrons(scaling.apply(features), targets, plan, seed)
    outputs = predict(graphs.perceptron(scaling, layers), evaluation.inputs, 4_096)
    return score("average_precision", evaluation.labels, outputs)
