"""ONNX Runtime's providers beside each other, and workers that keep to a core beside free ones.

    make bench-devices

Shipped variants, each run one call of an executor on a worker's thread, timed as the server's
profiles are. Providers take turns, five runs of each, so that whatever else the machine does meets
all alike; only those that the installed ONNX Runtime has are there, all in the same version of it.
Agreement is the share of 512 held-out rows for which both have the same class. For the cores two
workers run batches without a pause, half a second free and half a second each kept to a core of its
own, in turn; the figures are medians over the pairs of half seconds, with the middle half of them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import onnxruntime as ort
import uvloop
from loadtests.peers.environment import environment, stolen, stolen_since

from gearshift.core.catalog import Model, Variant
from gearshift.executors.onnx import OnnxExecutor
from gearshift.ports import Tensors, Worker
from gearshift.profiling.inputs import InputMaker
from gearshift.repository import load

REPOSITORY = Path("model_repo")
COMPARED = (
    ("fraud", "mlp"),
    ("tumor", "networks"),
    ("garment", "student"),
    ("garment", "pruned"),
    ("garment", "teacher-int8"),
)
PINNED = (("garment", "student-int8", 1), ("garment", "student", 8), ("garment", "student", 64))
TURN = 5
SECONDS = 3.0
ROWS = 512
ROUND = 0.5
PAIRS = 20
WORKER = Worker(0, "cpu")


def there(model: Model) -> list[str]:
    """The providers that run on this machine, by the short name; ONNX Runtime's own first."""
    variant = model.best
    found = []
    for name in ("cpu", "openvino", "cuda", "tensorrt", "directml", "coreml"):
        executor = OnnxExecutor([name])
        executor.load(model, variant)
        if any(each.runs == name for each in executor.placed(model, variant)):
            found.append(name)
        executor.close()
    return found


async def compared(
    model: Model, variant: Variant, names: Sequence[str]
) -> tuple[list[tuple[int, Mapping[str, list[float]]]], Mapping[str, float], Mapping[str, str]]:
    """Seconds by batch and provider; agreement with the first; what really ran, by provider."""
    executors = {name: OnnxExecutor([name]) for name in names}
    workers = {
        name: Worker(index, executor.devices[0])
        for index, (name, executor) in enumerate(executors.items())
    }
    for executor in executors.values():
        executor.load(model, variant)
    runs = {
        name: next(each.runs for each in executor.placed(model, variant) if each.runs)
        for name, executor in executors.items()
    }
    maker = InputMaker(model)
    answers = {}
    for name, executor in executors.items():
        parts = []
        for begin in range(0, ROWS, model.max_batch_size):
            rows = {
                n: a[begin : begin + model.max_batch_size] for n, a in maker.batch(ROWS).items()
            }
            parts.append(await executor.run(workers[name], model, variant, rows))
        answers[name] = np.concatenate([_classes(part) for part in parts])
    agree = {name: float(np.mean(each == answers[names[0]])) for name, each in answers.items()}
    found = []
    for batch in (1, 8, model.max_batch_size):
        inputs = maker.batch(batch)
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for name, executor in executors.items():
            for _ in range(5):
                await executor.run(workers[name], model, variant, inputs)
        until = time.perf_counter() + SECONDS
        while time.perf_counter() < until:
            for name, executor in executors.items():
                for _ in range(TURN):
                    begun = time.perf_counter()
                    await executor.run(workers[name], model, variant, inputs)
                    seconds[name].append(time.perf_counter() - begun)
        found.append((batch, seconds))
    for executor in executors.values():
        executor.close()
    return found, agree, runs


def _classes(outputs: Tensors) -> np.ndarray:
    scores = next(iter(outputs.values()))
    flat = scores.reshape(len(scores), -1)
    return flat.argmax(axis=1) if flat.shape[1] > 1 else (flat[:, 0] > 0.5)


