"""The kinds file: which pods there are to choose from, and what each costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gearshift.simulate.mistakes import Mistakes
from gearshift.simulate.table import Numbers, names, numbers, read_table

COLUMNS = ("name", "device", "workers", "memory_mb", "price_per_hour")
OPTIONAL = ("cpus", "gpus", "start_seconds", "hardware")

START_SECONDS = 30.0
"""Until a new pod serves, where the file does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of pod: `workers` on each of `devices`, `memory` megabytes, `price` an hour.

    `hardware` is the id of the machine whose measured profiles hold for it, "" for this one;
    `start_seconds` is how long a new pod takes until it serves.
    """

    name: str
    devices: tuple[str, ...]
    workers: int
    memory: float
    price: float
    cpus: float
    gpus: int = 0
    start_seconds: float = START_SECONDS
    hardware: str = ""


def read_kinds(path: Path, mistakes: Mistakes) -> list[Kind]:
    """The kinds in the file's order; what is wrong with it goes into `mistakes`.

    A pod with two devices, each with its own workers, has them joined by `+`, as in `cuda+cpu`.
    Without `cpus` a pod has as many as workers.
    """
    table = read_table(path, COLUMNS, OPTIONAL, mistakes)
    if table is None:
        return []
    before = len(mistakes)
    found = names(table, "name", mistakes)
    devices = names(table, "device", mistakes)
    workers = numbers(table, "workers", mistakes, least=1, whole=True).tolist()
    memory = numbers(table, "memory_mb", mistakes, above=0).tolist()
    prices = numbers(table, "price_per_hour", mistakes, above=0).tolist()

    def optional(column: str, empty: float, *, above: float = -math.inf, whole: bool) -> Numbers:
        if column not in table.columns:
            return np.full(len(found), empty)
        return numbers(table, column, mistakes, above=above, least=0, whole=whole, empty=empty)

    cpus = optional("cpus", math.inf, above=0, whole=False)
    gpus = optional("gpus", 0.0, whole=True)
    starts = optional("start_seconds", START_SECONDS, whole=False)
    hardware = [cell.strip() for cell in table.columns.get("hardware", [""] * len(found))]
    first: dict[str, int] = {}
    for name, device, line in zip(found, devices, table.lines, strict=True):
        if name and first.setdefault(name, line) != line:
            mistakes.add(
                table.file,
                line,
                "name",
                f"{name!r} stands in line {first[name]} already; every kind has one line",
            )
        parts = _devices(device)
        if device and (not all(parts) or len(set(parts)) < len(parts)):
            mistakes.add(
                table.file,
                line,
                "device",
                f"{device!r} is not a device, nor several different ones as in cuda+cpu",
            )
    if len(mistakes) > before:
        return []
    return [
        Kind(
            name=found[row],
            devices=_devices(devices[row]),
            workers=int(workers[row]),
            memory=memory[row],
            price=prices[row],
            cpus=float(cpus[row]) if math.isfinite(cpus[row]) else float(workers[row]),
            gpus=int(gpus[row]),
            start_seconds=float(starts[row]),
            hardware=hardware[row],
        )
        for row in range(len(found))
    ]


def _devices(cell: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in cell.split("+"))
