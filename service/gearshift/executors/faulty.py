"""An executor that goes wrong as it is told: around any other, for tests and trials.

What it does to a run is what real backends have been seen to do; which runs, a plan says
(`gearshift.executors.fault_plan`). The plan may be exchanged while a server runs. Not offered by
the command line.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np

from gearshift.core.artifact import Artifact
from gearshift.core.catalog import Model, Signature, Variant
from gearshift.errors import WorkerLost
from gearshift.executors.fault_plan import Draws, Fault, Kind, Moment, Plan, plan_from
from gearshift.ports import Executor, Placed, Tensors, Worker

LOOK_EVERY = 0.05
"""Seconds between two looks of a run that hangs: is its fault over?"""


class Injected(RuntimeError):
    """The error of a run that throws on purpose."""


class FaultyExecutor:
    """Runs what `inner` runs, but for the faults of a plan.

    `now` and `sleep` are the clock of the loop that drives it, virtual in tests; `end_process` is
    told the status, negative for a signal, with which the process is to end.
    """

    def __init__(
        self,
        inner: Executor,
        plan: Plan | None = None,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        end_process: Callable[[int], None] | None = None,
    ) -> None:
        self.inner = inner
        self.struck: Counter[Kind] = Counter()
        """How many faults have struck, by kind, under all plans."""
        self.leaked: list[bytearray] = []
        self.hanging = 0
        """Runs that hang at this moment."""
        self._now, self._sleep = now, sleep
        self._end_process = end_process or _end_process
        self.take_up(plan or Plan())

    def take_up(self, plan: Plan) -> None:
        """Go by this plan from now on, which is its second 0. What hangs because of the one before
        hangs no longer."""
        self._draws = Draws(plan)
        self._since = self._now()
        self._poisons = {f.poison for f in plan.faults if f.poison is not None}

    @property
    def plan(self) -> Plan:
        """The one in force."""
        return self._draws.plan

    # --- the executor ------------------------------------------------------------------

    @property
    def devices(self) -> tuple[str, ...]:
        return self.inner.devices

    @property
    def identity(self) -> str:
        return self.inner.identity

    @property
    def runs_here(self) -> bool:
        return self.inner.runs_here

    @property
    def stuck(self) -> int:
        return self.inner.stuck

    def inspect(self, artifact: Artifact) -> Signature:
        return self.inner.inspect(artifact)

    def load(self, model: Model, variant: Variant) -> None:
        """ValueError or MemoryError, where a fault says so."""
        fault = self._draw(Moment.LOAD, model, variant, {})
        if fault is not None:
            if fault.kind is not Kind.MEMORY:
                raise ValueError(f"the load failed on purpose ({fault.kind})")
            raise MemoryError("out of memory, on purpose")
        self.inner.load(model, variant)

    def unload(self, model: Model, variant: Variant) -> None:
        self.inner.unload(model, variant)

    def placed(self, model: Model, variant: Variant) -> Sequence[Placed]:
        return self.inner.placed(model, variant)

    async def run(
        self,
        worker: Worker,
        model: Model,
        variant: Variant,
        inputs: Tensors,
        within: float = math.inf,
    ) -> Tensors:
        fault = self._draw(Moment.RUN, model, variant, inputs)
        if fault is None:
            return await self.inner.run(worker, model, variant, inputs)
        self._break(fault)
        draws, begun = self._draws, self._now()
        if fault.kind is Kind.HANG:
            self.hanging += 1
            try:
                while self._holds(draws, fault):
                    await self._sleep(LOOK_EVERY)
            finally:
                self.hanging -= 1
        outputs = await self.inner.run(worker, model, variant, inputs)
        if fault.kind is Kind.SLOW:
            await self._sleep((fault.amount - 1.0) * (self._now() - begun))
        return spoiled(outputs, fault)

    def run_here(self, model: Model, variant: Variant, inputs: Tensors) -> Tensors:
        """A run that hangs or is slow holds the caller's thread."""
        fault = self._draw(Moment.RUN, model, variant, inputs)
        if fault is None:
            return self.inner.run_here(model, variant, inputs)
        self._break(fault)
        draws, begun = self._draws, self._now()
        while fault.kind is Kind.HANG and self._holds(draws, fault):
            time.sleep(LOOK_EVERY)
        outputs = self.inner.run_here(model, variant, inputs)
        if fault.kind is Kind.SLOW:
            time.sleep((fault.amount - 1.0) * (self._now() - begun))
        return spoiled(outputs, fault)

    async def replace(self, worker: Worker) -> None:
        await self.inner.replace(worker)

    def close(self) -> None:
        self.inner.close()

    # --- faults ------------------------------------------------------------------------

    def _look(self) -> None:
        """Before each draw: whether there is another plan."""

    def _draw(
        self, moment: Moment, model: Model, variant: Variant, inputs: Tensors
    ) -> Fault | None:
        self._look()
        now = self._now() - self._since
        held = [p for p in self._poisons if any(np.any(array == p) for array in inputs.values())]
        fault = self._draws.next(moment, model.name, variant.name, now, held)
        if fault is not None:
            self.struck[fault.kind] += 1
        return fault

    def _holds(self, draws: Draws, fault: Fault) -> bool:
        """Whether a run that hangs because of this fault still does."""
        self._look()
        return self._draws is draws and self._now() - self._since < fault.end

    def _break(self, fault: Fault) -> None:
        match fault.kind:
            case Kind.THROW:
                raise Injected("the run failed on purpose")
            case Kind.MEMORY:
                raise MemoryError("out of memory, on purpose")
            case Kind.LOST:
                raise WorkerLost("crashed", "the worker was lost on purpose")
            case Kind.EXIT:
                self._end_process(int(fault.amount))
            case Kind.CRASH:
                self._end_process(-signal.SIGSEGV)
            case Kind.LEAK:
                # Written to, or the system would only promise the pages.
                self.leaked.append(bytearray(b"\x01") * int(fault.amount))


class ToldByFile(FaultyExecutor):
    """Goes by the plan in a file, and by another one as soon as that is written there.

    A file that is not there is a plan without faults; ValueError for one that is no plan. Write
    it elsewhere and rename it, for half of a plan is none.
    """

    def __init__(self, inner: Executor, file: Path) -> None:
        self._file = file
        self._seen: tuple[int, int, int] | None = None
        super().__init__(inner)
        self._look()

    def _look(self) -> None:
        try:
            about = self._file.stat()
        except FileNotFoundError:
            seen = None
        else:
            seen = about.st_ino, about.st_mtime_ns, about.st_size
        if seen != self._seen:
            self._seen = seen
            self.take_up(Plan() if seen is None else plan_from(self._file.read_text()))


def spoiled(outputs: Tensors, fault: Fault) -> Tensors:
    """The outputs as a fault leaves them; those that it is not about are as they were."""
    made = dict(outputs)
    name, array = next(iter(made.items()))
    match fault.kind:
        case Kind.SHAPE:
            made[name] = np.concatenate([array, array[:1]])
        case Kind.DTYPE:
            made[name] = array.astype(np.int16 if array.dtype != np.int16 else np.int32)
        case Kind.MISSING:
            del made[name]
        case Kind.NAN | Kind.INFINITY if array.dtype.kind == "f":
            made[name] = array.copy()
            value = np.nan if fault.kind is Kind.NAN else np.inf
            made[name][slice(None) if fault.amount > 0.0 else slice(1)] = value
    return made


def _end_process(status: int) -> None:
    if status < 0:
        os.kill(os.getpid(), -status)
        # A signal of one's own is there before the call returns, but for one that is blocked.
        signal.pause()
    os._exit(status)
