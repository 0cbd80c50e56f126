"""The steps that need PyTorch: networks trained, pruned, taught, exported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gearshift.compress import pruning
from gearshift.compress.dataset import Part
from gearshift.compress.evaluate import session
from gearshift.compress.export import to_onnx
from gearshift.compress.functions import resolve
from gearshift.compress.learning import (
    Augment,
    Inputs,
    Task,
    device_name,
    embedding,
    fit,
    hard_loss,
)
from gearshift.compress.made import Made, StepError, Workshop, network_of
from gearshift.compress.networks import count, fill, take_weights
from gearshift.compress.recipe import Learning, Prune, Teaching, Train

TORCH = ("torch", "onnx", "onnxscript", "onnxruntime")


def given(net: nn.Module, make: Callable[[], nn.Module], shop: Workshop) -> Made:
    """A network that comes with its weights."""
    return _exported(net.eval(), "a trained network as given, float32", make, shop)


def train(step: Train, make: Callable[[], nn.Module], shop: Workshop) -> Made:
    """Train the network that `make` lays out."""
    seed = _seed(step.learning, shop)
    torch.manual_seed(seed)
    net = make()
    figures: dict[str, Any] = {}
    if step.start is not None:
        taken, own = take_weights(net, network_of(step.start, shop).state_dict())
        if not taken:
            raise StepError(f"no weight of {step.start!r} fits this network by name and shape")
        figures["weights_taken"] = f"{taken} of {own}"
    shop.report(f"{count(net):,} parameters")
    figures["trained_on"] = _learn(net, step.learning, step.teaching, shop)
    about = f"{type(net).__name__}, {step.learning.epochs} epochs{_taught(step.teaching)}, float32"
    return _exported(net, about, make, shop, figures)


def prune(step: Prune, shop: Workshop) -> Made:
    """A trained network without some of its channels, trained again."""
    source, make = network_of(step.of, shop), shop.made[step.of].factory
    assert make is not None
    net = fill(make(), source.state_dict())
    tensors, labels = _tensors(shop.data.training)
    teacher = _teacher(shop.made[step.of], "logits", shop.output.activation)
    with torch.no_grad():
        rows = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        rows = rows[: pruning.TAYLOR_ROWS]
        chosen = tuple(tensor[rows] for tensor in tensors)
        targets = torch.cat([teacher(part) for part in _parts(chosen)])
    task = Task(activation=shop.output.activation)
    learns = shop.output.activation in ("softmax", "sigmoid")
    pruning.without_channels(
        net,
        chosen,
        step.share,
        loss=_label_loss(task) if learns else _distance,
        targets=labels[rows] if learns else targets,
        importance=step.importance,
        everywhere=step.everywhere,
        round_to=step.round_to,
        keep=step.keep,
    )
    before, after = count(source), count(net)
    shop.report(f"{after:,} of {before:,} parameters left")
    figures: dict[str, Any] = {"parameters_before": before, "parameters_after": after}
    if step.learning is not None:
        figures["trained_on"] = _learn(net, step.learning, step.teaching, shop)
    about = f"{step.of} without {step.share:.0%} of its channels{_taught(step.teaching)}, float32"
    return _exported(net, about, make, shop, figures, tools=(*TORCH, "torch-pruning"))


def _exported(
    net: nn.Module,
    about: str,
    make: Callable[[], nn.Module],
    shop: Workshop,
    figures: dict[str, Any] | None = None,
    tools: tuple[str, ...] = TORCH,
) -> Made:
    output = shop.output
    return Made(
        artifact=to_onnx(net, shop.data.training, activation=output.activation, output=output.name),
        parameters=count(net),
        about=about,
        tools=tools,
        figures=figures or {},
        network=net,
        factory=make,
    )


def _learn(net: nn.Module, learning: Learning, teaching: Teaching | None, shop: Workshop) -> str:
    """Train `net` in place by the recipe's settings; return on what, in words."""
    tensors, labels = _tensors(shop.data.training)
    augment: Augment | None = None
    if learning.augment is not None:
        augment = resolve(learning.augment, shop.folder)
    teacher = None
    if teaching is not None:
        teacher = _teacher(shop.made[teaching.teacher], teaching.learn, shop.output.activation)
    fit(
        net,
        tensors,
        labels,
        learning,
        Task(
            activation=shop.output.activation,
            smoothing=learning.smoothing,
            teaching=teaching,
            teacher=teacher,
        ),
        seed=_seed(learning, shop),
        report=shop.report,
        augment=augment,
        state=shop.state,
    )
    return device_name()


def _teacher(made: Made, learn: str, activation: str) -> Callable[[Inputs], Tensor]:
    """What the teacher says of a batch: by its network where there is one, or by its artifact."""
    if made.network is not None:
        net = made.network.eval()

        def by_network(given: Inputs) -> Tensor:
            net.to(given[0].device)
            with torch.no_grad():
                return embedding(net, given) if learn == "embeddings" else net(*given)

        return by_network
    if learn == "embeddings" and activation in ("softmax", "sigmoid"):
        raise StepError(
            f"the teacher is an ONNX file that answers {activation} probabilities: it has no "
            "embeddings to learn from; take learn = 'logits'"
        )
    runtime = session(made.artifact)
    names = [tensor.name for tensor in runtime.get_inputs()]

    def by_artifact(given: Inputs) -> Tensor:
        arrays = (tensor.cpu().numpy() for tensor in given)
        answer = torch.from_numpy(runtime.run(None, dict(zip(names, arrays, strict=True)))[0])
        answer = answer.to(given[0].device)
        if activation == "softmax":  # The logarithm of probabilities differs by a constant.
            return answer.clamp_min(1e-12).log()
        return answer.logit(1e-6) if activation == "sigmoid" else answer

    return by_artifact


def _tensors(part: Part) -> tuple[Inputs, Tensor]:
    inputs = tuple(torch.from_numpy(array) for array in part.inputs.values())
    return inputs, torch.from_numpy(part.labels)


def _parts(inputs: Inputs) -> list[Inputs]:
    split = [tensor.split(pruning.TAYLOR_BATCH) for tensor in inputs]
    return list(zip(*split, strict=True))


def _label_loss(task: Task) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda output, labels: hard_loss(output, labels, task)


def _distance(output: Tensor, target: Tensor) -> Tensor:
    """How far embeddings turn away; its slope at the teacher itself is zero, so it is bent."""
    return (1.0 - nn.functional.cosine_similarity(output, target, dim=1)).mean()


def _seed(learning: Learning, shop: Workshop) -> int:
    return shop.seed if learning.seed is None else learning.seed


def _taught(teaching: Teaching | None) -> str:
    return "" if teaching is None else f", taught by {teaching.teacher} ({teaching.learn})"
