"""The training and pruning behind `sparsity`."""

from __future__ import annotations

import copy
import gzip
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune

from gearshift.compress import pruning
from gearshift.compress.dataset import Part
from gearshift.compress.evaluate import predict
from gearshift.compress.export import to_onnx
from gearshift.compress.families.garment import INPUT
from gearshift.compress.families.garment_nets import convolutions
from gearshift.compress.learning import Task, fit
from gearshift.compress.made import Report
from gearshift.compress.metrics import score, wilson
from gearshift.compress.recipe import Learning
from gearshift.compress.studies.figures import Spread
from gearshift.compress.studies.runtime import milliseconds
from gearshift.compress.studies.sparsity import KINDS, Plan, Pruned, Sparsity

TASK = Task(activation="softmax", smoothing=0.05)
Change = Callable[[nn.Module], nn.Module]


def run(
    training: Part, evaluation: Part, plan: Plan, shares: Sequence[float], report: Report
) -> Sparsity:
    """As `sparsity.compare`."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows, labels = torch.from_numpy(training.inputs[INPUT]), torch.from_numpy(training.labels)
    trained = convolutions(plan.layers)
    report("the network before")
    schedule = Learning(epochs=plan.epochs, rate=0.2, batch=plan.batch)
    fit(trained, (rows,), labels, schedule, TASK, seed=0, report=report)
    files = {("before", 0.0): [_exported(trained, training)]}
    gone = {("before", 0.0): 0.0}
    for share in shares:
        removed = _without_channels(trained, rows, labels, share)
        exact = 1.0 - weights(removed) / weights(trained)
        makers: Mapping[str, Change] = {
            KINDS[0]: lambda net, pruned=removed: copy.deepcopy(pruned),  # type: ignore[misc]
            KINDS[1]: lambda net, part=exact: with_zeros(net, part),  # type: ignore[misc]
        }
        for kind, make in makers.items():
            gone[kind, share] = exact
            files[kind, share] = []
            for seed in plan.seeds:
                report(f"{kind}, {share:.0%} of the weights, seed {seed}")
                net = make(copy.deepcopy(trained))
                again = Learning(epochs=plan.again, rate=0.05, batch=plan.batch)
                fit(net, (rows,), labels, again, TASK, seed=seed, report=report)
                files[kind, share].append(_exported(_settled(net), training))
    return _measured(files, gone, evaluation, plan, len(training), report)


def weights(net: nn.Module) -> int:
    """How many weights the convolutions and linear layers hold, biases aside."""
    return sum(layer.weight.numel() for layer in _layers(net))


def _layers(net: nn.Module) -> list[Any]:
    return [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def _without_channels(net: nn.Module, rows: Tensor, labels: Tensor, share: float) -> nn.Module:
    """Channels removed so that about `share` of the weights goes.

    A convolution loses with its own channels those of its neighbour before: of c channels on
    either side, a share s of both leaves (1 - s) squared of the weights.
    """
    found = copy.deepcopy(net)
    return pruning.without_channels(
        found,
        (rows,),
        1.0 - (1.0 - share) ** 0.5,
        loss=functional.cross_entropy,
        targets=labels,
    )


def with_zeros(net: nn.Module, share: float) -> nn.Module:
    """The smallest weights of the whole network held at zero."""
    chosen = [(layer, "weight") for layer in _layers(net)]
    prune.global_unstructured(chosen, pruning_method=prune.L1Unstructured, amount=share)
    return net


def _settled(net: nn.Module) -> nn.Module:
    """The zeros written into the weights, so that the exporter sees plain layers."""
    for layer in _layers(net):
        if prune.is_pruned(layer):
            prune.remove(layer, "weight")
    return net


def _exported(net: nn.Module, examples: Part) -> bytes:
    return to_onnx(net.eval(), examples, activation="softmax", output="probabilities")


def _measured(
    files: Mapping[tuple[str, float], Sequence[bytes]],
    gone: Mapping[tuple[str, float], float],
    evaluation: Part,
    plan: Plan,
    trained_on: int,
    report: Report,
) -> Sparsity:
    report("accuracy and time")
    first = {f"{kind} {share}": contents[0] for (kind, share), contents in files.items()}
    single = milliseconds(first, evaluation, 1, plan.rounds)
    many = milliseconds(first, evaluation, 64, plan.rounds)
    made = [
        _pruned(key, contents, gone[key], evaluation, single, many)
        for key, contents in files.items()
    ]
    return Sparsity(made[0], made[1:], plan, trained_on, len(evaluation))


def _pruned(
    key: tuple[str, float],
    contents: Sequence[bytes],
    gone: float,
    evaluation: Part,
    single: Mapping[str, Spread],
    many: Mapping[str, Spread],
) -> Pruned:
    kind, share = key
    top1 = [
        score("top1", evaluation.labels, predict(content, evaluation.inputs))
        for content in contents
    ]
    low, high = wilson(round(fmean(top1) * len(evaluation)), len(evaluation))
    return Pruned(
        kind=kind,
        wanted=share,
        gone=gone,
        top1=top1,
        low=low,
        high=high,
        size=len(contents[0]),
        zipped=len(gzip.compress(contents[0], 9)),
        single=single[f"{kind} {share}"],
        many=many[f"{kind} {share}"],
    )
