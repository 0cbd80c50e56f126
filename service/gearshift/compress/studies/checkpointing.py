"""Gradient checkpointing: how much memory it saves, and what it costs in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from gearshift.compress.made import Report
from gearshift.compress.studies.figures import Spread
from gearshift.compress.studies.story import Grid, Line, Panel, Story, percent

NONE = 0
"""So many segments stand for training without checkpoints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A network whose training is measured: layers as in `garment_nets.convolutions`."""

    name: str
    layers: Sequence[tuple[int, int, int]]
    batch: int
    segments: Sequence[int]

    @property
    def convolutions(self) -> int:
        """How many convolutions it has."""
        return sum(1 + 2 * residual for _, _, residual in self.layers)


@dataclass(frozen=True, slots=True)
class Point:
    """One number of segments: peak mebibytes above what was there before, seconds a step."""

    segments: int
    peak_mib: Spread
    step: Spread


@dataclass(frozen=True, slots=True)
class Measured:
    """One layout; its first point is the training without checkpoints."""

    layout: Layout
    points: Sequence[Point]

    def saved(self, point: Point) -> float:
        """The change of peak memory as a share."""
        return point.peak_mib.median / self.points[0].peak_mib.median - 1.0

    def slower(self, point: Point) -> float:
        """The change of a step's time as a share."""
        return point.step.median / self.points[0].step.median - 1.0

    def best(self) -> Point:
        """The point of least memory."""
        return min(self.points, key=lambda point: point.peak_mib.median)


@dataclass(frozen=True, slots=True)
class Checkpointing:
    """The curve of each layout."""

    measured: Sequence[Measured]
    repeats: int
    rounds: int

    def story(self) -> Story:
        """Memory and time against the number of segments."""
        return Story(
            name="checkpointing",
            title="Gradient checkpointing: memory against time",
            question=(
                "Training keeps every layer's output for the way back. With checkpoints only the "
                "outputs at the edges of segments are kept and the rest is computed again. What "
                "does that save, and what does it cost?"
            ),
            findings=[self._finding(found) for found in self.measured],
            grids=[self._grid(found) for found in self.measured],
            panels=list(chain.from_iterable(zip(*map(_panels, self.measured), strict=True))),
            method=[
                f"Memory: the highest resident size of a process of its own (VmHWM) above what it "
                f"held before the first step, over {self.repeats} processes a point: median "
                "(lowest and highest quartile). Gradients and the optimizer's momentum are in it, "
                "checkpoints do not make them smaller. Freed memory goes back to the system at "
                "once (MALLOC_MMAP_THRESHOLD_), so that the allocator's own stock is not counted.",
                f"Time: processor time of a whole step (forward, backward, update), one thread, "
                f"all points taking turns, {self.rounds} rounds: median and quartiles. `none` is "
                "training without checkpoints. Segments are runs of neighbouring blocks of as "
                "equal a number as possible; a recipe's `checkpoints = true` takes every block "
                "for one, which is the last line.",
            ],
            sources=["Chen, Xu, Zhang and Guestrin, Training Deep Nets with Sublinear Memory Cost"],
        )

    def _finding(self, found: Measured) -> str:
        best, every = found.best(), found.points[-1]
        return (
            f"{found.layout.name}: {percent(found.saved(best))} peak memory "
            f"({found.points[0].peak_mib.median:.1f} to {best.peak_mib.median:.1f} MiB) with "
            f"{best.segments} segments, for {percent(found.slower(best))} time a step; with every "
            f"block a segment (`checkpoints = true` in a recipe) {percent(found.saved(every))} "
            f"memory for {percent(found.slower(every))} time."
        )

    def _grid(self, found: Measured) -> Grid:
        body = [
            (
                str(point.segments) if point.segments else "none",
                f"{point.peak_mib.median:.1f}",
                f"{point.peak_mib.low:.1f} to {point.peak_mib.high:.1f}",
                percent(found.saved(point)),
                f"{1e3 * point.step.median:.0f}",
                f"{1e3 * point.step.low:.0f} to {1e3 * point.step.high:.0f}",
                percent(found.slower(point)),
            )
            for point in found.points
        ]
        heads = ("segments", "peak MiB", "quartiles", "change", "ms a step", "quartiles", "change")
        layout = found.layout
        title = f"{layout.name}: {layout.convolutions} convolutions, batch {layout.batch}"
        return Grid(title=title, heads=heads, body=body)


def _panels(found: Measured) -> tuple[Panel, Panel]:
    rest = found.points[1:]
    x = [point.segments for point in rest]
    plain = found.points[0]

    def of(up: str, spreads: Sequence[Spread], level: float) -> Panel:
        return Panel(
            title=found.layout.name,
            across="segments (dotted: without checkpoints)",
            up=up,
            logarithmic=True,
            level=level,
            from_zero=True,
            lines=[
                Line(
                    label=up,
                    x=x,
                    y=[spread.median for spread in spreads],
                    low=[spread.low for spread in spreads],
                    high=[spread.high for spread in spreads],
                )
            ],
        )

    return (
        of("peak MiB", [point.peak_mib for point in rest], plain.peak_mib.median),
        of("seconds a step", [point.step for point in rest], plain.step.median),
    )


SHALLOW = Layout(
    name="A residual net",
    layers=((32, 1, 0), (64, 2, 1), (128, 2, 1)),
    batch=256,
    segments=(1, 2, 3, 4, 5),
)
DEEP = Layout(
    name="A deeper residual net",
    layers=((16, 1, 5), (32, 2, 5), (64, 2, 5)),
    batch=64,
    segments=(1, 2, 3, 4, 6, 9, 18),
)


def study(cache: Path, report: Report, *, quick: bool = False) -> Checkpointing:
    """Nets of seven and of 33 convolutions; the pixels are random, memory does not mind."""
    from gearshift.compress.studies.checkpointing_runs import run

    if quick:
        small = Layout(name="A small net", layers=((8, 2, 1), (8, 1, 1)), batch=8, segments=(1, 2))
        return run([small], report, repeats=1, rounds=2)
    return run([SHALLOW, DEEP], report, repeats=2, rounds=12)
