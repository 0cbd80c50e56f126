"""The ONNX Runtime executor: one session per variant and device, one thread per worker.

A session runs concurrently from several threads, so workers of a device share it and memory does
not grow with them. On the processor each run uses one thread: with as many workers as cores,
batches run side by side instead of fighting over the same cores. Short runs are made at once, on
the event loop's own thread: to hand them over would take longer. What a run needs on its way comes
from one arena for all sessions: it grows with what runs at the same time, not with what is loaded.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime as ort
import structlog

from gearshift.artifacts import read_again
from gearshift.core.artifact import Artifact
from gearshift.core.catalog import Model, Signature, Variant
from gearshift.executors.bfloat16 import Bfloat16Session
from gearshift.executors.devices import ByKey, OnDevices
from gearshift.executors.gpus import Gpu, gpus
from gearshift.executors.key import key, log_left_out, not_loaded
from gearshift.executors.memory import check_room, told
from gearshift.executors.onnx.binding import CUDA, Bound, plan
from gearshift.executors.onnx.engines import Engines, shapes, version
from gearshift.executors.onnx.session import (
    NoRoom,
    begin,
    inspect,
    no_room,
    register_arena,
    signature_of,
    starts,
)
from gearshift.executors.providers import (
    CPU,
    ON_PROCESSOR,
    Chain,
    Cuda,
    DirectML,
    Share,
    TensorRT,
    providers_of,
    short,
    wanted,
)
from gearshift.executors.thread import WorkerThreads
from gearshift.ports import Array, Placed, Tensors, Worker

log = structlog.get_logger(__name__)

MEMORY: Mapping[str, str] = {Cuda.onnx_name: CUDA, TensorRT.onnx_name: CUDA}
"""Where tensors are bound in a device's memory: the kind of that memory, by provider."""