async def pinned(model: Model, variant: Variant, rows: int) -> dict[str, list[tuple[float, float]]]:
    """For each half second and way: runs a second of all workers together, and p99 in seconds."""
    cores = sorted(os.sched_getaffinity(0))
    ways = {
        "free": OnnxExecutor(["cpu"]),
        "kept": OnnxExecutor(["cpu"], homes=[[core] for core in cores]),
    }
    inputs = InputMaker(model).batch(rows)
    for executor in ways.values():
        executor.load(model, variant)

    async def runs(executor: OnnxExecutor, worker: Worker, until: float) -> list[float]:
        seconds = []
        while (begun := time.perf_counter()) < until:
            await executor.run(worker, model, variant, inputs)
            seconds.append(time.perf_counter() - begun)
        return seconds

    found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for pair in range(PAIRS + 1):
        order = list(ways) if pair % 2 else list(reversed(ways))
        for way in order:
            begun = time.perf_counter()
            workers = [Worker(index, "cpu") for index in range(len(cores))]
            parts = await asyncio.gather(
                *(runs(ways[way], worker, begun + ROUND) for worker in workers)
            )
            took = time.perf_counter() - begun
            seconds = sorted(chain.from_iterable(parts))
            if pair:  # The first is to warm up.
                found[way].append((len(seconds) / took, seconds[(99 * len(seconds)) // 100]))
    for executor in ways.values():
        executor.close()
    return found


def _way(name: str, runs: str) -> str:
    return name if name == runs else f"{name}, which falls back to {runs}"


def told(seconds: Sequence[float]) -> str:
    ordered = sorted(seconds)
    p99 = ordered[(99 * len(ordered)) // 100]
    return f"{1e3 * statistics.median(ordered):.3f} ({1e3 * p99:.3f})"


def spread(values: Sequence[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out: Path = parser.parse_args().out
    before = stolen()
    inspector = OnnxExecutor(["cpu"])
    models = load(REPOSITORY, {"onnx": inspector.inspect}).models
    names = there(models["garment"])
    lines = []
    for model_name, variant_name in COMPARED:
        model = models[model_name]
        variant = model.by_name(variant_name)
        if len(names) < 2:
            continue
        found, agree, runs = uvloop.run(compared(model, variant, names))
        for batch, seconds in found:
            middle = {name: statistics.median(each) for name, each in seconds.items()}
            lines += [
                f"| {model_name}/{variant_name} | {batch} | {_way(name, runs[name])} |"
                f" {told(seconds[name])} | {middle[name] / middle[names[0]]:.2f} |"
                f" {100 * agree[name]:.1f} % |"
                for name in names
            ]
    kept = []
    for model_name, variant_name, rows in PINNED:
        model = models[model_name]
        both = uvloop.run(pinned(model, model.by_name(variant_name), rows))
        pairs = list(zip(both["kept"], both["free"], strict=True))
        kept.append(
            f"| {model_name}/{variant_name} | {rows} |"
            f" {statistics.median(each for each, _ in both['free']):.0f} |"
            f" {spread([a / b for (a, _), (b, _) in pairs])} |"
            f" {spread([a / b for (_, a), (_, b) in pairs])} |"
        )
    machine = environment()
    about = " ".join((__doc__ or "").split("results\n", 1)[1].split())
    text = (
        "# Providers beside each other, and workers kept to cores\n\n"
        f"Made by `make bench-devices` on {machine['cores']} cores of"
        f" {machine['cpu']} ({machine['flags']}), Python {machine['python']}, ONNX Runtime"
        f" {ort.__version__} with {', '.join(names)}, gearshift at {machine['gearshift']}; the host"
        f" took {stolen_since(*before)} of the cores. One thread a run.\n\n{about}\n\n"
        "## Providers: p50 (p99) of a run, ms\n\n"
        "| variant | rows | provider | ms | times as long | agreement |\n"
        "| --- | ---: | --- | ---: | ---: | ---: |\n"
        + "\n".join(lines or ["| none: there is one provider only | | | | | |"])
        + "\n\n## A core of its own for each worker\n\n"
        "| variant | rows | runs a second, free | runs a second, kept / free | p99, kept / free |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        + "\n".join(kept)
        + "\n\nNone of it was run on a GPU, and nothing on more than one NUMA node: there was"
        " none.\n"
    )
    (out / "devices.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
