"""What runs in a simulation: answers by a rule, and somebody who watches.

From the rows themselves it can be told whose they are, so that nothing has to be asked of the
server about what it runs.
"""

from __future__ import annotations

import asyncio
import math

import numpy as np

from gearshift.core.catalog import Model, Signature, TensorSpec, Variant
from gearshift.executors.fake import FakeExecutor
from gearshift.executors.key import Key
from gearshift.ports import Executor, Tensors, Worker
from simulation.history import History, Ran
from simulation.requests import parts_of

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


SPOILED = "spoiled"
"""How a run ends whose answers are not of the right shape or datatype."""


def who(generation: int, version: int) -> float:
    return generation * 10.0 + version


class Answering(FakeExecutor):
    """The fake one, whose answers say who gave them."""

    @property
    def loaded(self) -> set[Key]:
        return set(self._loaded)

    def run_here(self, model: Model, variant: Variant, inputs: Tensors) -> Tensors:
        outputs = dict(super().run_here(model, variant, inputs))
        codes = outputs["y"]
        outputs["score"] = np.where(codes % NOT_SURE_OF == 0, 0.5, 1.0).astype(np.float32)
        outputs["who"] = np.full_like(codes, who(model.generation, variant.version))
        return outputs


class Watched:
    """Enters into the history what runs, for whom, and how it ended."""

    def __init__(self, inner: Executor, history: History) -> None:
        self._inner = inner
        self._history = history
        self._loop = asyncio.get_running_loop()
        self.devices = inner.devices
        self.identity = inner.identity
        self.inspect, self.load, self.unload = inner.inspect, inner.load, inner.unload
        self.placed = inner.placed
        self.replace, self.close = inner.replace, inner.close
        self.busy: dict[int, Ran] = {}

    @property
    def stuck(self) -> int:
        return self._inner.stuck

    async def run(
        self,
        worker: Worker,
        model: Model,
        variant: Variant,
        inputs: Tensors,
        within: float = math.inf,
    ) -> Tensors:
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
        for spec in SIGNATURE.outputs:
            array = outputs.get(spec.name)
            if array is None or array.shape != (rows, 1) or array.dtype != np.float32:
                self._end(ran, SPOILED)
                return outputs
        # Rows that are not numbers are the concern of their requests alone.
        odd = np.isnan(np.concatenate(list(outputs.values()), axis=1)).any(axis=1)
        codes = [(number, row) for number, each in ran.rows.items() for row in each]
        ran.odd = {number for (number, _), bad in zip(codes, odd.tolist(), strict=True) if bad}
        self._end(ran, "ok")
        return outputs

    def _end(self, ran: Ran, how: str) -> None:
        ran.ended = how
        ran.until = self._history.note(self._loop.time(), "ran", ran.worker, how)
