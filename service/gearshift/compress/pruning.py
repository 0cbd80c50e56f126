"""Structured pruning: whole channels go, so files get smaller and runs faster.

torch-pruning (Fang et al., 2023) finds what must go together: a residual sum keeps the same
channels on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gearshift.compress.learning import Inputs
from gearshift.errors import GearshiftError

TAYLOR_ROWS = 2_048
TAYLOR_BATCH = 128


class PruningError(GearshiftError):
    """A network cannot be pruned as asked."""


def without_channels(
    net: nn.Module,
    inputs: Inputs,
    share: float,
    *,
    loss: Callable[[Tensor, Tensor], Tensor],
    targets: Tensor,
    importance: str = "taylor",
    everywhere: bool = False,
    round_to: int = 8,
    keep: Sequence[str] = (),
) -> nn.Module:
    """Remove `share` of the channels of `net`, in place, in multiples of `round_to`.

    By `taylor` importance: how much `loss`(output, targets rows) would change without a channel,
    estimated on training rows (Molchanov et al., 2019); by `magnitude`: the length of its
    weights. The last layer and those named in `keep` keep their outputs.
    """
    import torch_pruning

    rows = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))[:TAYLOR_ROWS]
    net.eval()
    net.zero_grad()
    if importance == "taylor":
        for chosen in rows.split(TAYLOR_BATCH):
            given = tuple(tensor[chosen] for tensor in inputs)
            loss(net(*given), targets[chosen]).backward()  # type: ignore[no-untyped-call]
        measure = torch_pruning.importance.GroupTaylorImportance()
    else:
        measure = torch_pruning.importance.GroupMagnitudeImportance(p=2)
    example = tuple(tensor[rows[:2]] for tensor in inputs)
    pruner = torch_pruning.pruner.BasePruner(
        net,
        example if len(example) > 1 else example[0],
        importance=measure,
        global_pruning=everywhere,
        pruning_ratio=share,
        max_pruning_ratio=0.9,
        ignored_layers=[*_named(net, keep), _last(net)],
        # Whole vectors of eight channels are what the processor computes with anyway.
        round_to=round_to,
    )
    before = sum(parameter.numel() for parameter in net.parameters())
    pruner.step()
    net.zero_grad()
    if sum(parameter.numel() for parameter in net.parameters()) == before:
        raise PruningError(
            f"nothing could be removed: no layer has more than {round_to} channels to round to; "
            "a smaller round_to or a larger share may help"
        )
    return net


def _named(net: nn.Module, keep: Sequence[str]) -> list[nn.Module]:
    modules = dict(net.named_modules())
    unknown = [name for name in keep if name not in modules]
    if unknown:
        raise PruningError(
            f"keep names {', '.join(unknown)}, which the network does not have; it has "
            f"{', '.join(name for name in modules if name)}"
        )
    return [modules[name] for name in keep]


def _last(net: nn.Module) -> nn.Module:
    """The layer whose outputs are the answer: classes and embedding dimensions must stay."""
    layers = [module for module in net.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    if not layers:
        raise PruningError("the network has neither a Linear nor a Conv2d layer to prune")
    return layers[-1]
