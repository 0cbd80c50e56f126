"""The report on what was made: `models.md` with a table per family, `models.png` beside it.

Everything in it is read from the cards or measured here; no figure is typed by hand.
"""

from __future__ import annotations

import json
import os
import platform
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gearshift.compress import timings
from gearshift.compress.data import Report
from gearshift.compress.latency import medians
from gearshift.compress.publish import CARD, SAMPLES

FAMILIES = ("fraud", "tumor", "garment")
BATCHES = (1, 64)
TABLE = "models.md"
PICTURE = "models.png"

TITLES: Mapping[str, str] = {
    "fraud": "fraud: card payments",
    "tumor": "tumor: breast tumors",
    "garment": "garment: Fashion-MNIST",
}
NOTES: Mapping[str, str] = {
    "fraud": (
        "Split by time: trained on the first 60 % of the payments, measured on the last 40 %, "
        "which hold 132 frauds; that few make wide intervals, and neighbours in the table "
        "differ by less than them. All settings were chosen on the last quarter of the training "
        "part. The networks learn from extra trees (out of fold) beside the labels; no variant "
        "looks at the time of the payment. One request takes some microseconds on any of them: "
        "the gears of this family are throughput (batch 64). An equal-weight blend of the "
        "largest forest and the small network looked best on the validation part and came out "
        "below the forest alone on the test part, so it is not shipped. There is no int8 form: "
        "a network of 16 hidden units is smaller than the operators that int8 adds to it."
    ),
    "tumor": (
        "398 rows, ten times repeated stratified five-fold cross-validation; in every fold the "
        "whole variant was trained, exported and run by ONNX Runtime. The corrected intervals "
        "overlap almost entirely: on this table a logistic regression is hard to beat, and the "
        "order of the variants is that of the point estimates, no more. The deep ensemble's "
        "design was chosen among a dozen on the same cross-validation, so its value is somewhat "
        "optimistic; the 171 rows held out from everything agree with the order of its ends. "
        "Recall at 95 % specificity is in the table below, too. Not validated for clinical use."
    ),
    "garment": (
        "Top-1 on the test images, by the exported file. `ensemble`: all teachers on the image "
        "and its mirror image; each learned in two cycles. `teacher`: the member with the best "
        "validation accuracy. int8: "
        "ONNX Runtime's static QDQ quantization, weights per channel, activations by min-max "
        "over 1,024 training images. `pruned`: half of the channels of every layer removed by "
        "Taylor importance (torch-pruning), then fine-tuned against the teacher. `student-int8`: "
        "a layout of its own, distilled from the teacher. `tiny` learned from labels alone and "
        "stays in float32, where it is faster than its int8 form. `teacher` and `pruned` in "
        "float32 are there to compare with: their int8 forms are faster at about the same "
        "accuracy. One seed each: differences of some tenths of a point are within what another "
        "seed would give."
    ),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One variant in the report; latencies in seconds by batch size."""

    version: int
    name: str
    card: Mapping[str, Any]
    latency: Mapping[int, float]


def write_report(repository: Path, cache: Path, results: Path, report: Report) -> None:
    """Measure the latencies of all published variants and write `results`/models.md and .png."""
    families = {}
    for model in FAMILIES:
        if (repository / model / SAMPLES).exists():
            report(f"{model}: measuring latencies")
            families[model] = rows_of(repository / model)
    results.mkdir(parents=True, exist_ok=True)
    (results / TABLE).write_text(page(families, timings.read(cache)), encoding="utf-8")
    draw(families, results / PICTURE)


def rows_of(folder: Path) -> list[Row]:
    """The variants of one model in the order of its `model.toml`, with measured latencies."""
    intent = tomllib.loads((folder / "model.toml").read_text(encoding="utf-8"))
    variants = [(entry["version"], entry["name"]) for entry in intent["variants"]]
    names = [name for _, name in variants]
    with np.load(folder / SAMPLES) as arrays:
        inputs = arrays["inputs"]
    latency = {batch: medians(folder, names, inputs, batch) for batch in BATCHES}
    return [
        Row(
            version,
            name,
            json.loads((folder / name / CARD).read_text(encoding="utf-8")),
            {batch: latency[batch][name] for batch in BATCHES},
        )
        for version, name in variants
    ]


def page(families: Mapping[str, Sequence[Row]], seconds: Mapping[str, float]) -> str:
    """The whole of `models.md`."""
    total = sum(row.card["artifact_bytes"] for rows in families.values() for row in rows)
    parts = [
        "# The shipped models\n",
        "Written by `gearshift compress --results docs/results` (the last step of `make models`) "
        "from the cards and from latencies measured in the same run; do not edit by hand. "
        f"Machine: {machine()}. Latency: median of ONNX Runtime alone, one thread, the variants "
        "taking turns. Accuracy: the exported file on held-out rows, with its 95 % interval. "
        f"All artifacts together: {total / 1e6:.1f} MB.\n",
        f"![accuracy against latency]({PICTURE})\n",
    ]
    for model, rows in families.items():
        parts += [f"## {TITLES[model]}\n", _table(rows), f"{NOTES[model]}\n"]
        parts += [_further(rows), _spread(rows)]
    parts.append(_time(seconds))
    return "\n".join(part for part in parts if part)


def _table(rows: Sequence[Row]) -> str:
    metric = rows[0].card["accuracy"]["metric"]
    lines = [
        f"| version | variant | {metric} | 95 % interval | n | bytes | parameters "
        "| p50, batch 1 | p50, batch 64 | what it is |",
        "| ---: | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        found = row.card["accuracy"]
        lines.append(
            f"| {row.version} | `{row.name}` | {found['value']:.4f} "
            f"| {found['low']:.4f} to {found['high']:.4f} | {found['n']:,} "
            f"| {row.card['artifact_bytes']:,} | {row.card['parameters']:,} "
            f"| {_duration(row.latency[1])} | {_duration(row.latency[64])} "
            f"| {row.card['recipe']['description']} |"
        )
    method = rows[0].card["accuracy"]["method"]
    return "\n".join([*lines, "", f"Interval: {method}.", ""])


def _further(rows: Sequence[Row]) -> str:
    names = [found["metric"] for found in rows[0].card["further"]]
    if not names:
        return ""
    lines = [
        "| variant | " + " | ".join(names) + " |",
        "| --- |" + " ---: |" * len(names),
    ]
    for row in rows:
        values = (f"{f['value']:.3f} ({f['low']:.3f} to {f['high']:.3f})" for f in further(row))
        lines.append(f"| `{row.name}` | " + " | ".join(values) + " |")
    return "\n".join([*lines, ""])


def further(row: Row) -> Sequence[Mapping[str, Any]]:
    """The measurements of a card beside its accuracy."""
    found: Sequence[Mapping[str, Any]] = row.card["further"]
    return found


def _spread(rows: Sequence[Row]) -> str:
    words = []
    for batch in BATCHES:
        slowest = max(row.latency[batch] for row in rows)
        fastest = min(row.latency[batch] for row in rows)
        words.append(f"{slowest / fastest:.0f}x at batch {batch}")
    return f"Slowest over fastest p50: {', '.join(words)}.\n"


def _time(seconds: Mapping[str, float]) -> str:
    if not seconds:
        return ""
    lines = ["## Training time\n", "| step | minutes |", "| --- | ---: |"]
    lines += [f"| {step} | {taken / 60:.1f} |" for step, taken in seconds.items()]
    lines += [
        f"| together | {sum(seconds.values()) / 60:.0f} |",
        "",
        "Wall time on the machine above while other work ran on it. Steps that a run finds in "
        "the cache are not done again; the table keeps what they took.",
        "",
    ]
    return "\n".join(lines)


def machine() -> str:
    """The processor in words: its name, its cores, and what makes int8 fast on it."""
    name, flags = platform.machine(), ""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() == "flags":
                flags = value
    features = [word for word in ("avx512_vnni", "avx512_bf16") if word in flags.split()]
    return f"{name}, {os.cpu_count()} cores" + "".join(f", {word}" for word in features)


def _duration(seconds: float) -> str:
    """Three digits are more than repeats."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} µs"
    return f"{seconds * 1e3:.3g} ms"


def draw(families: Mapping[str, Sequence[Row]], path: Path) -> None:
    """Accuracy against p50, one panel a family; the area of a dot grows with its bytes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        1, len(families), figsize=(5.2 * len(families), 4.4), squeeze=False, layout="constrained"
    )
    for panel, (model, rows) in zip(panels[0], families.items(), strict=True):
        # A single payment takes the same few microseconds on any variant: overhead.
        batch = 64 if model == "fraud" else 1
        _panel(panel, model, rows, batch)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _sides(x: Sequence[float], y: Sequence[float]) -> list[tuple[int, int]]:
    """Where each dot's name goes, (across, up) of the dot: towards the middle of the panel,
    but among dots at one height away from the others."""
    near = 0.05 * (max(y) - min(y))
    middle = (min(x) * max(x)) ** 0.5
    sides = []
    for latency, accuracy in zip(x, y, strict=True):
        beside = [a for a, b in zip(x, y, strict=True) if a != latency and abs(b - accuracy) < near]
        if not beside:
            sides.append((1 if latency <= middle else -1, 0))
        elif latency < min(beside):
            sides.append((-1, 0))
        elif latency > max(beside):
            sides.append((1, 0) if latency <= middle else (0, 1))
        else:
            sides.append((0, -1))
    return sides


def _panel(panel: Any, model: str, rows: Sequence[Row], batch: int) -> None:
    from matplotlib import ticker

    x = [row.latency[batch] * 1e3 for row in rows]
    y = [row.card["accuracy"]["value"] for row in rows]
    area = [12 + 0.35 * row.card["artifact_bytes"] ** 0.5 for row in rows]
    panel.scatter(x, y, s=area, color="#2a6f97", alpha=0.75, linewidths=0)
    panel.set_xscale("log")
    panel.set_xlim(min(x) / 2.5, max(x) * 2.5)
    margin = 0.12 * (max(y) - min(y))
    panel.set_ylim(min(y) - margin, max(y) + margin)
    for row, latency, accuracy, size, (across, up) in zip(
        rows, x, y, area, _sides(x, y), strict=True
    ):
        reach = 5 + size**0.5 / 2
        panel.annotate(
            row.name,
            (latency, accuracy),
            xytext=(across * reach, up * (reach + 4)),
            textcoords="offset points",
            ha={-1: "right", 0: "center", 1: "left"}[across],
            va="center",
            fontsize=9,
        )
    wide = max(x) / min(x) > 50
    panel.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    panel.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    panel.xaxis.set_minor_formatter(ticker.NullFormatter())
    panel.set_title(TITLES[model], fontsize=11)
    panel.set_xlabel(f"p50 at batch {batch}, one thread, ms")
    panel.set_ylabel(rows[0].card["accuracy"]["metric"].replace("_", " "))
    panel.grid(visible=True, which="major", alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)
