"""The ONNX Runtime executor: one session per variant, one thread per worker.

A session runs concurrently from several threads, so workers share it and memory does not
grow with them. Each run uses one thread: with as many workers as cores, batches run side
by side instead of fighting over the same cores. Short runs are made at once, on the event
loop's own thread: to hand them over would take longer. What a run needs on its way comes from
one arena for all sessions: it grows with what runs at the same time, not with what is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import onnxruntime as ort
import structlog

from gearshift.artifacts import read_again
from gearshift.core.artifact import Artifact
from gearshift.core.catalog import Model, Signature, TensorSpec, Variant
from gearshift.executors.bfloat16 import Bfloat16Session
from gearshift.executors.key import Key, key, not_loaded
from gearshift.executors.memory import check_room, room, told
from gearshift.executors.thread import WorkerThreads
from gearshift.ports import Tensors, Worker

log = structlog.get_logger(__name__)

DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(bfloat16)": "BF16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
}
"""ONNX Runtime's type names and the Open Inference Protocol's datatypes."""

DEVICES = {
    "TensorrtExecutionProvider": "gpu",
    "CUDAExecutionProvider": "gpu",
    "CPUExecutionProvider": "cpu",
}
CPU = ("CPUExecutionProvider",)
ERRORS_ONLY = 3
EXACT_INT8 = ("session.x64quantprecision", "1")
"""x86 processors without VNNI add products of int8 in 16 bits, which overflow: the same file is
then another model, up to seven points worse than its card. With this entry ONNX Runtime turns
the weights to uint8 there, whose sums are exact; on processors with VNNI it changes nothing."""
SHARED_ARENA = ("session.use_env_allocators", "1")


class OnnxExecutor:
    """Runs `model.onnx` artifacts on the first available of the wanted providers."""

    def __init__(self, providers: Sequence[str] = (), run_bytes: int = 0) -> None:
        """`providers` in order of preference; empty means the best that is installed. `run_bytes`
        bounds what runs take on their way, all together and of the whole process, where it is not
        0: a run that needs more fails.

        One that is wanted but not installed is left out with one line in the log: a server
        without its GPU still serves, and says so.
        """
        available = ort.get_available_providers()
        wanted = list(providers) or [name for name in DEVICES if name in available]
        self._providers = [name for name in wanted if name in available]
        missing = [name for name in wanted if name not in available]
        if "CPUExecutionProvider" not in self._providers:
            self._providers.append("CPUExecutionProvider")
        if missing:
            log.warning(
                "providers are not installed, falling back",
                missing=missing,
                using=self._providers,
            )
        _register_arena(run_bytes)
        self._sessions: dict[Key, tuple[Any, list[str]]] = {}
        self._threads = WorkerThreads()

    @property
    def devices(self) -> tuple[str, ...]:
        return (DEVICES.get(self._providers[0], self._providers[0]),)

    @property
    def identity(self) -> str:
        return f"onnxruntime {ort.__version__} {' '.join(self._providers)}"

    @property
    def runs_here(self) -> bool:
        return True

    def inspect(self, artifact: Artifact) -> Signature:
        """The signature of an ONNX file; ValueError if it does not load or cannot be served."""
        return _signature(_session(artifact, CPU, optimize=False))

    def load(self, model: Model, variant: Variant) -> None:
        check_room(variant.artifact_bytes)
        try:
            artifact = read_again(variant)
        except MemoryError as error:
            raise ValueError(_no_room(variant.artifact_bytes)) from error
        session = _session(artifact, self._providers, optimize=True)
        if session.get_providers()[0] != self._providers[0]:
            log.warning(
                "provider did not start, falling back",
                wanted=self._providers[0],
                using=session.get_providers(),
                model=model.name,
                variant=variant.name,
            )
        names = [output.name for output in session.get_outputs()]
        tensors = (*model.signature.inputs, *model.signature.outputs)
        if any(spec.datatype == "BF16" for spec in tensors):
            session = Bfloat16Session(session, model.signature)
        self._sessions[key(model, variant)] = (session, names)

    def unload(self, model: Model, variant: Variant) -> None:
        self._sessions.pop(key(model, variant), None)

    async def run(
        self,
        worker: Worker,
        model: Model,
        variant: Variant,
        inputs: Tensors,
        within: float = math.inf,
    ) -> Tensors:
        session, names = self._loaded(model, variant)
        outputs = await self._threads.submit(worker, session.run, names, inputs)
        return dict(zip(names, outputs, strict=True))

    def run_here(self, model: Model, variant: Variant, inputs: Tensors) -> Tensors:
        session, names = self._loaded(model, variant)
        return dict(zip(names, session.run(names, inputs), strict=True))

    def _loaded(self, model: Model, variant: Variant) -> tuple[Any, list[str]]:
        loaded = self._sessions.get(key(model, variant))
        if loaded is None:
            raise not_loaded(model, variant)
        return loaded

    async def replace(self, worker: Worker) -> None:
        self._threads.replace(worker)

    @property
    def stuck(self) -> int:
        return self._threads.stuck

    def close(self) -> None:
        self._threads.close()
        self._sessions.clear()


def rehearse(artifact: Artifact) -> Signature:
    """Inspect an artifact and load it, all that a serving process does with it on a processor but
    for running it. ValueError as for `inspect`."""
    _register_arena(0)
    signature = _signature(_session(artifact, CPU, optimize=False))
    _session(artifact, CPU, optimize=True)
    return signature


@cache
def _register_arena(most: int) -> None:
    """The one arena of this process for the sessions with SHARED_ARENA, of at most so many bytes
    where that is not 0."""
    place = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    ort.create_and_register_allocator(place, ort.OrtArenaCfg({"max_mem": most} if most else {}))


def _session(artifact: Artifact, providers: Sequence[str], *, optimize: bool) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry(*EXACT_INT8)
    options.add_session_config_entry(*SHARED_ARENA)
    # A plan of the memory for every number of rows would be kept, and not make a run faster.
    options.enable_mem_pattern = False
    options.log_severity_level = ERRORS_ONLY
    options.graph_optimization_level = (
        ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        if optimize
        else ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    )
    if artifact.beside:
        if not hasattr(options, "add_external_initializers_from_files_in_memory"):
            raise ValueError(
                "it has weights in files beside it, which this ONNX Runtime cannot take from"
                f" memory ({ort.__version__}); install a newer one, or put them into the model"
            )
        # By the names that the model calls them: no path is opened for it.
        options.add_external_initializers_from_files_in_memory(
            list(artifact.beside),
            list(artifact.beside.values()),
            [len(content) for content in artifact.beside.values()],
        )
    try:
        session = ort.InferenceSession(artifact.content, options, providers=list(providers))
    except Exception as error:  # ONNX Runtime's errors share no base below Exception
        if isinstance(error, MemoryError) or "bad_alloc" in str(error):
            raise ValueError(_no_room(artifact.size)) from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"ONNX Runtime cannot load it: {reason}") from error
    # It keeps the file beside what it has made of it, for starting anew with other providers, which
    # nobody asks for here: all weights would be in memory twice.
    session._model_bytes = b""
    return session


def _no_room(size: int) -> str:
    return (
        f"not enough memory to load it: {told(room())} were free, and the artifact has"
        f" {told(size)}; unload something, or give the server more"
    )


def _signature(session: Any) -> Signature:
    return Signature(
        inputs=tuple(_spec(tensor, "input") for tensor in session.get_inputs()),
        outputs=tuple(_spec(tensor, "output") for tensor in session.get_outputs()),
    )


def _spec(tensor: Any, role: str) -> TensorSpec:
    datatype = DATATYPES.get(tensor.type)
    if datatype is None:
        raise ValueError(
            f"{role} {tensor.name!r} has type {tensor.type}; served are"
            f" {', '.join(sorted(DATATYPES.values()))}"
        )
    shape = tensor.shape
    if not shape or isinstance(shape[0], int):
        raise ValueError(
            f"{role} {tensor.name!r} has shape {shape}; its first dimension must be a dynamic"
            f" batch dimension (export it with a dynamic axis 0)"
        )
    for index, size in enumerate(shape[1:], start=1):
        if not isinstance(size, int):
            raise ValueError(
                f"{role} {tensor.name!r} has shape {shape}; dimension {index} must be a fixed"
                f" number (only the batch dimension may vary)"
            )
    return TensorSpec(tensor.name, datatype, tuple(shape[1:]))
