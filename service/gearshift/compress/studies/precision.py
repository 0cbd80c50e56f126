"""Training in bfloat16 against float32, each with and without gradient checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gearshift.compress.made import Report
from gearshift.compress.studies.figures import (
    Estimate,
    Spread,
    accuracy,
    estimate,
    paired,
    points,
)
from gearshift.compress.studies.story import Grid, Line, Panel, Story
from gearshift.compress.studies.toy import some, stripes

SEEDS = (1, 2, 3)
EPOCHS = 4
FEW = 2_000
"""Rows where there is no GPU: an epoch over all of them would take a quarter of an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way to compute; what its epochs took, what it held, and what it reached by seed."""

    half: bool
    checkpoints: bool
    seconds: Sequence[float]
    """Of each epoch but a training's first, in which a GPU tries its kernels."""
    peak_mib: float | None
    """The most that lay in the GPU's memory above rows and nothing; None without a GPU."""
    values: Sequence[float]

    @property
    def name(self) -> str:
        """The arithmetic, and whether checkpoints are set."""
        return ("bfloat16" if self.half else "float32") + (
            ", checkpoints" if self.checkpoints else ""
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Precisions:
    """All arms on one device, float32 without checkpoints first."""

    arms: Sequence[Arm]
    device: str
    own: bool
    """Whether the device computes in bfloat16 itself; without, only float32 is measured."""
    parameters: int
    rows: int
    epochs: int
    measured: int
    """Rows on which top-1 is taken."""

    def story(self) -> Story:
        """Time, memory and accuracy beside each other."""
        base = self.arms[0]
        return Story(
            name="precision",
            title="Mixed precision: bfloat16 against float32",
            question=(
                "Where a device computes in bfloat16, how much sooner is a training done, how "
                "much memory does it hold, and does the network come out worse?"
            ),
            findings=[_finding(arm, base) for arm in self.arms[1:]],
            grids=[self._grid()],
            panels=[
                Panel(
                    title="time an epoch",
                    across="",
                    up="seconds",
                    names=[arm.name for arm in self.arms],
                    from_zero=True,
                    lines=[
                        Line(
                            label=self.device,
                            x=list(range(len(self.arms))),
                            y=[Spread.of(arm.seconds).median for arm in self.arms],
                            low=[Spread.of(arm.seconds).low for arm in self.arms],
                            high=[Spread.of(arm.seconds).high for arm in self.arms],
                            joined=False,
                        )
                    ],
                )
            ],
            method=[
                f"Trained on: {self.device}. The garment teacher ({self.parameters:,} parameters), "
                f"{self.rows:,} images of Fashion-MNIST, {self.epochs} epochs, batch 256, "
                f"{len(base.values)} seeds; top-1 on {self.measured:,} images that took no part. "
                "float32 is what PyTorch computes by default: on a GPU its convolutions round "
                "their inputs to TF32. Time: the median over epochs with quartiles, a training's "
                "first epoch left out. Memory: the most that PyTorch had taken above what it held "
                "before.",
                "Top-1 is that of a few epochs, the same for all arms: it says whether rounding "
                "harms learning, not what the network can reach.",
                *([] if self.own else ["This device has no bfloat16 arithmetic: not measured."]),
            ],
            sources=[
                "Micikevicius et al., Mixed Precision Training (2018)",
                "Chen et al., Training Deep Nets with Sublinear Memory Cost (2016)",
            ],
        )

    def _grid(self) -> Grid:
        body = []
        for arm in self.arms:
            spread = Spread.of(arm.seconds)
            body.append(
                (
                    arm.name,
                    f"{spread.median:.2f}",
                    f"{spread.low:.2f} to {spread.high:.2f}",
                    "not measured" if arm.peak_mib is None else f"{arm.peak_mib:,.0f}",
                    accuracy(estimate(arm.values)),
                )
            )
        heads = ("arithmetic", "s an epoch", "quartiles", "peak MiB", "top-1, mean (95 % interval)")
        return Grid(title="Each way to compute", heads=heads, body=body)


def _finding(arm: Arm, base: Arm) -> str:
    times = Spread.of(base.seconds).median / Spread.of(arm.seconds).median
    memory = ""
    if arm.peak_mib is not None and base.peak_mib is not None:
        memory = f"{arm.peak_mib / base.peak_mib - 1.0:+.0%} peak memory, "
    found: Estimate = paired(arm.values, base.values)
    word = "" if found.differs else ", no difference that these seeds show"
    return (
        f"{arm.name} against {base.name}: {times:.2f} times as fast, {memory}"
        f"{points(found)} points of top-1 over {found.n} seeds{word}."
    )


def study(
    cache: Path, report: Report, *, quick: bool = False, models: Path = Path("model_repo")
) -> Precisions:
    """The garment teacher's network, a few epochs of its training."""
    from gearshift.compress.learning import device_of_training
    from gearshift.compress.studies.precision_runs import compare

    if quick:
        return compare([(8, 2, 0)], stripes(64, 1), stripes(64, 2), (1, 2), 2, report)
    from gearshift.compress.families.garment import clothes

    data = clothes(cache, report)
    alone = device_of_training().type == "cpu"
    rows = some(data.training, FEW, 0) if alone else data.training
    layers = [(96, 1, 1), (160, 2, 2), (192, 2, 1)]
    return compare(layers, rows, data.calibration, SEEDS, EPOCHS, report)
