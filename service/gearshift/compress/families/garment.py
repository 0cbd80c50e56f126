"""The garment family: Fashion-MNIST, what its pictures may go through in training, its ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gearshift.compress import data
from gearshift.compress.dataset import DataError, DataSets, Part, without_repeats
from gearshift.compress.made import Made, Workshop

if TYPE_CHECKING:
    import torch

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


def changed_less(inputs: Inputs, generator: torch.Generator) -> Inputs:
    """As `changed`, with half as many holes: the smaller a net, the less it learns by heart."""
    return _changed(inputs, generator, shift=2, hole_share=0.25)


def changed_least(inputs: Inputs, generator: torch.Generator) -> Inputs:
    """Shifted by up to one pixel and mirrored."""
    return _changed(inputs, generator, shift=1, hole_share=0.0)


def _changed(
    inputs: Inputs, generator: torch.Generator, *, shift: int, hole_share: float, hole: int = 8
) -> Inputs:
    """Shift, mirror and cut (cutout: DeVries and Taylor, 2017) each image: uint8 [n, 28, 28]."""
    import torch
    from torch.nn import functional

    (pixels,) = inputs
    n, side = len(pixels), pixels.shape[-1]
    padded = functional.pad(pixels, (shift, shift, shift, shift))
    windows = padded.unfold(1, side, 1).unfold(2, side, 1)
    offset = torch.randint(0, 2 * shift + 1, (2, n), generator=generator)
    images = windows[torch.arange(n), offset[0], offset[1]]
    mirrored = torch.rand(n, 1, 1, generator=generator) < 0.5
    images = torch.where(mirrored, images.flip(2), images)
    if hole_share > 0:
        corner = torch.randint(-hole // 2, side - hole // 2, (2, n, 1), generator=generator)
        along = torch.arange(side)
        rows, columns = ((along >= c) & (along < c + hole) for c in corner)
        chosen = torch.rand(n, 1, 1, generator=generator) < hole_share
        images = images.masked_fill(rows[:, :, None] & columns[:, None, :] & chosen, 0)
    return (images,)


def ensemble(shop: Workshop, *, of: list[str]) -> Made:
    """The mean probability of earlier steps over the image and its mirror image."""
    from gearshift.compress.export import to_onnx
    from gearshift.compress.families.garment_nets import Ensemble

    networks = [shop.made[name].network for name in of]
    members = [network for network in networks if network is not None]
    if len(members) < len(of):
        raise DataError(f"of {', '.join(of)} not all have a network behind their artifact")
    artifact = to_onnx(
        Ensemble(members), shop.data.training, activation="none", output=shop.output.name
    )
    return Made(
        artifact=artifact,
        parameters=sum(shop.made[name].parameters for name in of),
        about=f"{len(of)} teachers on the image and its mirror image, mean probability",
        tools=("torch", "onnx", "onnxruntime", "onnxscript"),
    )
