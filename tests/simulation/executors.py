"""What runs in a simulation: answers by a rule, faults from a seed, and somebody who watches.

From the rows themselves it can be told whose they are, so that nothing has to be asked of the
server about what it runs.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from random import Random

import numpy as np

from gearshift.core.catalog import Model, Signature, TensorSpec, Variant
from gearshift.errors import ExecutorUnavailable
from gearshift.executors.fake import FakeExecutor
from gearshift.ports import Tensors, Worker
from simulation.caller import parts_of
from simulation.history import History, Ran

SIGNATURE = Signature(
    inputs=(TensorSpec("x", "FP32", (3,)),),
    outputs=(
        TensorSpec("score", "FP32", (1,)),
        TensorSpec("y", "FP32", (1,)),
        TensorSpec("who", "FP32", (1,)),
    ),
)
"""`score` decides which rows of a cascade go on, `y` says whose row it is, `who` ran it."""

NOT_SURE_OF = 7
"""Of so many codes the first variant of a cascade is not sure of one."""


def who(generation: int, version: int) -> float:
    return generation * 10.0 + version


class Answering(FakeExecutor):
    """The fake one, whose answers say who gave them."""

    def run_here(self, model: Model, variant: Variant, inputs: Tensors) -> Tensors:
        outputs = dict(super().run_here(model, variant, inputs))
        codes = outputs["y"]
        outputs["score"] = np.where(codes % NOT_SURE_OF == 0, 0.5, 1.0).astype(np.float32)
        outputs["who"] = np.full_like(codes, who(model.generation, variant.version))
        return outputs


class Faulty:
    """Runs of `inner` that go wrong, each kind with its share."""

    def __init__(self, inner: Answering, faults: Mapping[str, float], random: Random) -> None:
        self._inner = inner
        self._faults = faults
        self._random = random
        self.devices = inner.devices
        self.identity = inner.identity
        self.inspect, self.load, self.unload = inner.inspect, inner.load, inner.unload
        self.close = inner.close

    def _draw(self) -> str:
        """Which fault the next run has, "" for none."""
        chance = self._random.random()
        for kind, share in self._faults.items():
            chance -= share
            if chance < 0.0:
                return kind
        return ""

    async def run(self, worker: Worker, model: Model, variant: Variant, inputs: Tensors) -> Tensors:
        kind = self._draw()
        if kind == "hangs":
            await asyncio.get_running_loop().create_future()
        if kind == "slow":
            for _ in range(self._random.randint(2, 10)):
                await self._inner.run(worker, model, variant, inputs)
        self._raise(kind)
        return self._spoilt(kind, await self._inner.run(worker, model, variant, inputs))

    def run_here(self, model: Model, variant: Variant, inputs: Tensors) -> Tensors:
        kind = self._draw()
        self._raise(kind)
        return self._spoilt(kind, self._inner.run_here(model, variant, inputs))

    def _raise(self, kind: str) -> None:
        if kind == "raises":
            raise RuntimeError("the runtime broke")
        if kind == "unavailable":
            raise ExecutorUnavailable("the backend is down")

    def _spoilt(self, kind: str, outputs: Tensors) -> Tensors:
        found = {name: array.copy() for name, array in outputs.items()}
        if kind == "shape":
            found["y"] = np.concatenate([found["y"], found["y"]])
        elif kind == "nan":
            found["y"][self._random.randrange(len(found["y"]))] = math.nan
        return found


class Watched:
    """Enters into the history what runs, for whom, and how it ended."""

    def __init__(self, inner: Faulty, history: History) -> None:
        self._inner = inner
        self._history = history
        self._loop = asyncio.get_running_loop()
        self.devices = inner.devices
        self.identity = inner.identity
        self.inspect, self.load, self.unload = inner.inspect, inner.load, inner.unload
        self.close = inner.close
        self.busy: dict[int, Ran] = {}

    async def run(self, worker: Worker, model: Model, variant: Variant, inputs: Tensors) -> Tensors:
        if worker.id in self.busy:
            self._history.wrong(f"worker {worker.id} was given a second run")
        ran = self._begin(worker.id, worker.device, model, variant, inputs)
        self.busy[worker.id] = ran
        try:
            return self._judged(ran, await self._inner.run(worker, model, variant, inputs))
        except asyncio.CancelledError:
            self._end(ran, "called off")
            raise
        except Exception as error:
            self._end(ran, type(error).__name__)
            raise
        finally:
            del self.busy[worker.id]

    def run_here(self, model: Model, variant: Variant, inputs: Tensors) -> Tensors:
        ran = self._begin(-1, "here", model, variant, inputs)
        try:
            return self._judged(ran, self._inner.run_here(model, variant, inputs))
        except Exception as error:
            self._end(ran, type(error).__name__)
            raise

    def _begin(
        self, worker: int, device: str, model: Model, variant: Variant, inputs: Tensors
    ) -> Ran:
        rows: dict[int, list[int]] = {}
        for code in inputs["x"][:, 0].tolist():
            number, row = parts_of(code)
            rows.setdefault(number, []).append(row)
        now, names = self._loop.time(), (model.name, model.generation, variant.name)
        entry = self._history.note(now, "runs", worker, *names, rows)
        version, accuracy = variant.version, variant.accuracy
        ran = Ran(entry, now, worker, device, model, variant.name, version, accuracy, rows)
        self._history.runs.append(ran)
        return ran

    def _judged(self, ran: Ran, outputs: Tensors) -> Tensors:
        rows = sum(len(each) for each in ran.rows.values())
        values = outputs["y"]
        if len(values) != rows:
            self._end(ran, "shape")
        elif np.isnan(values).any():
            self._end(ran, "nan")
        else:
            self._end(ran, "ok")
        return outputs

    def _end(self, ran: Ran, how: str) -> None:
        ran.ended = how
        ran.until = self._history.note(self._loop.time(), "ran", ran.worker, how)
        if how not in ("ok", "called off"):
            self._history.faults[how] += 1
