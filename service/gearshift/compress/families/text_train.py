"""Fine-tuning a text classifier, and teaching a smaller one: modules and tensors in and out.

The optimizer is AdamW (Loshchilov and Hutter, 2019: arXiv 1711.05101) with a learning rate that
rises and falls in straight lines, as in BERT's own fine-tuning.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from gearshift.compress.families.text_data import PADDING
from gearshift.compress.families.text_net import Classifier, mean_over_tokens
from gearshift.compress.learning import LossError

Report = Callable[[str], None]
REPORTS = 20
"""Steps between two lines of progress, at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how strongly to train."""

    epochs: int
    peak_rate: float
    batch: int = 16
    warmup: float = 0.1
    """Share of all steps in which the learning rate rises."""
    weight_decay: float = 0.01
    clip: float = 1.0
    """The longest gradient (norm over all parameters); longer ones are shortened to it."""
    tokens: int | None = None
    """Learn from the first tokens of a row only; None takes all."""
    frozen: int = 0
    """Stages from below that stay as they are: 1 the embeddings, 2 also the first block, ..."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """What a teacher says about each of the n rows that a student learns from."""

    logits: Tensor
    """[n, classes]"""
    embeddings: Tensor
    """Mean over tokens, [n, width of the teacher], not normalized."""
    states: Tensor | None = None
    """The last block's output, [n, t, width of the teacher], in float16 to halve its memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distillation:
    """How much of the loss each thing that the teacher says makes up."""

    logits: float = 0.9
    """Share of the teacher's probabilities in the answer's loss (Hinton et al., 2015: arXiv
    1503.02531); the labels give the rest. 0 with rows whose labels are known, 1 without."""
    temperature: float = 2.0
    embeddings: float = 1.0
    """Weight of 1 - cosine with the teacher's embedding (Reimers and Gurevych, 2020)."""
    states: float = 1.0
    """Weight of the squared distance of the last states, token by token, relative to the
    teacher's own (Jiao et al., 2020: arXiv 1909.10351)."""


def rate_at(schedule: Schedule, progress: float) -> float:
    """The learning rate after the share `progress` (0..1) of all steps."""
    if progress < schedule.warmup:
        return schedule.peak_rate * progress / schedule.warmup
    return schedule.peak_rate * (1.0 - progress) / (1.0 - schedule.warmup)


def fine_tune(
    net: Classifier,
    ids: Tensor,
    labels: Tensor,
    schedule: Schedule,
    *,
    seed: int,
    report: Report,
) -> Classifier:
    """Train `net` in place on `ids` int64 [n, t] and `labels` int64 [n]; return it in eval mode.

    The same seed, number of threads and machine give the same network.
    """

    def loss(rows: Tensor, batch: Tensor) -> Tensor:
        return functional.cross_entropy(net(batch), labels[rows])

    _train(net, [], ids, loss, schedule, seed, report)
    net.eval()
    return net


def teach(
    student: Classifier,
    ids: Tensor,
    labels: Tensor,
    lessons: Lessons,
    schedule: Schedule,
    distillation: Distillation,
    *,
    seed: int,
    report: Report,
) -> Classifier:
    """Train `student` in place to answer and to embed as its teacher does; eval mode after.

    A student narrower than its teacher gets a linear layer to the teacher's width for the
    time of the training: what is compared is what can be read out of its embedding.
    """
    width, target = student.encoder.shape.width, lessons.embeddings.shape[1]
    torch.manual_seed(seed)
    reading: nn.Module = nn.Identity() if width == target else nn.Linear(width, target)

    def loss(rows: Tensor, batch: Tensor) -> Tensor:
        states = student.encoder(batch)
        embedding = mean_over_tokens(states, batch)
        result = _answer_loss(
            student.logits(embedding), lessons.logits[rows], labels[rows], distillation
        )
        if distillation.embeddings:
            cosine = functional.cosine_similarity(reading(embedding), lessons.embeddings[rows])
            result = result + distillation.embeddings * (1.0 - cosine).mean()
        if distillation.states and lessons.states is not None:
            wanted = lessons.states[rows, : batch.shape[1]].float()
            present = (batch != PADDING).unsqueeze(2)
            distance = ((reading(states) - wanted) ** 2 * present).sum()
            result = result + distillation.states * distance / (wanted**2 * present).sum()
        return result

    _train(student, [*reading.parameters()], ids, loss, schedule, seed, report)
    student.eval()
    return student


