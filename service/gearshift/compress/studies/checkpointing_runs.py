"""The measuring behind `checkpointing`: memory in processes of their own, time in turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from gearshift.compress.families.garment_nets import convolutions
from gearshift.compress.learning import checkpointing
from gearshift.compress.made import Report
from gearshift.compress.studies.checkpointing import (
    NONE,
    Checkpointing,
    Layout,
    Measured,
    Point,
)
from gearshift.compress.studies.figures import Spread, in_turns
from gearshift.errors import GearshiftError

STEPS = 3
"""The first step makes the optimizer's state; after three the peak has been reached."""


def run(layouts: Sequence[Layout], report: Report, *, repeats: int, rounds: int) -> Checkpointing:
    """Measure every layout at every number of segments, and without checkpoints."""
    torch.set_num_threads(1)
    return Checkpointing(
        [_measure(layout, report, repeats, rounds) for layout in layouts], repeats, rounds
    )


def _measure(layout: Layout, report: Report, repeats: int, rounds: int) -> Measured:
    counts = [NONE, *layout.segments]
    peaks: dict[int, list[float]] = {count: [] for count in counts}
    for turn in range(repeats):
        report(f"{layout.name}: memory, {turn + 1} of {repeats}")
        for count in counts:
            peaks[count].append(_peak_in_process(layout, count))
    report(f"{layout.name}: time")
    times = in_turns(
        {str(count): stepper(layout, count) for count in counts}, rounds=rounds, warm=2
    )
    points = [Point(count, Spread.of(peaks[count]), times[str(count)]) for count in counts]
    return Measured(layout, points)


def stepper(layout: Layout, segments: int) -> Callable[[], float]:
    """One step of training a fresh network of `layout`; the call gives the loss."""
    torch.manual_seed(0)
    net: Any = convolutions(layout.layers).train()
    if segments != NONE:
        net.net.body = nn.Sequential(*_parted(net.segments(), segments))
    generator = torch.Generator().manual_seed(1)
    size = (layout.batch, 28, 28)
    pixels = torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 10, (layout.batch,), generator=generator)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, nesterov=True)

    def step() -> float:
        with nullcontext() if segments == NONE else checkpointing(net.segments()):
            loss = functional.cross_entropy(net(pixels), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return float(loss.detach())

    return step


def _parted(blocks: Sequence[nn.Module], segments: int) -> list[nn.Module]:
    """Neighbouring blocks joined to so many segments."""
    cuts = [round(index * len(blocks) / segments) for index in range(segments + 1)]
    return [nn.Sequential(*blocks[start:end]) for start, end in pairwise(cuts)]


def _peak_in_process(layout: Layout, segments: int) -> float:
    """Mebibytes at the peak of a process that trains `layout` for some steps."""
    told = {"layers": layout.layers, "batch": layout.batch, "segments": segments}
    done = subprocess.run(
        [sys.executable, "-m", __name__, json.dumps(told)],
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise GearshiftError(f"measuring memory failed: {done.stderr.strip().splitlines()[-1:]}")
    return float(done.stdout.split()[-1])


def _peak(told: dict[str, Any]) -> float:
    torch.set_num_threads(1)
    layout = Layout(name="", layers=told["layers"], batch=told["batch"], segments=())
    # A small step first loads the kernels, which stay in memory and are not what is measured.
    small = Layout(name="", layers=told["layers"], batch=2, segments=())
    stepper(small, told["segments"])()
    step = stepper(layout, told["segments"])
    Path("/proc/self/clear_refs").write_text("5")  # Sets the high-water mark to what is now.
    before = _kilobytes("VmRSS")
    for _ in range(STEPS):
        step()
    return (_kilobytes("VmHWM") - before) / 1024


def _kilobytes(key: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    raise GearshiftError(f"/proc/self/status has no {key}: memory is measured on Linux only")


if __name__ == "__main__":
    print(_peak(json.loads(sys.argv[1])))  # noqa: T201 - what the asking process reads
