"""Accuracy against latency as a picture; the area of a dot grows with its bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Dot:
    """One variant: p50 in milliseconds, accuracy with its interval, bytes, how it is shown."""

    name: str
    ms: float
    accuracy: float
    size: int
    low: float | None = None
    high: float | None = None
    kept: bool = True
    """False for what another one dominates: drawn grey and without a name."""


@dataclass(frozen=True, slots=True)
class Curve:
    """What lies between two variants: points of p50 in milliseconds and accuracy, and the one
    that is in use."""

    name: str
    points: Sequence[tuple[float, float]]
    chosen: tuple[float, float] | None


CURVES = ("#c8553d", "#588157", "#8d5a97")


def draw(
    dots: Sequence[Dot],
    path: Path,
    *,
    title: str,
    across: str,
    up: str,
    curves: Sequence[Curve] = (),
) -> None:
    """Write the picture to `path` (PNG)."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot, ticker

    figure, panel = pyplot.subplots(figsize=(7.6, 4.8), layout="constrained")
    kept = [dot for dot in dots if dot.kept]
    rest = [dot for dot in dots if not dot.kept]
    _scatter(panel, rest, "#b8c0c8")
    _scatter(panel, kept, "#2a6f97")
    if rest:
        steps = sorted(kept, key=lambda dot: dot.ms)
        panel.step(
            [dot.ms for dot in steps],
            [dot.accuracy for dot in steps],
            where="post",
            color="#2a6f97",
            alpha=0.4,
            linewidth=1,
        )
    for number, curve in enumerate(curves):
        colour = CURVES[number % len(CURVES)]
        panel.plot(*zip(*curve.points, strict=True), color=colour, linewidth=1.2, label=curve.name)
        if curve.chosen is not None:
            panel.plot(*curve.chosen, marker="D", markersize=6, color=colour)
    if curves:
        panel.legend(loc="lower right", frameon=False, fontsize=9)
    panel.set_xscale("log")
    times = [dot.ms for dot in dots]
    panel.set_xlim(min(times) / 1.8, max(times) * 1.8)
    marks = [
        value for dot in dots for value in (dot.accuracy, dot.low, dot.high) if value is not None
    ]
    margin = 0.08 * max(max(marks) - min(marks), 1e-3)
    panel.set_ylim(min(marks) - margin, max(marks) + margin)
    near = 0.05 * (max(marks) - min(marks))
    sides = _sides([dot.ms for dot in kept], [dot.accuracy for dot in kept], near)
    for dot, (right, above) in zip(kept, sides, strict=True):
        reach = 5 + area(dot) ** 0.5 / 2
        panel.annotate(
            dot.name,
            (dot.ms, dot.accuracy),
            xytext=(right * reach, above * (reach + 4)),
            textcoords="offset points",
            ha={-1: "right", 0: "center", 1: "left"}[right],
            va="center",
            fontsize=9,
        )
    wide = max(times) / min(times) > 50
    panel.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    panel.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    panel.xaxis.set_minor_formatter(ticker.NullFormatter())
    panel.set_title(title, fontsize=11)
    panel.set_xlabel(across)
    panel.set_ylabel(up)
    panel.grid(visible=True, which="major", alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def area(dot: Dot) -> float:
    """The area of a dot in square points: its diameter grows with the fourth root of the bytes."""
    return 12.0 + 0.35 * math.sqrt(min(dot.size, 4_000_000))


def _scatter(panel: Any, dots: Sequence[Dot], colour: str) -> None:
    if not dots:
        return
    x, y = [dot.ms for dot in dots], [dot.accuracy for dot in dots]
    for dot in dots:
        if dot.low is not None and dot.high is not None:
            panel.plot([dot.ms, dot.ms], [dot.low, dot.high], color=colour, alpha=0.35, linewidth=1)
    panel.scatter(x, y, s=[area(dot) for dot in dots], color=colour, alpha=0.75, linewidths=0)


def _sides(x: Sequence[float], y: Sequence[float], near: float) -> list[tuple[int, int]]:
    """Where each dot's name goes, (across, up) of the dot: towards the middle of the panel,
    but among dots at one height (up to `near`) away from the others."""
    middle = (min(x) * max(x)) ** 0.5
    sides = []
    for index, (latency, accuracy) in enumerate(zip(x, y, strict=True)):
        beside = [
            a
            for other, (a, b) in enumerate(zip(x, y, strict=True))
            if other != index and abs(b - accuracy) < near
        ]
        if not beside:
            sides.append((1 if latency <= middle else -1, 0))
        elif latency < min(beside):
            sides.append((-1, 0))
        elif latency > max(beside):
            sides.append((1, 0) if latency <= middle else (0, 1))
        else:
            sides.append((0, -1))
    return sides
