"""The garment family: Fashion-MNIST, what its pictures may go through in training, its ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gearshift.compress import data
from gearshift.compress.dataset import DataSets, Part, without_repeats
from gearshift.compress.made import Made, Workshop, network_of

if TYPE_CHECKING:
    import torch
    from torch import nn

    from gearshift.compress.learning import Inputs

INPUT = "pixels"
CALIBRATION = 5_000
"""The last training images: every choice is made on them, none on the test images."""


def clothes(cache: Path, report: data.Report) -> DataSets:
    """55,000 images to learn from, 5,000 to choose by, the published 10,000 to measure on.

    Pictures that two parts share are left out of the later one.
    """
    training, test = data.fashion_mnist(cache, report)
    first, second, third = without_repeats(
        Part({INPUT: training.pixels[:-CALIBRATION]}, training.labels[:-CALIBRATION]),
        Part({INPUT: training.pixels[-CALIBRATION:]}, training.labels[-CALIBRATION:]),
        Part({INPUT: test.pixels}, test.labels),
    )
    origin = data.FASHION_ORIGIN
    return DataSets(
        name=origin.name,
        source=origin.source,
        licence=origin.licence,
        training=first,
        calibration=second,
        evaluation=third,
    )


def changed(inputs: Inputs, generator: torch.Generator) -> Inputs:
    """Shifted by up to two pixels, mirrored, half of them with a hole: for large networks."""
    return _changed(inputs, generator, shift=2, hole_share=0.5)


def changed_more(inputs: Inputs, generator: torch.Generator) -> Inputs:
    """As `changed`, with a rectangle of noise as the hole: for long trainings of large networks.

    Random erasing (Zhong et al., 2017); sides of 4 to 16 pixels.
    """
    return _changed(inputs, generator, shift=2, hole_share=0.5, hole=(4, 16), noise=True)


def changed_less(inputs: Inputs, generator: torch.Generator) -> Inputs:
    """As `changed`, with half as many holes: the smaller a net, the less it learns by heart."""
    return _changed(inputs, generator, shift=2, hole_share=0.25)


def changed_least(inputs: Inputs, generator: torch.Generator) -> Inputs:
    """Shifted by up to one pixel and mirrored."""
    return _changed(inputs, generator, shift=1, hole_share=0.0)


def _changed(
    inputs: Inputs,
    generator: torch.Generator,
    *,
    shift: int,
    hole_share: float,
    hole: tuple[int, int] = (8, 8),
    noise: bool = False,
) -> Inputs:
    """Shift, mirror and cut (cutout: DeVries and Taylor, 2017) each image: uint8 [n, 28, 28].

    `hole` is the least and the largest side of what is cut out; `noise` fills it.
    """
    import torch
    from torch.nn import functional

    (pixels,) = inputs
    n, side, device = len(pixels), pixels.shape[-1], pixels.device

    def drawn(low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high, shape, generator=generator, device=device)

    padded = functional.pad(pixels, (shift, shift, shift, shift))
    windows = padded.unfold(1, side, 1).unfold(2, side, 1)
    offset = drawn(0, 2 * shift + 1, 2, n)
    images = windows[torch.arange(n, device=device), offset[0], offset[1]]
    mirrored = torch.rand(n, 1, 1, generator=generator, device=device) < 0.5
    images = torch.where(mirrored, images.flip(2), images)
    if hole_share > 0:
        least, most = hole
        sides = drawn(least, most + 1, 2, n, 1) if least < most else least
        first = drawn(0, side, 2, n, 1) - sides // 2
        along = torch.arange(side, device=device)
        rows, columns = (along >= first) & (along < first + sides)
        chosen = torch.rand(n, 1, 1, generator=generator, device=device) < hole_share
        inside = rows[:, :, None] & columns[:, None, :] & chosen
        filling = drawn(0, 256, n, side, side).to(pixels.dtype) if noise else 0
        images = torch.where(inside, filling, images)
    return (images,)


def ensemble(shop: Workshop, *, of: list[str]) -> Made:
    """The mean probability of earlier steps, every second of them on the mirror image."""
    from gearshift.compress.export import to_onnx
    from gearshift.compress.families.garment_nets import Ensemble

    together = Ensemble([network_of(name, shop) for name in of])
    artifact = to_onnx(
        together,
        shop.data.training,
        activation=shop.output.activation,
        output=shop.output.name,
    )
    return Made(
        artifact=artifact,
        parameters=sum(shop.made[name].parameters for name in of),
        about=f"{len(of)} networks, every second one on the mirror image, mean probability",
        tools=("torch", "onnx", "onnxruntime", "onnxscript"),
        network=together,
    )


def ensemble_layout(shop: Workshop, *, of: list[str]) -> nn.Module:
    """The network behind `ensemble`, with any weights."""
    from gearshift.compress.families.garment_nets import Ensemble

    factories = [shop.made[name].factory for name in of]
    return Ensemble([make() for make in factories if make is not None])