class OnnxExecutor:
    """Runs `model.onnx` artifacts, each on every device of the wanted providers."""

    def __init__(
        self,
        providers: Sequence[Any] = (),
        run_bytes: int = 0,
        *,
        threads: int = 1,
        runs: int = 1,
        homes: Sequence[Sequence[int]] = (),
        engines: Path | None = None,
        memory: Mapping[str, str] = MEMORY,
    ) -> None:
        """`providers` as gearshift.executors.providers has them; ValueError for what is none.
        `run_bytes` bounds what runs take on their way, all together and of the whole process, where
        it is not 0: a run that needs more fails. `threads`: how many of the processor one run uses,
        and `runs` how many run there at the same time, for providers with threads of their own.
        `homes`: the processors that workers keep to. `engines`: the folder for what TensorRT has
        compiled.

        A provider that is wanted and cannot be had is left out with one line in the log: a server
        without its GPU still serves, and says so.
        """
        asked = providers_of(providers)
        installed = ort.get_available_providers()
        there = gpus() if Cuda.onnx_name in installed else ()
        found = wanted(asked, installed, [gpu.number for gpu in there], Share(threads, runs))
        # First of all: sessions are begun to try providers.
        register_arena(run_bytes)
        self._missing = dict(found.missing)
        self._chains: dict[str, Chain] = {}
        for device, chain in found.chains.items():
            self._try(device, chain)
        if not self._chains:
            self._chains[CPU] = []
        if self._missing:
            log.warning(
                "providers are not to be had, falling back",
                missing={
                    f"{name} on {device}": why for (name, device), why in self._missing.items()
                },
                using={device: _told(chain) for device, chain in self._chains.items()},
            )
        self._threads_each = threads
        self._memory = memory
        self._gpus = {gpu.device: gpu for gpu in there}
        kept = next((each.cache_mib for each in asked if isinstance(each, TensorRT)), 0)
        self._engines: Engines | None = None
        if engines is not None and kept and version():
            hardware = f"{self.identity}, TensorRT {version()}"
            self._engines = Engines(engines, hardware, kept * 2**20)
        self._loaded = ByKey[_OnDevice]()
        self._threads = WorkerThreads(homes)

    def _try(self, device: str, chain: Chain) -> None:
        """Keep what starts."""
        started = starts(chain)
        for name, _ in chain:
            if name not in started:
                self._missing[short(name), device] = "it does not start here"
        kept = [each for each in chain if each[0] in started]
        if kept or device == CPU:
            self._chains[device] = kept

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(self._chains)

    @property
    def identity(self) -> str:
        ways = " ".join(
            _identity(device, chain, self._gpus.get(device))
            for device, chain in self._chains.items()
        )
        threads = f" {self._threads_each} threads" if self._threads_each > 1 else ""
        return f"onnxruntime {ort.__version__} {ways}{threads}"

    @property
    def runs_here(self) -> bool:
        return True

    def only(self, device: str) -> None:
        """Run on this one of the devices from now on, and on no other."""
        self._chains = {device: self._chains[device]}

    def inspect(self, artifact: Artifact) -> Signature:
        """The signature of an ONNX file; ValueError if it does not load or cannot be served."""
        return inspect(artifact)

    def load(self, model: Model, variant: Variant) -> None:
        """On each device that it can be loaded on; ValueError if there is none."""
        on, failed = self._begin_on(self._chains, model, variant)
        for device, reason in failed.items():
            log_left_out(log, model, variant, device, reason)
        self._loaded[key(model, variant)] = OnDevices(on, tuple(failed))

    def all_devices(self) -> tuple[str, ...]:
        return self.devices

    def load_on(self, model: Model, variant: Variant, device: str) -> None:
        on, _ = self._begin_on({device: self._chains[device]}, model, variant)
        self._loaded.add(key(model, variant), on)

    def _begin_on(
        self, chains: Mapping[str, Chain], model: Model, variant: Variant
    ) -> tuple[dict[str, _OnDevice], dict[str, str]]:
        """What has begun by device, and why it has not on the others; ValueError if on none."""
        check_room(variant.artifact_bytes)
        try:
            artifact = read_again(variant)
        except MemoryError as error:
            raise NoRoom(no_room(variant.artifact_bytes)) from error
        on: dict[str, _OnDevice] = {}
        failed: dict[str, str] = {}
        for device, chain in chains.items():
            try:
                on[device] = self._begin(device, chain, artifact, model)
            except ValueError as error:
                failed[device] = str(error)
        if not on:
            raise ValueError("; ".join(dict.fromkeys(failed.values())))
        return on, failed

    def _begin(self, device: str, chain: Chain, artifact: Artifact, model: Model) -> _OnDevice:
        """With the best of its providers that start with this artifact. ValueError with a sentence
        if none does, or on the processor not even ONNX Runtime's own."""
        left = list(self._prepared(chain, artifact, model))
        lacking = [short(name) for name, _ in chain if name not in dict(left)]
        reason = "none of its providers starts"
        while left or device == CPU:
            try:
                session = begin(artifact, left, threads=self._threads_each)
            except NoRoom as error:
                if device == CPU:
                    raise
                text = f"not enough memory on {device}; the artifact has {told(artifact.size)}"
                raise NoRoom(text) from error
            except ValueError as error:
                if not left:
                    raise
                reason = str(error)
                lacking.append(short(left.pop(0)[0]))
                continue
            started = [name for name, _ in left if name in session.get_providers()]
            lacking += [short(name) for name, _ in left if name not in started]
            if not started and device != CPU:
                break
            if lacking:
                log.warning(
                    "providers did not start, falling back",
                    missing=lacking,
                    using=session.get_providers(),
                    model=model.name,
                    artifact=artifact.path,
                    device=device,
                    reason=reason,
                )
            if self._engines is not None and TensorRT.onnx_name in started:
                self._engines.tidy()
            first = started[0] if started else ON_PROCESSOR
            placed = Placed(device, short(first), artifact.size, tuple(lacking))
            return _OnDevice(session, placed, first, self._memory.get(first), model.max_batch_size)
        raise ValueError(reason)

    def _prepared(self, chain: Chain, artifact: Artifact, model: Model) -> Chain:
        """With the options that depend on the artifact."""
        found = []
        for name, options in chain:
            if name == TensorRT.onnx_name:
                try:
                    more = shapes(inspect(artifact), model.max_batch_size)
                except ValueError as error:
                    log.warning("TensorRT is left out", model=model.name, reason=str(error))
                    continue
                kept = self._engines.options(artifact.sha256()) if self._engines else {}
                options = {**options, **more, **kept}
            found.append((name, options))
        return found

    def _with_missing(self, placed: Sequence[Placed]) -> Sequence[Placed]:
        """With what no variant can have, too."""
        by_device = {each.device: each for each in placed}
        for name, device in self._missing:
            known = by_device.setdefault(device, Placed(device))
            by_device[device] = replace(known, lacking=(*known.lacking, name))
        return tuple(by_device.values())

    def unload(self, model: Model, variant: Variant) -> None:
        self._loaded.pop(key(model, variant), None)

    def unload_from(self, model: Model, variant: Variant, device: str) -> None:
        self._loaded.drop(key(model, variant), device)

    def placed(self, model: Model, variant: Variant) -> Sequence[Placed]:
        loaded = self._loaded.get(key(model, variant))
        if loaded is None:
            return ()
        return self._with_missing(
            [
                *(replace(on.placed, size=on.placed.size + on.bound) for on in loaded.on.values()),
                *(Placed(device, lacking=_told(self._chains[device])) for device in loaded.failed),
            ]
        )

    async def run(
        self,
        worker: Worker,
        model: Model,
        variant: Variant,
        inputs: Tensors,
        within: float = math.inf,
    ) -> Tensors:
        on = self._on(model, variant, worker.device)
        outputs: Tensors = await self._threads.submit(worker, on.run, inputs)
        return outputs

    def run_here(self, model: Model, variant: Variant, inputs: Tensors) -> Tensors:
        here = CPU if CPU in self._chains else next(iter(self._chains))
        return self._on(model, variant, here).run(inputs)

    def _on(self, model: Model, variant: Variant, device: str) -> _OnDevice:
        loaded = self._loaded.get(key(model, variant))
        on = loaded.on.get(device) if loaded is not None else None
        if on is None:
            raise not_loaded(model, variant)
        return on

    async def replace(self, worker: Worker) -> None:
        self._threads.replace(worker)

    @property
    def stuck(self) -> int:
        return self._threads.stuck

    def close(self) -> None:
        self._threads.close()
        self._loaded.clear()


