"""The PyTorch executor: programs of `torch.export`, one thread per worker.

PyTorch is imported when the first variant needs it: a server without one does not pay for it. A
program runs from several threads at a time, so workers share it. On the processor each run uses one
thread, as in the ONNX Runtime executor; on GPUs, each of which has its own copy, each worker has a
stream of its own (`gearshift.executors.pytorch.cuda`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from gearshift.artifacts import read_again
from gearshift.core.artifact import Artifact
from gearshift.core.catalog import Model, Signature, Variant
from gearshift.executors.devices import ByKey, OnDevices
from gearshift.executors.gpus import gpus
from gearshift.executors.key import key, log_left_out, not_loaded
from gearshift.executors.memory import check_room, told
from gearshift.executors.thread import WorkerThreads
from gearshift.ports import Array, Placed, Tensors, Worker

if TYPE_CHECKING:
    from gearshift.executors.pytorch.program import Program

log = structlog.get_logger(__name__)

CPU, GPU = "cpu", "gpu"

HERE = -1
"""The number of the worker that runs what its caller's thread runs."""


class NoRoom(ValueError):
    """A device has not enough memory for a program."""


@dataclass(frozen=True, slots=True)
class _OnDevice:
    program: Program
    module: Any


def installed() -> bool:
    """Whether there is a PyTorch; it is not imported for that."""
    return find_spec("torch") is not None


class TorchExecutor:
    """Runs `model.pt2` artifacts on each GPU that PyTorch has, or else on the processor."""

    def __init__(
        self,
        device: str | None = None,
        *,
        threads: int = 1,
        homes: Sequence[Sequence[int]] = (),
    ) -> None:
        """`device`: `cpu`, `gpu0`, `gpu1` and so on, None for all GPUs or else the processor.
        `threads`: how many of the processor one run uses. `homes`: the processors that workers keep
        to."""
        self._wanted: tuple[str, ...] = () if device is None else (device,)
        self._threads_each = threads
        self._loaded = ByKey[_OnDevice]()
        self._threads = WorkerThreads(homes)
        self._streams: dict[int, Any] = {}

    @property
    def devices(self) -> tuple[str, ...]:
        return self._wanted or (CPU,)

    @property
    def identity(self) -> str:
        names = [f" {gpu.device} ({gpu.name}, {told(gpu.memory)})" for gpu in gpus()]
        threads = f" {self._threads_each} threads" if self._threads_each > 1 else ""
        return f"torch {metadata.version('torch')}{''.join(names)}{threads}"

    @property
    def runs_here(self) -> bool:
        return True

    def inspect(self, artifact: Artifact) -> Signature:
        """The signature of a program; ValueError if it does not load or cannot be served."""
        return _read(artifact).signature

    def load(self, model: Model, variant: Variant) -> None:
        """On each device that has room for it; ValueError if none has."""
        on, failed = self._begin_on(None, model, variant)
        for device, reason in failed.items():
            log_left_out(log, model, variant, device, reason)
        self._loaded[key(model, variant)] = OnDevices(on, tuple(failed))

    def all_devices(self) -> tuple[str, ...]:
        if not self._wanted:
            # Asked only now, because PyTorch has to be imported for that.
            self._wanted = tuple(f"{GPU}{number}" for number in range(_gpus())) or (CPU,)
        return self._wanted

    def load_on(self, model: Model, variant: Variant, device: str) -> None:
        on, _ = self._begin_on(device, model, variant)
        self._loaded.add(key(model, variant), on)

    def _begin_on(
        self, only: str | None, model: Model, variant: Variant
    ) -> tuple[dict[str, _OnDevice], dict[str, str]]:
        """What has begun by device, of all or the one, and why it has not on the others; ValueError
        if on none."""
        check_room(variant.artifact_bytes)
        artifact = read_again(variant)
        every = self.all_devices()
        devices = every if only is None else (only,)
        for device in devices:
            if device != CPU and device not in [f"{GPU}{number}" for number in range(_gpus())]:
                raise ValueError(
                    f"PyTorch has no {device} here; install it with CUDA, or let variants"
                    " of PyTorch run on the processor (providers)"
                )
        on: dict[str, _OnDevice] = {}
        failed: dict[str, str] = {}
        for device in devices:
            # Read anew for each: to move a program changes it.
            program = _read(artifact)
            program.check(model)
            try:
                on[device] = _OnDevice(program, _moved(program, device))
            except NoRoom as error:
                failed[device] = str(error)
        if not on:
            raise ValueError("; ".join(failed.values()))
        return on, failed

    def unload(self, model: Model, variant: Variant) -> None:
        name = key(model, variant)
        self._loaded.pop(name, None)
        for stream in list(self._streams.values()):
            stream.forget(name)

    def unload_from(self, model: Model, variant: Variant, device: str) -> None:
        name = key(model, variant)
        self._loaded.drop(name, device)
        for stream in [
            each for each in list(self._streams.values()) if each.device == place(device)
        ]:
            stream.forget(name)

    def placed(self, model: Model, variant: Variant) -> Sequence[Placed]:
        name = key(model, variant)
        loaded = self._loaded.get(name)
        if loaded is None:
            return ()
        streams = list(self._streams.values())
        bound = {
            device: sum(each.size(name) for each in streams if each.device == place(device))
            for device in loaded.on
        }
        return [
            *(
                Placed(device, "torch", each.program.size + bound[device])
                for device, each in loaded.on.items()
            ),
            *(Placed(device, lacking=("torch",)) for device in loaded.failed),
        ]

    async def run(
        self,
        worker: Worker,
        model: Model,
        variant: Variant,
        inputs: Tensors,
        within: float = math.inf,
    ) -> Tensors:
        run = self._way(worker, model, variant)
        outputs: Tensors = await self._threads.submit(worker, run, inputs)
        return outputs

    def _way(
        self, worker: Worker, model: Model, variant: Variant
    ) -> Callable[[Tensors], dict[str, Array]]:
        on = self._on(model, variant, worker.device)
        if worker.device == CPU:
            return partial(_run, on.program, on.module, self._threads_each)
        stream = self._stream(worker)
        return partial(stream.run, key(model, variant), on.program, on.module)

    def _stream(self, worker: Worker) -> Any:
        stream = self._streams.get(worker.id)
        if stream is None:
            from gearshift.executors.pytorch.cuda import Stream

            stream = self._streams[worker.id] = Stream(place(worker.device))
        return stream

    def run_here(self, model: Model, variant: Variant, inputs: Tensors) -> Tensors:
        return self._way(Worker(HERE, self.devices[0]), model, variant)(inputs)

    def _on(self, model: Model, variant: Variant, device: str) -> _OnDevice:
        loaded = self._loaded.get(key(model, variant))
        on = loaded.on.get(device) if loaded is not None else None
        if on is None:
            raise not_loaded(model, variant)
        return on

    async def replace(self, worker: Worker) -> None:
        self._streams.pop(worker.id, None)
        self._threads.replace(worker)

    @property
    def stuck(self) -> int:
        return self._threads.stuck

    def close(self) -> None:
        self._threads.close()
        self._streams.clear()
        self._loaded.clear()


