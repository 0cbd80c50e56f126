"""The PyTorch executor: programs of `torch.export`, one thread per worker.

PyTorch is imported when the first variant needs it: a server without one does not pay for it. A
program runs from several threads at a time, so workers share it. On the processor each run uses one
thread, as in the ONNX Runtime executor; on a GPU each worker has a stream of its own
(`gearshift.executors.pytorch.cuda`).
"""

from __future__ import annotations

import math
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from gearshift.artifacts import read_again
from gearshift.core.artifact import Artifact
from gearshift.core.catalog import Model, Signature, Variant
from gearshift.executors.key import Key, key, not_loaded
from gearshift.executors.memory import check_room
from gearshift.executors.thread import WorkerThreads
from gearshift.ports import Array, Tensors, Worker

if TYPE_CHECKING:
    from gearshift.executors.pytorch.program import Program

log = structlog.get_logger(__name__)

CPU, GPU = "cpu", "gpu"


def installed() -> bool:
    """Whether there is a PyTorch; it is not imported for that."""
    return find_spec("torch") is not None


class TorchExecutor:
    """Runs `model.pt2` artifacts on the first GPU if PyTorch has one, else on the processor."""

    def __init__(self, device: str | None = None) -> None:
        """`device`: `cpu` or `gpu`, None for the best there is."""
        self._wanted = device
        self._loaded: dict[Key, tuple[Program, Any]] = {}
        self._threads = WorkerThreads()
        self._streams: dict[int, Any] = {}

    @property
    def devices(self) -> tuple[str, ...]:
        return (self._device,)

    @property
    def _device(self) -> str:
        return self._wanted or CPU

    @property
    def identity(self) -> str:
        return f"torch {metadata.version('torch')}"

    @property
    def runs_here(self) -> bool:
        return True

    def inspect(self, artifact: Artifact) -> Signature:
        """The signature of a program; ValueError if it does not load or cannot be served."""
        return _read(artifact).signature

    def load(self, model: Model, variant: Variant) -> None:
        check_room(variant.artifact_bytes)
        program = _read(read_again(variant))
        program.check(model)
        if self._wanted is None:
            # Asked only now, because PyTorch has to be imported for that.
            self._wanted = GPU if _torch().cuda.is_available() else CPU
        self._loaded[key(model, variant)] = program, program.module(_place(self._device))

    def unload(self, model: Model, variant: Variant) -> None:
        name = key(model, variant)
        self._loaded.pop(name, None)
        for stream in self._streams.values():
            stream.forget(name)

    async def run(
        self,
        worker: Worker,
        model: Model,
        variant: Variant,
        inputs: Tensors,
        within: float = math.inf,
    ) -> Tensors:
        name = key(model, variant)
        program, module = self._found(model, variant)
        if self._device == GPU:
            run = self._stream(worker).run
            running = self._threads.submit(worker, run, name, program, module, inputs)
        else:
            running = self._threads.submit(worker, _run, program, module, inputs)
        outputs: Tensors = await running
        return outputs

    def _stream(self, worker: Worker) -> Any:
        stream = self._streams.get(worker.id)
        if stream is None:
            from gearshift.executors.pytorch.cuda import Stream

            stream = self._streams[worker.id] = Stream(_place(GPU))
        return stream

    def run_here(self, model: Model, variant: Variant, inputs: Tensors) -> Tensors:
        return _run(*self._found(model, variant), inputs)

    def _found(self, model: Model, variant: Variant) -> tuple[Program, Any]:
        loaded = self._loaded.get(key(model, variant))
        if loaded is None:
            raise not_loaded(model, variant)
        return loaded

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


def _torch() -> Any:
    import torch

    if torch.get_num_threads() != 1:
        # As many workers as cores run side by side, and do not fight over them.
        torch.set_num_threads(1)
    return torch


def _read(artifact: Artifact) -> Program:
    _torch()
    from gearshift.executors.pytorch.program import read_program

    return read_program(artifact)


def _place(device: str) -> str:
    return "cuda:0" if device == GPU else device


def _run(program: Program, module: Any, inputs: Tensors) -> dict[str, Array]:
    """On the processor."""
    torch = _torch()
    with torch.inference_mode():
        tensors = {name: torch.from_numpy(own(array)) for name, array in inputs.items()}
        outputs = program.call(module, tensors)
        return {name: output.contiguous().numpy() for name, output in outputs.items()}


def own(array: Array) -> Array:
    """One that may be written to: a program can write to what it is given, and those arrays that
    may not be are a caller's bytes."""
    return array if array.flags.writeable and array.flags.c_contiguous else np.array(array)
