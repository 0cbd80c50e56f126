"""A pretrained start against a random one, by how many labels there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gearshift.compress.dataset import Part
from gearshift.compress.families.garment import INPUT
from gearshift.compress.made import Report
from gearshift.compress.studies.figures import Estimate, accuracy, estimate, paired, points
from gearshift.compress.studies.story import Grid, Line, Panel, Story
from gearshift.compress.studies.toy import some, stripes

SCRATCH = "network from scratch"
TUNED = "pretrained, all layers tuned"
FROZEN = "pretrained, frozen, linear"
PIXELS = "raw pixels, linear"
ARMS = (SCRATCH, TUNED, FROZEN, PIXELS)
PAIRS = ((TUNED, SCRATCH), (FROZEN, PIXELS))
SEEDS = (1, 2, 3, 4, 5)


@dataclass(frozen=True, slots=True)
class Count:
    """So many labels a class: the accuracies of each arm by seed."""

    labels: int
    """With `every`, their mean over the classes."""
    values: dict[str, Sequence[float]]
    every: bool = False
    """Whether these are all labels that there are."""

    @property
    def name(self) -> str:
        """How the tables call it."""
        return f"all ({self.labels:,} on average)" if self.every else str(self.labels)

    def gain(self, treated: str, plain: str) -> Estimate:
        """What one arm is ahead of another on the same rows."""
        return paired(self.values[treated], self.values[plain])


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One new task."""

    name: str
    backbone: str
    """What the pretrained layers have learned from."""
    classes: int
    n: int
    counts: Sequence[Count]
    method: str
    """How each arm learned."""
    unit: str = "images"
    pairs: Sequence[tuple[str, str]] = PAIRS
    """Which arm is compared with which."""

    @property
    def arms(self) -> Sequence[str]:
        """The ways to learn, in the order of the tables."""
        return list(self.counts[0].values)


@dataclass(frozen=True, slots=True)
class Transfer:
    """All targets."""

    targets: Sequence[Target]
    seeds: int

    def story(self) -> Story:
        """Accuracy against the number of labels."""
        return Story(
            name="transfer",
            title="Transfer learning: a pretrained start, by number of labels",
            question=(
                "Layers that learned one task may serve another for which there are few labels. "
                "From how many labels on is starting anew as good, and where does it not help "
                "at all?"
            ),
            findings=[_finding(target, pair) for target in self.targets for pair in target.pairs],
            grids=[
                grid for target in self.targets for grid in (_accuracies(target), _gains(target))
            ],
            panels=[
                panel
                for target in self.targets
                for panel in (_curves(target), _differences(target))
            ],
            method=[
                *(
                    f"{target.name}: {target.classes} classes, the pretrained layers have learned "
                    f"from {target.backbone}; accuracy is top-1 on {target.n:,} held-out "
                    f"{target.unit}."
                    for target in self.targets
                ),
                *dict.fromkeys(target.method for target in self.targets),
                f"{self.seeds} seeds, each with its own draw of labelled rows, the same for all "
                "arms; 95 % intervals by Student's t over them. They cover the draw and the "
                "training, not what other held-out rows would change.",
            ],
            sources=[
                "Yosinski, Clune, Bengio and Lipson, How transferable are features in deep neural "
                "networks? (2014)"
            ],
        )


def _finding(target: Target, pair: tuple[str, str]) -> str:
    treated, plain = pair
    told = []
    for count in target.counts:
        gain = count.gain(treated, plain)
        unclear = "" if gain.differs or gain.n < 2 else ", which shows no difference"
        told.append(f"{count.name} labels a class {points(gain)}{unclear}")
    return f"{target.name}, {treated}, against {plain}, points: {'; '.join(told)}."


def _accuracies(target: Target) -> Grid:
    body = [
        (count.name, *(accuracy(estimate(count.values[arm])) for arm in target.arms))
        for count in target.counts
    ]
    return Grid(
        title=f"{target.name}: top-1, mean (95 % interval)",
        heads=("labels a class", *target.arms),
        body=body,
    )