def _answer_loss(
    logits: Tensor, teacher: Tensor, labels: Tensor, distillation: Distillation
) -> Tensor:
    hard = functional.cross_entropy(logits, labels)
    temperature = distillation.temperature
    soft = functional.kl_div(
        (logits / temperature).log_softmax(dim=1),
        (teacher / temperature).log_softmax(dim=1),
        reduction="batchmean",
        log_target=True,
    )
    # The gradient of the soft loss shrinks with the square of the temperature.
    share = distillation.logits
    return share * temperature**2 * soft + (1.0 - share) * hard


def _train(
    net: Classifier,
    more: list[nn.Parameter],
    ids: Tensor,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    schedule: Schedule,
    seed: int,
    report: Report,
) -> None:
    """Minimize `loss_of(rows, ids of these rows)`; the parameters `more` are trained as well."""
    torch.manual_seed(seed)  # What dropout draws.
    generator = torch.Generator().manual_seed(seed)
    learned = [*_thawed(net, schedule.frozen), *more]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in learned if p.dim() > 1], "weight_decay": schedule.weight_decay},
            {"params": [p for p in learned if p.dim() <= 1], "weight_decay": 0.0},
        ],
        lr=0.0,
    )
    ids = ids[:, : schedule.tokens]
    steps = schedule.epochs * math.ceil(len(ids) / schedule.batch)
    net.train()
    started, running, since = time.monotonic(), 0.0, 0
    for step, rows in enumerate(_batches(len(ids), schedule, generator)):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(schedule, (step + 1) / (steps + 1))
        batch = ids[rows]
        # Columns that are padding in every row of the batch would be computed for nothing.
        batch = batch[:, : int((batch != PADDING).sum(dim=1).max())]
        loss = loss_of(rows, batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise LossError(f"the loss is {value} in step {step + 1}; lower peak_rate")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(learned, schedule.clip)
        optimizer.step()
        running, since = running + value, since + 1
        if (since * 10 >= steps and since >= REPORTS) or step + 1 == steps:
            seconds = time.monotonic() - started
            report(f"  step {step + 1}/{steps} loss {running / since:.4f} {seconds:.0f} s")
            running, since = 0.0, 0
    for parameter in net.parameters():
        parameter.requires_grad_(True)


def _thawed(net: Classifier, frozen: int) -> list[nn.Parameter]:
    """The parameters to train, after the gradients of the `frozen` lowest stages were stopped."""
    encoder = net.encoder
    stages: list[list[nn.Parameter]] = [
        [*encoder.words.parameters(), encoder.positions, *encoder.norm.parameters()],
        *([*block.parameters()] for block in encoder.blocks),
    ]
    for stage in stages[:frozen]:
        for parameter in stage:
            parameter.requires_grad_(False)
    return [parameter for parameter in net.parameters() if parameter.requires_grad]


def _batches(n: int, schedule: Schedule, generator: torch.Generator) -> Iterator[Tensor]:
    for _ in range(schedule.epochs):
        yield from torch.randperm(n, generator=generator).split(schedule.batch)


@torch.inference_mode()
def lessons_of(
    teacher: Classifier, ids: Tensor, *, states: bool = False, batch: int = 32
) -> Lessons:
    """What `teacher` says about the rows `ids` int64 [n, t]."""
    teacher.eval()
    logits, embeddings, last = [], [], []
    for rows in ids.split(batch):
        found = teacher.encoder(rows)
        embeddings.append(mean_over_tokens(found, rows))
        logits.append(teacher.logits(embeddings[-1]))
        if states:
            last.append(found.half())
    return Lessons(
        logits=torch.cat(logits),
        embeddings=torch.cat(embeddings),
        states=torch.cat(last) if states else None,
    )


def accuracy(net: Classifier, ids: Tensor, labels: Tensor) -> float:
    """The share of rows whose most probable class is the label."""
    answers = lessons_of(net, ids).logits.argmax(dim=1)
    return float((answers == labels).float().mean())


def few(labels: Tensor, per_class: int, seed: int) -> Tensor:
    """The indices of `per_class` random rows of each class, ascending."""
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for label in labels.unique():
        rows = torch.nonzero(labels == label).flatten()
        if len(rows) < per_class:
            raise ValueError(f"class {int(label)} has {len(rows)} rows, not {per_class}")
        chosen.append(rows[torch.randperm(len(rows), generator=generator)[:per_class]])
    return torch.cat(chosen).sort().values