class _OnDevice:
    """A variant on one device. `memory` is the kind of the device's memory in which tensors are
    bound, None where ONNX Runtime takes them from the processor's."""

    def __init__(
        self, session: Any, placed: Placed, provider: str, memory: str | None, most: int
    ) -> None:
        self.placed = placed
        self._names = [output.name for output in session.get_outputs()]
        self._signature = signature = signature_of(session)
        halves = any(s.datatype == "BF16" for s in (*signature.inputs, *signature.outputs))
        self._session = Bfloat16Session(session, signature) if halves else session
        self._memory = None if halves else memory
        self._most = most
        digits = "".join(each for each in placed.device if each.isdigit())
        self._number = int(digits or 0)
        # By thread and rows: each worker has its own, and goes its own way.
        self._bound: dict[tuple[int, int], Bound] = {}
        # DirectML's sessions must not be run by two threads at a time (its documentation says).
        self._alone = threading.Lock() if provider == DirectML.onnx_name else None

    @property
    def bound(self) -> int:
        """Bytes of the tensors that are bound."""
        return sum(each.size for each in list(self._bound.values()))

    def run(self, inputs: Tensors) -> dict[str, Array]:
        if self._memory is not None:
            return self._places(len(next(iter(inputs.values())))).run(inputs)
        if self._alone is None:
            return self._run(inputs)
        with self._alone:
            return self._run(inputs)

    def _run(self, inputs: Tensors) -> dict[str, Array]:
        outputs = self._session.run(self._names, inputs)
        return dict(zip(self._names, outputs, strict=True))

    def _places(self, rows: int) -> Bound:
        assert self._memory is not None
        wanted = plan(self._signature, rows, self._most)
        owner = threading.get_ident(), wanted.rows
        bound = self._bound.get(owner)
        if bound is None:
            bound = Bound(self._session, wanted, self._memory, self._number)
            self._bound[owner] = bound
        return bound


def _told(chain: Chain) -> Sequence[str]:
    return tuple(short(name) for name, _ in chain) or (CPU,)


def _identity(device: str, chain: Chain, gpu: Gpu | None) -> str:
    if device == CPU and not chain:
        return ON_PROCESSOR
    ways = [
        " ".join([name, *(f"{option}={value}" for option, value in sorted(options.items()))])
        for name, options in chain
    ]
    which = f" ({gpu.name}, {told(gpu.memory)})" if gpu is not None else ""
    return f"{device}{which}: {', '.join(ways)};"
