"""An executor without a backend: it waits as long as it is told and answers by a rule.

It stands in wherever the true time or the true answers do not matter: in the contract
suite, in tests under virtual time, and to try a repository before its models exist.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence

import numpy as np

from gearshift.core.artifact import Artifact
from gearshift.core.catalog import Model, Signature, Variant
from gearshift.executors.key import Key, key
from gearshift.ports import Placed, Tensors, Worker


class FakeExecutor:
    """`duration(variant, rows)` in seconds says how long a run takes.

    Every output row is filled with the sum of that row over all numeric inputs, so that a
    caller can tell whether it got the answer to its own input.
    """

    def __init__(
        self,
        signature: Signature,
        duration: Callable[[str, int], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        device: str = "cpu",
    ) -> None:
        self._signature = signature
        self._duration = duration
        self._sleep = sleep
        self._device = device
        self._loaded: set[Key] = set()
        self.runs: list[tuple[str, int]] = []
        self.replaced: list[Worker] = []

    @property
    def devices(self) -> tuple[str, ...]:
        return (self._device,)

    @property
    def identity(self) -> str:
        return "fake"

    @property
    def runs_here(self) -> bool:
        return True

    def inspect(self, artifact: Artifact) -> Signature:
        return self._signature

    def load(self, model: Model, variant: Variant) -> None:
        self._loaded.add(key(model, variant))

    def unload(self, model: Model, variant: Variant) -> None:
        self._loaded.discard(key(model, variant))

    def all_devices(self) -> tuple[str, ...]:
        return self.devices

    def load_on(self, model: Model, variant: Variant, device: str) -> None:
        """There is one device."""
        self.load(model, variant)

    def unload_from(self, model: Model, variant: Variant, device: str) -> None:
        self.unload(model, variant)

    def placed(self, model: Model, variant: Variant) -> Sequence[Placed]:
        there = key(model, variant) in self._loaded
        return [Placed(device, "fake") for device in self.devices] if there else []

    async def run(
        self,
        worker: Worker,
        model: Model,
        variant: Variant,
        inputs: Tensors,
        within: float = math.inf,
    ) -> Tensors:
        rows = len(next(iter(inputs.values())))
        outputs = self.run_here(model, variant, inputs)
        await self._sleep(self._duration(variant.name, rows))
        return outputs

    def run_here(self, model: Model, variant: Variant, inputs: Tensors) -> Tensors:
        """No time passes."""
        if key(model, variant) not in self._loaded:
            raise KeyError(f"variant {variant.name!r} of model {model.name!r} is not loaded")
        rows = len(next(iter(inputs.values())))
        self.runs.append((variant.name, rows))
        total = np.zeros(rows)
        for array in inputs.values():
            if array.dtype != object:
                total += array.reshape(rows, -1).sum(axis=1, dtype=np.float64)
        return {
            spec.name: np.broadcast_to(
                total.reshape(rows, *[1] * len(spec.shape)), (rows, *spec.shape)
            ).astype(np.float32)
            for spec in self._signature.outputs
        }

    async def replace(self, worker: Worker) -> None:
        """There is nothing to make anew."""
        self.replaced.append(worker)

    @property
    def stuck(self) -> int:
        return 0

    def close(self) -> None:
        self._loaded.clear()
