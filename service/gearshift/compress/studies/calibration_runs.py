"""What the study of calibration needs PyTorch for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from gearshift.compress.export import to_onnx
from gearshift.compress.families.garment_nets import convolutions
from gearshift.compress.learning import fast_half
from gearshift.compress.studies.calibration import Precision
from gearshift.compress.studies.figures import in_turns
from gearshift.compress.studies.toy import stripes

LAYERS = [(32, 1, 0), (64, 2, 1), (128, 2, 1)]
"""Of a net of seven convolutions."""


def precision(batch: int = 32, rounds: int = 7) -> Precision:
    """The time of a step of training it, in float32 and in bfloat16."""
    torch.set_num_threads(1)
    times = in_turns(
        {"single": _stepper(batch, half=False), "half": _stepper(batch, half=True)}, rounds=rounds
    )
    return Precision(fast_half(torch.device("cpu")), times["single"], times["half"])


def _stepper(batch: int, *, half: bool) -> Callable[[], float]:
    torch.manual_seed(0)
    net: Any = convolutions(LAYERS).train()
    pixels = torch.randint(0, 256, (batch, 28, 28), dtype=torch.uint8)
    labels = torch.randint(0, 10, (batch,))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = functional.cross_entropy(net(pixels).float(), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(loss.detach())

    return step


def toy_model() -> bytes:
    """A small untrained network as ONNX."""
    torch.manual_seed(0)
    net = convolutions([(8, 2, 0), (16, 2, 0)]).eval()
    return to_onnx(net, stripes(64, 0), activation="softmax", output="probabilities")
