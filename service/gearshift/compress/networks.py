"""What the steps do to networks beside training them: layouts, weights, shapes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def count(net: nn.Module) -> int:
    """The number of learned parameters."""
    return sum(parameter.numel() for parameter in net.parameters())


def take_weights(net: nn.Module, weights: Mapping[str, Tensor]) -> tuple[int, int]:
    """Copy the weights whose name and shape are those of `net`; (copied, all of the net's)."""
    own = net.state_dict()
    fitting = {
        name: tensor
        for name, tensor in weights.items()
        if name in own and own[name].shape == tensor.shape
    }
    net.load_state_dict(fitting, strict=False)
    return len(fitting), len(own)


def fill(net: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """Give `net` the weights of a pruned network of its own layout, shapes and all.

    Removing channels changes the sizes of layers, not which layers there are, so the weights
    say all that is needed to rebuild it.
    """
    for prefix, module in net.named_modules():
        dot = f"{prefix}." if prefix else ""
        for kind in (module._parameters, module._buffers):
            for name, old in kind.items():
                new = weights.get(dot + name)
                if old is None or new is None:
                    continue
                kind[name] = (  # type: ignore[assignment]
                    nn.Parameter(new.clone(), old.requires_grad)
                    if isinstance(old, nn.Parameter)
                    else new.clone()
                )
        _tell_sizes(module)
    missing = sorted(set(net.state_dict()) ^ set(weights))
    if missing:
        raise ValueError(f"the weights are of another layout; first difference: {missing[0]}")
    return net.eval()


def _tell_sizes(module: nn.Module) -> None:
    """Make the sizes that a layer remembers those of its weights."""
    if isinstance(module, nn.Conv2d):
        out, inner = module.weight.shape[:2]
        if module.groups > 1 and module.groups == module.in_channels:
            module.groups = out
        module.out_channels, module.in_channels = out, inner * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.modules.batchnorm._BatchNorm) and module.weight is not None:
        module.num_features = len(module.weight)
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(module.weight)
    elif isinstance(module, nn.LayerNorm) and module.weight is not None:
        module.normalized_shape = tuple(module.weight.shape)


class Answering(nn.Module):
    """A network with the recipe's activation behind it: what a variant serves."""

    def __init__(self, net: nn.Module, activation: str) -> None:
        super().__init__()
        self.net = net
        self.activation = activation

    def forward(self, *inputs: Tensor) -> Tensor:
        output: Tensor = self.net(*inputs)
        if self.activation == "softmax":
            return output.softmax(dim=1)
        if self.activation == "sigmoid":
            return output.sigmoid()
        if self.activation == "normalize":
            return torch.nn.functional.normalize(output, dim=1)
        return output
