"""The executor whose workers are processes of their own (`worker_isolation = "process"`).

Each process holds sessions of its own for everything that is loaded, so memory grows with the
workers. In return a crash there takes one batch with it, a hang is ended by SIGKILL, and what
leaks is given back when the process is replaced.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from itertools import count
from typing import NamedTuple

import structlog

from gearshift.core.artifact import Artifact
from gearshift.core.catalog import Model, Signature, Variant
from gearshift.errors import ExecutorUnavailable
from gearshift.executors.isolated.child import Child
from gearshift.executors.isolated.messages import Message
from gearshift.executors.isolated.slot import Slot
from gearshift.executors.key import Key, key, not_loaded
from gearshift.executors.memory import check_room
from gearshift.executors.trial import inspect_apart
from gearshift.ports import Tensors, Worker

log = structlog.get_logger(__name__)


class _Held(NamedTuple):
    """What every process should hold: the number that it goes by, and how it is loaded."""

    handle: int
    order: Message


class IsolatedExecutor:
    """For variants of ONNX Runtime and PyTorch. `workers` processes with `providers` each;
    `memory_limit`: bytes that one may hold for itself before it is replaced; `run_bytes` as in
    OnnxExecutor. They are started when it is asked for its devices, or to load."""

    def __init__(
        self,
        workers: int,
        providers: Sequence[str] = (),
        memory_limit: float = math.inf,
        run_bytes: int = 0,
        launch: Callable[[Sequence[str], int], Child] = Child.launch,
    ) -> None:
        self._slots = [
            Slot(index, lambda: launch(providers, run_bytes), self._fill, memory_limit)
            for index in range(workers)
        ]
        self._running = 0
        """How many slots, from the first on, were started."""
        self._watched = False
        """Whether the running loop hears of those that end; what is loaded has started all."""
        self._bound: dict[int, Slot] = {}
        self._held: dict[Key, _Held] = {}
        self._handles = count(1)
        self._told: Child | None = None
        self._loading = threading.Lock()
        self._mutex = threading.Lock()
        """Held for moments: whoever changes what is held, or begins to run."""

    @property
    def devices(self) -> tuple[str, ...]:
        return self._first().devices

    @property
    def identity(self) -> str:
        return f"{self._first().identity} in processes of their own"

    @property
    def runs_here(self) -> bool:
        return False

    def inspect(self, artifact: Artifact) -> Signature:
        """In a process of its own, too: an artifact that crashes it costs nobody else anything."""
        return inspect_apart(artifact)

    def load(self, model: Model, variant: Variant) -> None:
        """In all processes, or in none: the first tries it alone."""
        order = {
            "model": model.name,
            "max_batch_size": model.max_batch_size,
            "variant": asdict(replace(variant, card=None)),
        }
        with self._loading:
            self._start(len(self._slots))
            check_room(variant.artifact_bytes, len(self._slots))
            held = _Held(next(self._handles), order)
            try:
                while missing := self._missing(key(model, variant), held):
                    missing[0].load(*held)
                    with ThreadPoolExecutor(len(self._slots)) as threads:
                        list(threads.map(lambda child: child.load(*held), missing[1:]))
            except ValueError:
                with self._mutex:
                    self._drop(held.handle)
                raise

    def unload(self, model: Model, variant: Variant) -> None:
        with self._mutex:
            held = self._held.pop(key(model, variant), None)
            if held is not None:
                self._drop(held.handle)

    async def run(
        self,
        worker: Worker,
        model: Model,
        variant: Variant,
        inputs: Tensors,
        within: float = math.inf,
    ) -> Tensors:
        held = self._held.get(key(model, variant))
        if held is None:
            raise not_loaded(model, variant)
        if not self._watched:
            self._watched = True
            for slot in self._slots:
                slot.watch()
        return await self._slot(worker).run(held.handle, inputs)

    async def replace(self, worker: Worker) -> None:
        """End the run that was given up, with the worker's process; another one takes its place.
        Returns when that can run."""
        await self._slot(worker).replace()

    @property
    def stuck(self) -> int:
        return 0

    def run_here(self, model: Model, variant: Variant, inputs: Tensors) -> Tensors:
        raise ExecutorUnavailable("workers in processes of their own run nothing on the caller's")

    def close(self) -> None:
        with self._mutex:
            self._held.clear()
        for slot in self._slots[: self._running]:
            slot.leave()
        for slot in self._slots[: self._running]:
            slot.close()
        self._running = 0

    # --- which process --------------------------------------------------------------------

    def _slot(self, worker: Worker) -> Slot:
        """The worker's own. A worker that was not seen before gets one that nobody has."""
        slot = self._bound.get(worker.id)
        if slot is None:
            taken = set(map(id, self._bound.values()))
            free = [slot for slot in self._slots if id(slot) not in taken]
            if not free:
                raise ExecutorUnavailable(
                    f"worker {worker.id} has no process: the {len(self._slots)} that there are"
                    f" belong to {sorted(self._bound)}"
                )
            slot = self._bound[worker.id] = free[0]
        return slot

    def _children(self) -> list[Child]:
        """Those that hold what is loaded. ValueError if there is none."""
        children = [child for slot in self._slots for child in slot.holding]
        if not children:
            raise ValueError("no worker process runs now; try again shortly")
        return children

    def _first(self) -> Child:
        """One that has said what it is; it may have ended since."""
        if self._told is None:
            with self._loading:
                self._start(1)
        assert self._told is not None
        return self._told

    def _start(self, wanted: int) -> None:
        """Start the first so many, all at once. ValueError if one does not get ready."""
        new = self._slots[self._running : wanted]
        for slot in new:
            slot.start()
        self._running = max(self._running, wanted)
        for slot in new:
            self._told = slot.started()

    # --- what they hold -------------------------------------------------------------------

    def _missing(self, name: Key, held: _Held) -> list[Child]:
        """Which of the processes that run do not hold it yet. Once none is left, it is loaded."""
        with self._mutex:
            missing = [child for child in self._children() if held.handle not in child.loaded]
            if not missing:
                before = self._held.get(name)
                self._held[name] = held
                if before is not None:
                    self._drop(before.handle)
            return missing

    def _drop(self, handle: int) -> None:
        """In all processes; with the mutex held."""
        for slot in self._slots:
            for child in slot.holding:
                child.unload(handle)

    def _fill(self, child: Child, begin: Callable[[], None]) -> None:
        """Load all that is held; `begin` is called when nothing is missing, and before anything
        more can be."""
        child.greeted()
        while True:
            with self._mutex:
                wanted = {held.handle: held.order for held in self._held.values()}
                for handle in child.loaded - wanted.keys():
                    child.unload(handle)
                missing = wanted.keys() - child.loaded
                if not missing:
                    begin()
                    return
            for handle in sorted(missing):
                child.load(handle, wanted[handle])
