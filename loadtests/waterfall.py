"""A picture of one real trace: a request to `garment` that goes on in a cascade, among others.

    python -m loadtests.waterfall --out docs/pictures/trace.png

Serves the shipped models with every request traced, sends pictures at the same time as well-paced
others, and draws the tree of one whose rows the first variant was not sure of.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import tritonclient.grpc.aio as triton
from loadtests.otlp import Collector, Span
from loadtests.peers.peer import ROOT
from matplotlib.axes import Axes
from tritonclient.grpc import InferInput

CASCADE = "pruned-then-teacher"
ROWS = 4
COLORS = {
    "queue": "#c9ced6",
    "run": "#2f6fb3",
    "batch garment": "#7a4fa3",
    "decode": "#4b9b69",
    "encode": "#4b9b69",
}
SERVER = "#1f2933"


async def ask(address: str, pictures: np.ndarray, count: int) -> None:
    """Some pictures a request, a few milliseconds after one another."""
    async with triton.InferenceServerClient(address) as client:

        async def one(number: int) -> None:
            await asyncio.sleep(0.015 * number)
            rows = pictures[ROWS * number :][:ROWS]
            tensor = InferInput("pixels", list(rows.shape), "UINT8")
            tensor.set_data_from_numpy(rows)
            told = {"variant": CASCADE, "latency_budget_ms": 2_000, "service_class": "archive"}
            await client.infer("garment", [tensor], request_id=f"r{number}", parameters=told)

        await asyncio.gather(*(one(number) for number in range(count)))


def traced(state: Path, count: int) -> tuple[Collector, list[Span]]:
    collector = Collector()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gearshift", "serve", "--grpc-port", "0", "--http-port", "0"),
            *("--repository", str(ROOT / "model_repo"), "--state-dir", str(state)),
            *("--log-level", "warning", "--otel-endpoint", collector.endpoint),
            *("--trace-ratio", "1"),
        ],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OTEL_BSP_SCHEDULE_DELAY": "100", "PYTHONPATH": str(ROOT / "service")},
    )
    try:
        assert process.stdout is not None
        ready = re.search(r"gRPC on (\S+),", process.stdout.readline())
        assert ready is not None
        with np.load(ROOT / "model_repo" / "garment" / "samples.npz") as file:
            pictures = file["inputs"]
        asyncio.run(ask(ready[1], pictures, count))
        return collector, collector.roots(count)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        collector.close()


def bars(axes: Axes, rows: Sequence[tuple[Span, int]], origin: int) -> None:
    """One row a span, indented by how deep it is."""
    whole = max(span.end - origin for span, _ in rows) / 1e6
    for place, (span, _) in enumerate(rows):
        begin, length = (span.begin - origin) / 1e6, (span.end - span.begin) / 1e6
        length = max(length, whole / 250)
        color = COLORS.get(span.name, SERVER)
        axes.barh(place, length, left=begin, height=0.55, color=color)
        for at in span.events.values():
            axes.plot((at - origin) / 1e6, place, "|", color="#d9822b", ms=13, mew=1.6)
        axes.text(begin + length + whole / 150, place, told(span), va="center", fontsize=7.5)
    axes.set_yticks(range(len(rows)), ["   " * depth + name(span) for span, depth in rows])
    for label in axes.get_yticklabels():
        label.set_horizontalalignment("left")
        label.set_fontsize(9)
    axes.tick_params(axis="y", length=0, pad=118)
    axes.invert_yaxis()


def name(span: Span) -> str:
    return span.name.rpartition("/")[2]


def told(span: Span) -> str:
    """What is most worth knowing of it."""
    length = f"{(span.end - span.begin) / 1e6:.2f} ms"
    if span.name == "run":
        unsure = span.attributes.get("gearshift.unsure_rows")
        more = f", {counted(unsure, 'row')} unsure" if unsure else ""
        return f"{length}  {span['variant']}, slack {span['slack_us'] / 1e3:.0f} ms{more}"
    if span.name.startswith("batch"):
        requests = span["batch.requests"]
        return f"{length}  {counted(span['batch.rows'], 'row')} of {counted(requests, 'request')}"
    if "gearshift.outcome" in span.attributes:
        return f"{length}  {span['outcome']}, {span['reason']}"
    return length


def counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def draw(collector: Collector, root: Span, path: Path) -> None:
    rows = [(root, 0)]
    for child in collector.children(root):
        rows.append((child, 1))
        rows += [(collector.by_id(link[1]), 2) for link in child.links]
    figure, axes = plt.subplots(figsize=(9.6, 0.42 * len(rows) + 1.0), layout="constrained")
    bars(axes, rows, root.begin)
    axes.set_xlim(0, (root.end - root.begin) / 1e6 * 1.42)
    axes.set_xlabel("milliseconds since the request came; orange: events; violet: linked batches")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=130)


def company(collector: Collector, root: Span) -> int:
    """How many requests were in its batches."""
    return sum(child["batch.requests"] for child in collector.children(root) if child.links)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--state", type=Path, default=ROOT / "build" / "state")
    parser.add_argument("--requests", type=int, default=40)
    arguments = parser.parse_args()
    collector, roots = traced(arguments.state, arguments.requests)
    on = [r for r in roots if len(collector.children(r)) > 4]
    chosen = max(on, key=lambda root: company(collector, root))
    draw(collector, chosen, arguments.out)
    for span in (chosen, *collector.children(chosen)):
        print(span.name, span.attributes)


if __name__ == "__main__":
    main()
