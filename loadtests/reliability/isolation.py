"""What a worker in a process of its own costs a run, beside a thread of the server.

    python -m loadtests.reliability.isolation --out docs/results

The same executor, artifact and batch, by `run` of one worker: in turns of a few runs each way, so
that whatever else the machine does meets both alike. Timed as the server's profiles are: the whole
way there and back, on an otherwise idle event loop.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvloop
from loadtests.peers.environment import environment, stolen, stolen_since
from loadtests.peers.peer import ROOT

from gearshift.core.catalog import Model, Variant
from gearshift.executors.isolated import IsolatedExecutor
from gearshift.executors.onnx import OnnxExecutor
from gearshift.ports import Worker
from gearshift.profiling.inputs import InputMaker
from gearshift.repository import load

WORKER = Worker(0, "cpu")
TURN = 5
"""Runs one way, then as many the other."""

LEAST = 4
ENOUGH = 4.0
"""Turns that there are at least, and seconds after which there are no more."""


@dataclass(frozen=True, slots=True)
class Row:
    """Seconds of each run by a thread, and by a process; pairs of medians of one turn."""

    name: str
    batch: int
    bytes: int
    thread: Sequence[float]
    process: Sequence[float]
    cost: Sequence[float]


async def compared(
    ways: Sequence[OnnxExecutor | IsolatedExecutor],
    model: Model,
    variant: Variant,
    batch: int,
    turns: int,
) -> Row:
    inputs = InputMaker(model).batch(batch)
    seconds: tuple[list[float], list[float]] = ([], [])
    costs = []
    outputs = {}
    first = time.perf_counter()
    for turn in range(turns + 1):
        if turn > LEAST and time.perf_counter() - first > ENOUGH:
            break
        medians = []
        for executor, taken in zip(ways, seconds, strict=True):
            now = []
            for _ in range(TURN):
                begun = time.perf_counter()
                outputs = await executor.run(WORKER, model, variant, inputs)
                now.append(time.perf_counter() - begun)
            medians.append(float(np.median(now)))
            if turn:  # the first is to warm up
                taken += now
        if turn:
            costs.append(medians[1] - medians[0])
    size = sum(array.nbytes for array in (*inputs.values(), *outputs.values()))
    return Row(f"{model.name}/{variant.name}", batch, size, *seconds, costs)


async def measured(repository: Path, turns: int) -> tuple[list[Row], int, int]:
    """The rows, and the bytes that a process holds: without anything loaded, and with all."""
    threads, processes = OnnxExecutor(), IsolatedExecutor(1)
    try:
        catalog = load(repository, {"onnx": threads.inspect})
        rows = []
        empty = loaded = 0
        for model in catalog.models.values():
            for variant in model.variants:
                for executor in (threads, processes):
                    executor.load(model, variant)
                (child,) = processes._children("cpu")
                loaded = child.memory
                empty = empty or loaded - variant.artifact_bytes
                for batch in sorted({1, min(8, model.max_batch_size), model.max_batch_size}):
                    rows.append(await compared((threads, processes), model, variant, batch, turns))
                    print(line(rows[-1]), flush=True)
        return rows, empty, loaded
    finally:
        threads.close()
        processes.close()


def line(row: Row) -> str:
    def ms(seconds: float) -> str:
        return f"{1e3 * seconds:.3f}"

    low, middle, high = np.quantile(row.cost, (0.25, 0.5, 0.75))
    return (
        f"| {row.name} | {row.batch} | {row.bytes / 1024:.0f}"
        f" | {ms(float(np.median(row.thread)))} | {ms(float(np.median(row.process)))}"
        f" | {ms(middle)} ({ms(low)} to {ms(high)})"
        f" | {ms(float(np.quantile(row.thread, 0.99)))}"
        f" | {ms(float(np.quantile(row.process, 0.99)))} |"
    )


def page(rows: Sequence[Row], empty: int, loaded: int, taken: str) -> list[str]:
    known = environment()
    machine = ", ".join(f"{name} {known[name]}" for name in ("cpu", "cores", "python", "gearshift"))
    return [
        "# What workers in processes of their own cost",
        "",
        "`make bench-isolation`: "
        + " ".join((__doc__ or "").split("docs/results\n", 1)[1].split()),
        "",
        "Milliseconds. The cost is the difference of the medians of two turns, one after the other:"
        " its median and its middle half.",
        "",
        "| variant | rows | KiB in and out | thread p50 | process p50 | cost | thread p99"
        " | process p99 |",
        "| --- " + "| ---: " * 7 + "|",
        *map(line, rows),
        "",
        f"Memory: a worker process holds about {empty / 2**20:.0f} MiB for itself before its first"
        f" artifact, and {loaded / 2**20:.0f} MiB once all of these are loaded and have run.",
        "",
        f"Machine: {machine}; the host took {taken} of the processor time.",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repository", type=Path, default=ROOT / "model_repo")
    parser.add_argument("--turns", type=int, default=40)
    arguments = parser.parse_args()
    before = stolen()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measured(arguments.repository, arguments.turns))
    arguments.out.mkdir(parents=True, exist_ok=True)
    lines = page(*found, stolen_since(*before))
    (arguments.out / "isolation.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
