"""An executor whose runs take virtual time, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from builders import ONE_VECTOR
from gearshift.core.catalog import Model, Signature, Variant
from gearshift.ports import EXPRESS, Placed, Tensors, Worker

HERE = Worker(0, EXPRESS)
"""Where the runs are that the caller makes."""


@dataclass
class TimedExecutor:
    """`seconds(variant, rows, run)` is what a run takes on `now`, counted from 1."""

    seconds: Callable[[str, int, int], float]
    devices: tuple[str, ...] = ("cpu",)
    identity: str = "timed 1.0"
    now: float = 0.0
    runs: list[tuple[int, str, int]] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    inputs: list[Tensors] = field(default_factory=list)
    busy: set[int] = field(default_factory=set)

    def clock(self) -> float:
        return self.now

    def inspect(self, artifact: str) -> Signature:
        return ONE_VECTOR

    def load(self, model: Model, variant: Variant) -> None:
        pass

    def unload(self, model: Model, variant: Variant) -> None:
        pass

    def placed(self, model: Model, variant: Variant) -> Sequence[Placed]:
        return [Placed(device, "timed") for device in self.devices]

    async def run(
        self,
        worker: Worker,
        model: Model,
        variant: Variant,
        inputs: Tensors,
        within: float = math.inf,
    ) -> Tensors:
        assert worker.id not in self.busy, "one run per worker at a time"
        self.busy.add(worker.id)
        self._spend(worker, variant.name, inputs)
        self.busy.remove(worker.id)
        return {}

    @property
    def runs_here(self) -> bool:
        return True

    def run_here(self, model: Model, variant: Variant, inputs: Tensors) -> Tensors:
        self._spend(HERE, variant.name, inputs)
        return {}

    def _spend(self, worker: Worker, variant: str, inputs: Tensors) -> None:
        rows = len(next(iter(inputs.values())))
        self.runs.append((worker.id, variant, rows))
        self.places.append(worker.device)
        self.inputs.append(inputs)
        same = sum(1 for run in self.runs if run[1:] == (variant, rows))
        self.now += self.seconds(variant, rows, same)

    def close(self) -> None:
        pass


@pytest.fixture
def executor() -> TimedExecutor:
    """`large` needs 10 ms and 1 ms a row, everything else a tenth of that."""
    return TimedExecutor(
        lambda variant, rows, run: (10 + rows) * (1e-3 if variant == "large" else 1e-4)
    )
