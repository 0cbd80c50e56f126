"""What a study found, as a Markdown page with a picture beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from gearshift.compress.page import table

COLOURS = ("#2a6f97", "#d1603d", "#4c956c", "#7a4f9a", "#8a8d91", "#c9a227")
"""Told apart by people who see few colours, too; the marks differ as well."""
MARKS = ("o", "s", "^", "D", "v", "P")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Points of one kind; `low` and `high` are the ends of their intervals, where known."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    joined: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One chart; with `names` the x values are the places of these names from zero on."""

    title: str
    across: str
    up: str
    lines: Sequence[Line]
    names: Sequence[str] = ()
    logarithmic: bool = False
    from_zero: bool = False
    level: float | None = None
    """A height worth a dotted line: no change, the network before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """One table of the page; the columns in `text` are words, the others numbers."""

    title: str
    heads: Sequence[str]
    body: Sequence[Sequence[str]]
    text: Sequence[int] = (0,)
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """All that a page says; no figure in it is typed by hand."""

    name: str
    title: str
    question: str
    findings: Sequence[str]
    """Sentences with the figures, the first one being the answer."""
    grids: Sequence[Grid]
    panels: Sequence[Panel]
    method: Sequence[str]
    """How it was measured, and what that does not show."""
    sources: Sequence[str] = field(default=())


class Result(Protocol):
    """What every study gives."""

    def story(self) -> Story:
        """The result in words, tables and charts."""
        ...


def page(story: Story, command: str, machine: str) -> str:
    """The whole page."""
    parts = [
        f"# {story.title}\n",
        f"Written by `{command}`; do not edit by hand. Machine: {machine}.\n",
        f"{story.question}\n",
        "".join(f"- {sentence}\n" for sentence in story.findings),
        f"![{story.title}](study-{story.name}.png)\n",
    ]
    for grid in story.grids:
        note = f"\n{grid.note}\n" if grid.note else ""
        parts.append(f"## {grid.title}\n\n{table(grid.heads, grid.body, grid.text)}{note}")
    parts.append("## How it was measured\n\n" + "\n\n".join(story.method) + "\n")
    if story.sources:
        parts.append("Sources: " + "; ".join(story.sources) + ".\n")
    return "\n".join(parts)


def draw(story: Story, path: Path) -> None:
    """Write the picture to `path` (PNG)."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    count = len(story.panels)
    across = min(count, 2)
    down = -(-count // across)
    figure, places = pyplot.subplots(
        down, across, figsize=(5.6 * across, 4.0 * down), layout="constrained", squeeze=False
    )
    for place, panel in zip(places.flat, story.panels, strict=False):
        _panel(place, panel)
    for place in list(places.flat)[count:]:
        place.set_visible(False)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _panel(place: Any, panel: Panel) -> None:
    many = len(panel.lines)
    for index, line in enumerate(panel.lines):
        # Points at the same name stand beside each other.
        aside = (index - (many - 1) / 2) * 0.6 / max(many, 2) if panel.names else 0.0
        x = [value + aside for value in line.x]
        colour, mark = COLOURS[index % len(COLOURS)], MARKS[index % len(MARKS)]
        style = "-" if line.joined and not panel.names else "none"
        place.plot(
            x, line.y, color=colour, marker=mark, markersize=5, linestyle=style, label=line.label
        )
        if line.low and line.high:
            place.vlines(x, line.low, line.high, color=colour, alpha=0.5, linewidth=1.5)
    if panel.level is not None:
        place.axhline(panel.level, color="#555555", linewidth=1, linestyle=":")
    _scale(place, panel)
    if panel.from_zero:
        place.set_ylim(bottom=0.0)
    place.set_title(panel.title, fontsize=11)
    place.set_xlabel(panel.across)
    place.set_ylabel(panel.up)
    place.grid(visible=True, which="major", alpha=0.25)
    place.spines[["top", "right"]].set_visible(False)
    if many > 1:
        place.legend(fontsize=8, framealpha=0.8)


def _scale(place: Any, panel: Panel) -> None:
    from matplotlib import ticker

    if panel.names:
        long = max(len(name) for name in panel.names) * len(panel.names) > 60
        place.set_xticks(range(len(panel.names)), panel.names, fontsize=8)
        if long:
            place.tick_params(axis="x", labelrotation=30)
            for label in place.get_xticklabels():
                label.set_ha("right")
        place.set_xlim(-0.6, len(panel.names) - 0.4)
    elif panel.logarithmic:
        marks = sorted({value for line in panel.lines for value in line.x})
        place.set_xscale("log")
        place.xaxis.set_minor_locator(ticker.NullLocator())
        place.set_xticks(marks, [f"{value:g}" for value in marks])
    elif all(isinstance(value, int) for line in panel.lines for value in line.x):
        place.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))


def percent(share: float, digits: int = 0) -> str:
    """A change with its sign; what rounds to nothing has none."""
    rounded = round(100 * share, digits)
    return f"{rounded:+.{digits}f} %" if rounded else f"{0.0:.{digits}f} %"
