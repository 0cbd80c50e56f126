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
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from gearshift.core.artifact import Artifact
from gearshift.core.catalog import Model, Signature, Variant
from gearshift.errors import ExecutorUnavailable
from gearshift.executors.isolated.child import Child
from gearshift.executors.isolated.messages import Message
from gearshift.executors.isolated.slot import Slot
from gearshift.executors.key import Key, key, log_left_out, not_loaded
from gearshift.executors.memory import check_room
from gearshift.executors.providers import CPU, providers_of
from gearshift.executors.trial import inspect_apart
from gearshift.ports import Placed, Tensors, Worker

log = structlog.get_logger(__name__)


class _Held(NamedTuple):
    """What every process of these devices should hold: the number that it goes by, and how it is
    loaded."""

    handle: int
    order: Message
    devices: Sequence[str]
    failed: Sequence[Placed]
    """The devices on which it is not, because it does not load there."""


class IsolatedExecutor:
    """For variants of ONNX Runtime and PyTorch. `workers` processes for the processor and
    `accelerated` for each other device that ONNX Runtime has with these `providers`, each with
    sessions for that device only. `memory_limit`: bytes that one may hold for itself before it is
    replaced; the others as in OnnxExecutor, `homes` by process. They are started when it is asked
    for its devices, or to load."""

    def __init__(
        self,
        workers: int,
        providers: Sequence[Any] = (),
        memory_limit: float = math.inf,
        run_bytes: int = 0,
        *,
        accelerated: int = 1,
        threads: int = 1,
        homes: Sequence[Sequence[int]] = (),
        engines: Path | None = None,
        launch: Callable[[Message], Child] = Child.launch,
    ) -> None:
        self._start_with = {
            "providers": [each.model_dump() for each in providers_of(providers)],
            "run_bytes": run_bytes,
            "threads": threads,
            "engines": str(engines) if engines is not None else "",
        }
        self._homes = homes
        self._memory_limit = memory_limit
        self._launch = launch
        self._counts = (workers, accelerated)
        self._slots: list[Slot] = []
        """Those that were started."""
        self._device: dict[Slot, str] = {}
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
            self._start()
            check_room(variant.artifact_bytes, len(self._slots))
            held = _Held(next(self._handles), order, self.devices, ())
            while missing := self._missing(key(model, variant), held):
                device, children = missing
                try:
                    self._load(children, device, held)
                except ValueError as error:
                    with self._mutex:
                        self._drop(held.handle, device)
                    if held.devices == (device,):
                        raise
                    log_left_out(log, model, variant, device, str(error))
                    held = held._replace(
                        devices=tuple(each for each in held.devices if each != device),
                        failed=(*held.failed, Placed(device, lacking=(variant.executor,))),
                    )

    def _load(self, children: Sequence[Child], device: str, held: _Held) -> None:
        """In all of them; the first tries it alone."""

        def load(child: Child) -> None:
            child.load(held.handle, {**held.order, "device": device})

        load(children[0])
        with ThreadPoolExecutor(len(children)) as threads:
            list(threads.map(load, children[1:]))

    def unload(self, model: Model, variant: Variant) -> None:
        with self._mutex:
            held = self._held.pop(key(model, variant), None)
            if held is not None:
                self._drop(held.handle)

    def placed(self, model: Model, variant: Variant) -> Sequence[Placed]:
        """Of all processes of a device together: each holds its own."""
        with self._mutex:
            held = self._held.get(key(model, variant))
            if held is None:
                return ()
            found = [
                each
                for slot in self._slots
                for child in slot.holding
                for each in child.loaded.get(held.handle, ())
            ]
        by_device: dict[str, Placed] = {}
        for each in (*found, *held.failed):
            before = by_device.get(each.device, Placed(each.device))
            by_device[each.device] = Placed(
                each.device,
                before.runs or each.runs,
                before.size + each.size,
                tuple(dict.fromkeys((*before.lacking, *each.lacking))),
            )
        return list(by_device.values())

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
        for slot in self._slots:
            slot.leave()
        for slot in self._slots:
            slot.close()
        self._slots, self._device = [], {}

    # --- which process --------------------------------------------------------------------

    def _slot(self, worker: Worker) -> Slot:
        """The worker's own. A worker that was not seen before gets one that nobody has."""
        slot = self._bound.get(worker.id)
        if slot is None:
            taken = set(map(id, self._bound.values()))
            mine = [each for each in self._slots if self._device[each] == worker.device]
            free = [slot for slot in mine if id(slot) not in taken]
            if not free:
                raise ExecutorUnavailable(
                    f"worker {worker.id} has no process: the {len(mine)} that there are for"
                    f" {worker.device!r} belong to others of {sorted(self._bound)}"
                )
            slot = self._bound[worker.id] = free[0]
        return slot

    def _children(self, device: str) -> list[Child]:
        """Those that hold what is loaded on it. ValueError if there is none."""
        slots = [slot for slot in self._slots if self._device[slot] == device]
        children = [child for slot in slots for child in slot.holding]
        if not children:
            raise ValueError("no worker process runs now; try again shortly")
        return children

    def _first(self) -> Child:
        """One that has said what it is; it may have ended since."""
        if self._told is None:
            with self._loading:
                self._ask()
        assert self._told is not None
        return self._told

    def _ask(self) -> None:
        """Start the first, which says which devices there are. ValueError if it does not get
        ready."""
        if not self._slots:
            (first,) = self._begin([CPU])
            self._told = first.started()
            self._device[first] = self._told.devices[0]

    def _start(self) -> None:
        """Start all, all at once."""
        self._ask()
        assert self._told is not None
        missing = []
        for device in self._told.devices:
            there = sum(each == device for each in self._device.values())
            missing += [device] * (self._counts[device != CPU] - there)
        for slot in self._begin(missing):
            self._told = slot.started()

    def _begin(self, devices: Sequence[str]) -> Sequence[Slot]:
        """Start a process for each of these."""
        new = []
        for device in devices:
            index = len(self._slots)
            home = list(self._homes[index % len(self._homes)]) if self._homes else []
            start = {**self._start_with, "home": home if device == CPU else []}
            slot = Slot(index, partial(self._launch, start), self._fill, self._memory_limit)
            self._slots.append(slot)
            self._device[slot] = device
            slot.start()
            new.append(slot)
        return new

    # --- what they hold -------------------------------------------------------------------

    def _missing(self, name: Key, held: _Held) -> tuple[str, list[Child]] | None:
        """A device of which processes do not hold it yet, with these. Once there is none, it is
        loaded."""
        with self._mutex:
            for device in held.devices:
                children = self._children(device)
                missing = [child for child in children if held.handle not in child.loaded]
                if missing:
                    return device, missing
            before = self._held.get(name)
            self._held[name] = held
            if before is not None:
                self._drop(before.handle)
            return None

    def _drop(self, handle: int, device: str | None = None) -> None:
        """In all processes, or those of one device; with the mutex held."""
        for slot in self._slots:
            if device in (None, self._device[slot]):
                for child in slot.holding:
                    child.unload(handle)

    def _fill(self, slot: Slot, child: Child, begin: Callable[[], None]) -> None:
        """Load all that is held; `begin` is called when nothing is missing, and before anything
        more can be."""
        child.greeted()
        while True:
            with self._mutex:
                device = self._device[slot]
                wanted = {
                    held.handle: {**held.order, "device": device}
                    for held in self._held.values()
                    if device in held.devices
                }
                for handle in child.loaded - wanted.keys():
                    child.unload(handle)
                missing = wanted.keys() - child.loaded
                if not missing:
                    begin()
                    return
            for handle in sorted(missing):
                child.load(handle, wanted[handle])
