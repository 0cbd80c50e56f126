"""docs/results/peers.png: latency and share in time over the offered rate, a column a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from loadtests.peers.records import Results

mpl.use("Agg")
import matplotlib.pyplot as plt

COLOURS = {
    "gearshift": "#d62728",
    "gearshift-variants": "#ff9896",
    "plain-sync": "#7f7f7f",
    "plain-asyncio": "#bcbd22",
    "triton": "#2ca02c",
    "triton-tuned": "#17becf",
    "kserve": "#1f77b4",
    "mlserver": "#9467bd",
}


def style(name: str, title: str) -> dict[str, Any]:
    """The one it is about lies on top, and is thicker."""
    ours = name.startswith("gearshift")
    return {
        "color": COLOURS[name],
        "label": title,
        "marker": "o",
        "markersize": 4,
        "linewidth": 2.4 if ours else 1.3,
        "zorder": 3 if ours else 2,
    }


def draw(results: Results, path: Path) -> None:
    models = list(dict.fromkeys(cell.model for cell in results.open))
    if not models:
        return
    figure, axes = plt.subplots(
        2, len(models), figsize=(5 * len(models), 7.5), squeeze=False, layout="constrained"
    )
    for column, model in enumerate(models):
        cells = [cell for cell in results.open if cell.model == model]
        above, below = axes[0][column], axes[1][column]
        for name in results.present():
            mine = sorted((c for c in cells if c.server == name), key=lambda c: c.offered)
            looks = style(name, results.servers[name].title)
            rates = [cell.offered for cell in mine]
            answered = [cell for cell in mine if cell.answered > 0]
            above.plot([c.offered for c in answered], [c.p99_ms for c in answered], **looks)
            below.plot(rates, [100 * cell.in_time for cell in mine], **looks)
        deadline = cells[0].deadline_ms
        above.axhline(deadline, color="black", linewidth=0.8, linestyle=":")
        above.set_yscale("log")
        above.set_title(f"{model}: Poisson arrivals, deadline {deadline:g} ms")
        above.set_ylabel("p99 of what was answered, ms")
        below.set_ylabel("answered in time, % of what was sent")
        below.set_ylim(-3, 103)
        for axis in (above, below):
            axis.set_xlabel("offered, requests a second")
            axis.grid(alpha=0.3)
    handles, labels = axes[1][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)