def _gains(target: Target) -> Grid:
    body = [
        (count.name, *(points(count.gain(*pair)) for pair in target.pairs))
        for count in target.counts
    ]
    heads = ("labels a class", *(f"{treated}, against {plain}" for treated, plain in target.pairs))
    return Grid(title=f"{target.name}: paired differences, points", heads=heads, body=body)


def _curves(target: Target) -> Panel:
    x = [count.labels for count in target.counts]
    lines = []
    for arm in target.arms:
        found = [estimate(count.values[arm]) for count in target.counts]
        lines.append(_line(arm, x, found, 1.0))
    return Panel(
        title=target.name, across="labels a class", up="top-1", lines=lines, logarithmic=True
    )


def _differences(target: Target) -> Panel:
    x = [count.labels for count in target.counts]
    lines = []
    for treated, plain in target.pairs:
        found = [count.gain(treated, plain) for count in target.counts]
        lines.append(_line(f"{treated} against {plain}", x, found, 100.0))
    return Panel(
        title=f"{target.name}: paired differences",
        across="labels a class",
        up="points",
        lines=lines,
        logarithmic=True,
        level=0.0,
    )


def _line(label: str, x: Sequence[int], found: Sequence[Estimate], scale: float) -> Line:
    return Line(
        label=label,
        x=x,
        y=[scale * e.mean for e in found],
        low=[scale * e.low for e in found],
        high=[scale * e.high for e in found],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Rows of one target before anything is learned from them."""

    name: str
    backbone: str
    source: Part
    training: Part
    evaluation: Part
    counts: Sequence[int]


def digits() -> tuple[Part, Part]:
    """The 1,797 handwritten digits of scikit-learn, three times as large with a black rim."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    large = np.kron(bunch.images * (255.0 / 16.0), np.ones((3, 3)))
    pixels = np.pad(large, ((0, 0), (2, 2), (2, 2))).astype(np.uint8)
    whole = Part({INPUT: pixels}, bunch.target.astype(np.int64))
    order = np.random.default_rng(0).permutation(len(whole))
    return whole.rows(order[:1_200]), whole.rows(order[1_200:])


def of_classes(part: Part, classes: Sequence[int]) -> Part:
    """The rows whose label is one of `classes`."""
    return part.rows(np.isin(part.labels, classes))


def study(cache: Path, report: Report, *, quick: bool = False) -> Transfer:
    """Five garments that the backbone never saw, digits, and mails."""
    from gearshift.compress.studies import transfer_runs, transfer_text

    if quick:
        toy = Task(
            name="toy",
            backbone="made-up stripes",
            source=stripes(64, 1),
            training=stripes(64, 2),
            evaluation=stripes(64, 3),
            counts=[2, 4],
        )
        images = transfer_runs.run([toy], (1, 2), report, layers=[(8, 2, 0)], epochs=1, steps=3)
        return Transfer([*images, transfer_text.toy((1, 2), report)], 2)
    layers = [(16, 2, 0), (32, 2, 0), (64, 2, 0)]
    images = transfer_runs.run(
        _image_tasks(cache, report), SEEDS, report, layers=layers, epochs=4, steps=100
    )
    return Transfer([*images, transfer_text.mails(cache, SEEDS, report)], len(SEEDS))


def _image_tasks(cache: Path, report: Report) -> list[Task]:
    from gearshift.compress.families.garment import clothes

    data = clothes(cache, report)
    known, new = range(5), range(5, 10)
    drawn, measured = digits()
    return [
        Task(
            name="Five unseen garments",
            backbone="10,000 images of the other five garments",
            source=some(of_classes(data.training, known), 10_000, 0),
            training=of_classes(data.training, new),
            evaluation=some(of_classes(data.evaluation, new), 2_500, 0),
            counts=[5, 20, 100, 1_000],
        ),
        Task(
            name="Handwritten digits",
            backbone="10,000 images of all ten garments",
            source=some(data.training, 10_000, 0),
            training=drawn,
            evaluation=measured,
            counts=[5, 20, 50, 100],
        ),
    ]
