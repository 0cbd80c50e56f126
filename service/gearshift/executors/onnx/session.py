"""From an artifact to a session of ONNX Runtime, and what that takes and gives."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import onnxruntime as ort

from gearshift.core.artifact import Artifact
from gearshift.core.catalog import Signature, TensorSpec
from gearshift.executors.memory import room, told
from gearshift.executors.providers import ON_PROCESSOR, Chain

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

ERRORS_ONLY = 3
EXACT_INT8 = ("session.x64quantprecision", "1")
"""x86 processors without VNNI add products of int8 in 16 bits, which overflow: the same file is
then another model, up to seven points worse than its card. With this entry ONNX Runtime turns
the weights to uint8 there, whose sums are exact; on processors with VNNI it changes nothing."""
SHARED_ARENA = ("session.use_env_allocators", "1")
NO_SPINNING = ("session.intra_op.allow_spinning", "0")
"""Threads that wait for the next part of a run give up their cores: other workers want them."""

LONGEST_REASON = 500
"""Some providers say a page on one line."""

SMALLEST = (
    b'\x08\x07:9\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x10\n\x01x\x12\x0b\n\t\x08\x01\x12\x05'
    b"\n\x03\x12\x01nb\x10\n\x01y\x12\x0b\n\t\x08\x01\x12\x05\n\x03\x12\x01nB\x04\n\x00\x10\r"
)
"""An ONNX file that gives back what it takes, to try providers with."""


class NoRoom(ValueError):
    """What should hold the model has not enough memory."""


def begin(artifact: Artifact, chain: Chain, *, optimize: bool = True, threads: int = 1) -> Any:
    """A session whose nodes the providers of the chain share, and ONNX Runtime's own takes what is
    left. ValueError with a sentence if it does not start; that a provider did not start may also be
    seen only by its name missing from `get_providers`."""
    options = _options(threads, optimize=optimize)
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
    providers = [(name, dict(given)) for name, given in chain]
    try:
        session = ort.InferenceSession(
            artifact.content,
            options,
            providers=[*providers, (ON_PROCESSOR, {})],
            # Else it would go on by itself without the provider, or change it at a run that fails.
            enable_fallback=0,
        )
    except Exception as error:  # ONNX Runtime's errors share no base below Exception
        if isinstance(error, MemoryError) or _is_memory(str(error)):
            raise NoRoom(no_room(artifact.size)) from error
        reason = str(error).splitlines()[0][:LONGEST_REASON] if str(error) else type(error).__name__
        raise ValueError(f"ONNX Runtime cannot load it: {reason}") from error
    # It keeps the file beside what it has made of it, for starting anew with other providers, which
    # nobody asks for here: all weights would be in memory twice.
    session._model_bytes = b""
    return session


def _options(threads: int, *, optimize: bool) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry(*EXACT_INT8)
    options.add_session_config_entry(*SHARED_ARENA)
    if threads > 1:
        options.add_session_config_entry(*NO_SPINNING)
    # A plan of the memory for every number of rows would be kept, and not make a run faster.
    options.enable_mem_pattern = False
    options.log_severity_level = ERRORS_ONLY
    options.graph_optimization_level = (
        ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        if optimize
        else ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    )
    return options


def _is_memory(reason: str) -> bool:
    """By what ONNX Runtime, CUDA and TensorRT say."""
    said = reason.lower()
    return "bad_alloc" in said or "out of memory" in said or "failed to allocate memory" in said


def no_room(size: int) -> str:
    """What to say where an artifact of so many bytes does not fit."""
    return (
        f"not enough memory to load it: {told(room())} were free, and the artifact has"
        f" {told(size)}; unload something, or give the server more"
    )


def rehearse(artifact: Artifact) -> Signature:
    """Inspect an artifact and load it, all that a serving process does with it on a processor but
    for running it. ValueError as for `inspect`."""
    register_arena(0)
    signature = inspect(artifact)
    begin(artifact, [])
    return signature


@cache
def register_arena(most: int) -> None:
    """The one arena of this process for the sessions with SHARED_ARENA, of at most so many bytes
    where that is not 0."""
    place = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    ort.create_and_register_allocator(place, ort.OrtArenaCfg({"max_mem": most} if most else {}))


def inspect(artifact: Artifact) -> Signature:
    """The signature of an ONNX file; ValueError if it does not load or cannot be served."""
    return signature_of(begin(artifact, [], optimize=False))


def signature_of(session: Any) -> Signature:
    """ValueError with a sentence where that cannot be served."""
    return Signature(
        inputs=tuple(_spec(tensor, "input") for tensor in session.get_inputs()),
        outputs=tuple(_spec(tensor, "output") for tensor in session.get_outputs()),
    )


def starts(chain: Chain) -> Sequence[str]:
    """Which of its providers start on this machine, tried with the smallest of models."""
    found = []
    for name, options in chain:
        try:
            session = begin(Artifact("the smallest", SMALLEST), [(name, options)])
        except ValueError:
            continue
        if name in session.get_providers():
            found.append(name)
    return found


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