def rehearse(artifact: Artifact) -> Signature:
    """Inspect an artifact and make it ready to run on a processor, all that a serving process does
    with it there but for running it. ValueError as for `inspect`."""
    program = _read(artifact)
    program.module(CPU)
    return program.signature


def _torch(threads: int = 1) -> Any:
    import torch

    if torch.get_num_threads() != threads:
        # As many workers as cores run side by side, and do not fight over them.
        torch.set_num_threads(threads)
    return torch


def _gpus() -> int:
    cuda = _torch().cuda
    return int(cuda.device_count()) if cuda.is_available() else 0


def _read(artifact: Artifact) -> Program:
    _torch()
    from gearshift.executors.pytorch.program import read_program

    return read_program(artifact)


def place(device: str) -> str:
    """What PyTorch calls a device."""
    return f"cuda:{device.removeprefix(GPU)}" if device.startswith(GPU) else device


def _moved(program: Program, device: str) -> Any:
    """What is called on that device. NoRoom where that has too little memory."""
    torch = _torch()
    try:
        return program.module(place(device))
    except torch.OutOfMemoryError as error:
        # What has got there already is kept for later, unless it is given back.
        torch.cuda.empty_cache()
        raise NoRoom(
            f"not enough memory on {device}; the program has {told(program.size)}"
        ) from error


def _run(program: Program, module: Any, threads: int, inputs: Tensors) -> dict[str, Array]:
    """On the processor."""
    torch = _torch(threads)
    with torch.inference_mode():
        tensors = {name: torch.from_numpy(own(array)) for name, array in inputs.items()}
        outputs = program.call(module, tensors)
        return {name: output.contiguous().numpy() for name, output in outputs.items()}


def own(array: Array) -> Array:
    """One that may be written to: a program can write to what it is given, and those arrays that
    may not be are a caller's bytes."""
    return array if array.flags.writeable and array.flags.c_contiguous else np.array(array)
