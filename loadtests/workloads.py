"""Writes the scenarios' files for `gearshift simulate`, each from its name and a seed.

    python loadtests/workloads.py cluster --out build/workloads
    python loadtests/workloads.py two-core-hard --seed 7 --out build/workloads
    python loadtests/workloads.py profiles --out loadtests/profiles

A workload's file is `NAME.csv` (`NAME-seedN.csv` for seeds other than 0). The profiles are
kept in the repository; `profiles` writes them anew from the latency models in scenarios.py.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from scenarios import (
    CLUSTER_MEGABYTES,
    CLUSTER_SECONDS,
    TWO_CORE_MIXES,
    TWO_CORE_SECONDS,
    Row,
    Stream,
    cluster_profiles,
    cluster_streams,
    two_core_profiles,
)

WORKLOADS: Mapping[str, tuple[Sequence[Stream], float]] = {
    "cluster": (cluster_streams(), CLUSTER_SECONDS),
    **{f"two-core-{name}": (mix, TWO_CORE_SECONDS) for name, mix in TWO_CORE_MIXES.items()},
}
"""The streams of each workload, and how many seconds they last."""

PROFILES: Mapping[str, Callable[[], Iterable[Row]]] = {
    "cluster": cluster_profiles,
    "two-core": two_core_profiles,
}


def workload_rows(
    streams: Sequence[Stream], seconds: float, seed: int
) -> Iterable[tuple[str, str, str, str, str]]:
    """The lines of a workload file in order of arrival, without the header.

    Every stream has its own random numbers: changing one leaves the others as they are.
    """
    children = np.random.SeedSequence(seed).spawn(len(streams))
    moments = [
        stream.arrivals.draw(seconds, np.random.default_rng(child))
        for stream, child in zip(streams, children, strict=True)
    ]
    arrivals = np.concatenate(moments)
    owner = np.repeat(np.arange(len(streams)), [len(each) for each in moments])
    for index in np.argsort(arrivals, kind="stable"):
        stream = streams[owner[index]]
        floor = "" if stream.floor is None else f"{stream.floor:g}"
        yield (
            f"{arrivals[index] * 1e3:.3f}",
            stream.model,
            f"{stream.budget_ms:g}",
            floor,
            stream.service_class,
        )


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Whole or not at all: written beside its place, then moved there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    unfinished.replace(path)


def write_workload(name: str, out: Path, seed: int) -> Path:
    streams, seconds = WORKLOADS[name]
    path = out / (f"{name}.csv" if seed == 0 else f"{name}-seed{seed}.csv")
    header = ("arrival_ms", "model", "budget_ms", "min_accuracy", "service_class")
    write_csv(path, header, workload_rows(streams, seconds, seed))
    return path


def write_profiles(out: Path) -> list[Path]:
    header = ("model", "variant", "accuracy", "device", "batch", "p50_ms", "p99_ms")
    paths = []
    for name, rows in PROFILES.items():
        path = out / f"{name}.csv"
        lines = [
            (model, variant, f"{accuracy:g}", device, str(batch), f"{p50:.6g}", f"{p99:.6g}")
            for model, variant, accuracy, device, batch, p50, p99 in rows()
        ]
        write_csv(path, header, lines)
        paths.append(path)
        if name == "cluster":
            # Apart: who has results from the other one must find it as it was.
            path = out / f"{name}-memory.csv"
            sized = [(*line, str(CLUSTER_MEGABYTES[line[:2]])) for line in lines]
            write_csv(path, (*header, "memory_mb"), sized)
            paths.append(path)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("name", choices=[*WORKLOADS, "profiles"], help="what to write")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write into")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers; default 0")
    options = parser.parse_args()
    if options.name == "profiles":
        paths = write_profiles(options.out)
    else:
        paths = [write_workload(options.name, options.out, options.seed)]
    for path in paths:
        print(path)


if __name__ == "__main__":
    main()
