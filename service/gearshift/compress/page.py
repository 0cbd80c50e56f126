"""The report on one model's variants: `<model>.md`, with a picture beside it.

Everything in it is read from cards and from what the steps found; no figure is typed by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gearshift.compress.machine import machine
from gearshift.compress.recipe import Recipe
from gearshift.core.card import Card, Measurement

BATCHES = (1, 64)


@dataclass(frozen=True, slots=True)
class Row:
    """One variant; latencies in seconds by batch size."""

    version: int | None
    """None for one that is too large to ship."""
    name: str
    card: Card
    latency: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class EdgeRow:
    """One mobile artifact, measured in its own runtime on one thread."""

    name: str
    runtime: str
    size: int
    accuracy: Measurement
    p50_ms: float
    peak_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """What a page is made of."""

    recipe: Recipe
    command: str
    rows: Sequence[Row]
    edges: Sequence[EdgeRow]
    figures: Mapping[str, Mapping[str, Any]]
    """What each step found on the way, by its name."""
    ends: str
    """What lies between the most accurate and the fastest variant, in a sentence."""
    seconds: Mapping[str, float]
    """How long each step took when it was done."""
    picture: str
    data: str


def page(told: Pages) -> str:
    """The whole page."""
    recipe, rows = told.recipe, told.rows
    total = sum(row.card.artifact_bytes for row in rows)
    parts = [
        f"# {recipe.title or recipe.model}\n",
        f"Written by `{told.command}` from the cards and from latencies measured in the same run; "
        f"do not edit by hand. Machine: {machine()}. Latency: median of ONNX Runtime alone, one "
        "thread, the variants taking turns. Accuracy: the published file itself on rows that "
        f"no step has seen, with its 95 % interval. Data: {told.data}. All artifacts together: "
        f"{total / 1e6:.2f} MB.\n",
        f"![accuracy against latency]({told.picture})\n",
        _variants(rows),
        f"{recipe.notes.strip()}\n" if recipe.notes else "",
        _further(rows),
        _spread(rows),
        f"{told.ends}\n" if told.ends else "",
        _calibrations(told),
        _optimizations(told),
        _edges(told.edges),
        _steps(told),
    ]
    return "\n".join(part for part in parts if part)


def _variants(rows: Sequence[Row]) -> str:
    metric = rows[0].card.accuracy.metric
    body = [
        (
            "not shipped" if row.version is None else str(row.version),
            f"`{row.name}`",
            f"{row.card.accuracy.value:.4f}",
            f"{row.card.accuracy.low:.4f} to {row.card.accuracy.high:.4f}",
            f"{row.card.accuracy.n:,}",
            f"{row.card.artifact_bytes:,}",
            f"{row.card.parameters:,}",
            duration(row.latency[1]),
            duration(row.latency[64]),
            row.card.recipe.description,
        )
        for row in rows
    ]
    heads = (
        *("version", "variant", metric, "95 % interval", "n", "bytes", "parameters"),
        *("p50, batch 1", "p50, batch 64", "what it is"),
    )
    interval = f"Interval: {rows[0].card.accuracy.method}.\n"
    return f"{table(heads, body, text=(1, 9))}\n{interval}"


def _further(rows: Sequence[Row]) -> str:
    names = [found.metric for found in rows[0].card.further]
    if not names:
        return ""
    body = [
        (
            f"`{row.name}`",
            *(f"{m.value:.3f} ({m.low:.3f} to {m.high:.3f})" for m in row.card.further),
        )
        for row in rows
    ]
    return table(("variant", *names), body)


def _spread(rows: Sequence[Row]) -> str:
    words = []
    for batch in BATCHES:
        times = [row.latency[batch] for row in rows]
        words.append(f"{max(times) / min(times):.0f}x at batch {batch}")
    sizes = [row.card.artifact_bytes for row in rows]
    words.append(f"{max(sizes) / min(sizes):.1f}x in bytes")
    return f"Largest over smallest: p50 {', '.join(words)}.\n"


def _calibrations(told: Pages) -> str:
    body = []
    for name, found in told.figures.items():
        for method, tried in found.get("calibrations", {}).items():
            chosen = "yes" if method == found["chosen"] else ""
            left = ", ".join(f"`{layer}`" for layer in tried["left"]) or "none"
            before, after = found["float_on_calibration"], tried["calibration"]
            body.append((f"`{name}`", method, f"{before:.4f}", f"{after:.4f}", left, chosen))
    if not body:
        return ""
    heads = ("step", "calibration", "float32", "int8", "layers left in float", "chosen")
    return "## Calibration\n\nOn the calibration part, by which everything is chosen.\n\n" + table(
        heads, body, text=(0, 1, 4, 5)
    )


def _optimizations(told: Pages) -> str:
    body = [
        (
            f"`{name}`",
            f"{found['nodes_before']} to {found['nodes_after']}",
            str(found["convolutions_merged"]),
            f"{found['bytes_before']:,} to {found['bytes_after']:,}",
            f"{found['largest_difference']:.1e}",
        )
        for name, found in told.figures.items()
        if "nodes_after" in found
    ]
    if not body:
        return ""
    heads = ("step", "operators", "convolutions merged", "bytes", "largest difference")
    return "## Graph optimization\n\n" + table(heads, body)


def _edges(edges: Sequence[EdgeRow]) -> str:
    if not edges:
        return ""
    body = [
        (
            f"`{edge.name}`",
            edge.runtime,
            f"{edge.size:,}",
            f"{edge.accuracy.value:.4f} ({edge.accuracy.low:.4f} to {edge.accuracy.high:.4f})",
            f"{edge.p50_ms:.3g}",
            f"{edge.peak_mb:.1f}",
        )
        for edge in edges
    ]
    heads = ("artifact", "runtime", "bytes", edges[0].accuracy.metric, "p50 ms", "peak MB")
    return (
        "## For phones\n\nMeasured in the artifact's own runtime, one row at a time, one thread; "
        "peak memory above that of the runtime without a model.\n\n"
        + table(heads, body, text=(0, 1))
    )


def _steps(told: Pages) -> str:
    body = [
        (
            f"`{name}`",
            f"{seconds / 60:.1f}",
            told.figures.get(name, {}).get("trained_on", ""),
        )
        for name, seconds in told.seconds.items()
    ]
    body.append(("together", f"{sum(told.seconds.values()) / 60:.1f}", ""))
    return (
        "## Time\n\nWall time of each step when it was done, other work beside it included, and "
        "what trained it; what is in the cache is not done again.\n\n"
        + table(("step", "minutes", "trained on"), body, text=(0, 2))
    )


def table(heads: Sequence[str], body: Sequence[Sequence[str]], text: Sequence[int] = (0,)) -> str:
    """A Markdown table; the columns in `text` are aligned left, the others right."""
    rules = ["---" if column in text else "---:" for column in range(len(heads))]
    lines = [heads, rules, *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def duration(seconds: float) -> str:
    """Three digits are more than repeats."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} µs"
    return f"{seconds * 1e3:.3g} ms"
