"""What was measured under load, and its page: docs/results/peers-load.md and .png."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import matplotlib as mpl
from loadtests.peers.curves import style
from loadtests.peers.environment import described
from loadtests.peers.page import number, table
from loadtests.peers.records import Spread, spread

mpl.use("Agg")
import matplotlib.pyplot as plt


@dataclass(frozen=True, slots=True)
class Cell:
    """One server at one load: medical requests a second, and shares of what was sent."""

    server: str
    load: float
    round: int
    medical_offered: float
    medical_in_time: float
    """A second."""
    medical_by_variant: tuple[float, ...]
    """The same by who answered; one for a model without variants."""
    medical_refused: float
    """The share that was told no, rather than left to wait for its deadline."""
    medical_p99_ms: float
    fraud_in_time: float
    fraud_p99_ms: float
    wrong: int
    lag_p99_ms: float


@dataclass(slots=True)
class Overload:
    command: str
    environment: dict[str, str]
    capacity: float
    """Readings a second that ONNX Runtime alone computes here."""
    seconds: float
    rounds: int
    real_time: bool
    titles: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)

    def loads(self) -> list[float]:
        return sorted({cell.load for cell in self.cells})

    def of(self, server: str, load: float, value: Callable[[Cell], float]) -> Spread | None:
        return spread(
            value(cell) for cell in self.cells if (cell.server, cell.load) == (server, load)
        )

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1))


def read(path: Path) -> Overload:
    told = json.loads(path.read_text())
    for cell in told["cells"]:
        cell["medical_by_variant"] = tuple(cell["medical_by_variant"])
    return Overload(**{**told, "cells": [Cell(**cell) for cell in told["cells"]]})


INTRODUCTION = """\
# Beside other servers: what happens under load

Made by `{command}` ({rounds} round(s), {seconds:g} s a cell, every cell on a server that was \
started for it) on {environment}. {stolen} of the cores' time went to others. Client and server \
share the cores{priority}. Its p99 lag in sending was at most {lag:.2f} ms; latency counts from \
the moment a request was due, not from when it was sent.

Two kinds of traffic come at once, whether answers come or not. *Fraud checks* on the tiny model \
have 10 ms: 100 a second on average, Poisson, with a burst of {burst:g} times that for \
{length:g} ms in every second. *Medical readings* on the big model have 250 ms: Poisson, at a \
multiple of {capacity:.1f} a second, which is what ONNX Runtime alone computes on both cores in \
this run. The deadlines are gRPC's; a call is cancelled at its deadline, as stock clients do. \
Every server has one variant a model; gearshift runs once more with two narrower ones of the big \
model beside it, of less declared accuracy. The models and servers are those of \
[peers.md](peers.md); "queue policies and timeouts" is Triton tuned by hand for this traffic \
(`TUNED` in `loadtests/peers/triton.py`), the others are not tuned.
"""


def rendered(found: Overload, burst: float, length: float) -> str:
    told = INTRODUCTION.format(
        command=found.command,
        rounds=found.rounds,
        seconds=found.seconds,
        environment=described(found.environment),
        stolen=found.environment.get("stolen", "An unknown share"),
        priority="; the client has real-time priority" if found.real_time else "",
        lag=max((cell.lag_p99_ms for cell in found.cells), default=0.0),
        burst=burst,
        length=1e3 * length,
        capacity=found.capacity,
    )
    parts = [
        told,
        "Medical readings in time a second, share of fraud checks in time:\n",
        cells(found, in_time),
        "![Readings in time, and share of fraud checks in time, over load](peers-load.png)\n",
        "p99 of what was answered, ms: medical, fraud; share of medical readings that were"
        " refused, rather than left to wait until their deadline:\n",
        cells(found, tails),
    ]
    several = [name for name in found.titles if has_variants(found, name)]
    if several:
        parts += [
            "Readings in time a second by the variant that answered (the big model as every server"
            " has it, half as wide, a quarter as wide):\n",
            cells(found, by_variant, several),
        ]
    parts += [f"{found.titles[name]} is absent: {why}.\n" for name, why in found.absent.items()]
    parts += [
        f"{found.titles[name]} crashed or hung ({count}x) and was started anew for the same cell.\n"
        for name, count in found.ended.items()
    ]
    wrong = sum(cell.wrong for cell in found.cells)
    parts += [f"{wrong} answers were wrong.\n" if wrong else "No answer was wrong.\n"]
    return "\n".join(parts)


def cells(
    found: Overload, told: Callable[[Overload, str, float], str], names: Sequence[str] = ()
) -> str:
    rows = [
        [found.titles[name], *(told(found, name, load) for load in found.loads())]
        for name in names or found.titles
        if name not in found.absent
    ]
    offered: Mapping[float, float] = {cell.load: cell.medical_offered for cell in found.cells}
    head = [f"{load:g}x ({number(offered[load])}/s)" for load in found.loads()]
    return table(["server", *head], rows)


def in_time(found: Overload, name: str, load: float) -> str:
    medical = found.of(name, load, lambda cell: cell.medical_in_time)
    fraud = found.of(name, load, lambda cell: 100 * cell.fraud_in_time)
    if medical is None or fraud is None:
        return "-"
    if found.rounds == 1:
        return f"{medical.median:.1f}, {fraud.median:.1f} %"
    return (
        f"{medical.median:.1f} ({medical.least:.1f} to {medical.most:.1f}),"
        f" {fraud.median:.1f} % ({fraud.least:.1f} to {fraud.most:.1f})"
    )


def tails(found: Overload, name: str, load: float) -> str:
    medical = found.of(name, load, lambda cell: cell.medical_p99_ms)
    fraud = found.of(name, load, lambda cell: cell.fraud_p99_ms)
    refused = found.of(name, load, lambda cell: 100 * cell.medical_refused)
    if medical is None or fraud is None or refused is None:
        return "-"
    return f"{number(medical.median)}, {number(fraud.median)}; {refused.median:.0f} %"


def has_variants(found: Overload, name: str) -> bool:
    return any(len(c.medical_by_variant) > 1 for c in found.cells if c.server == name)


def by_variant(found: Overload, name: str, load: float) -> str:
    rates = [c.medical_by_variant for c in found.cells if (c.server, c.load) == (name, load)]
    return " / ".join(f"{median(of_one):.1f}" for of_one in zip(*rates, strict=True)) or "-"


def draw(found: Overload, path: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    loads = found.loads()
    able = [min(load, 1.0) * found.capacity for load in loads]
    left.plot(loads, able, color="black", linestyle=":", label="what the cores can compute")
    for name, title in found.titles.items():
        medical = [found.of(name, load, lambda cell: cell.medical_in_time) for load in loads]
        fraud = [found.of(name, load, lambda cell: 100 * cell.fraud_in_time) for load in loads]
        for axis, values in ((left, medical), (right, fraud)):
            points = [(x, y.median) for x, y in zip(loads, values, strict=True) if y is not None]
            axis.plot([x for x, _ in points], [y for _, y in points], **style(name, title))
    left.set_ylabel("medical readings answered in time, a second")
    right.set_ylabel("fraud checks answered in time, %")
    left.set_ylim(bottom=0)
    right.set_ylim(-3, 103)
    for axis in (left, right):
        axis.set_xlabel("medical load, multiples of what the cores can compute")
        axis.grid(alpha=0.3)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def write(found: Overload, folder: Path, burst: float, length: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "peers-load.md").write_text(rendered(found, burst, length))
    draw(found, folder / "peers-load.png")
