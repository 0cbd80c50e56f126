"""Loading an artifact in a process of its own first, which may crash, hang or swell in its place.

A parser in C++ is the widest door of a server that loads models of others. Here each artifact goes
through it, and through the optimizer, in a child with bounds on memory and time; only what got
through is given to the same code in the serving process. Nothing that a model does as it is loaded
depends on the process, so that what went well there goes well here. No sandbox: the child may do
what its parent may.
"""

from __future__ import annotations

import json
import os
import resource
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import BinaryIO

from gearshift.core.artifact import Artifact
from gearshift.core.catalog import Signature, TensorSpec
from gearshift.executors import onnx, pytorch

ROOM = 2 * 2**30
PROGRAM_ROOM = 8 * 2**30
"""Bytes of address space that the child may have beside what the artifact takes, with ONNX Runtime
and with PyTorch: Python and these themselves reserve most of it."""

COPIES = 6
"""How many times the artifact's bytes come on top: as read, as parsed, as tensors, optimized."""

TIME = 60.0
BYTES_A_SECOND = 4 * 2**20
"""Seconds of processor that loading may take, and so many bytes of artifact for one more."""

PATIENCE = 4.0
"""By the clock it may take so many times as long: others want the processor, too."""

WRITTEN = 4_096
"""Bytes that the child may write into a file: PyTorch tries whether it could."""

LONGEST_ANSWER = 2**20
PROGRAM = ".pt2"
"""How PyTorch's artifacts end; all others are ONNX Runtime's."""
_LENGTH = struct.Struct(">Q")


def inspect_apart(artifact: Artifact) -> Signature:
    """What `inspect` of the executor says whose artifact it is, found out by a child; ValueError
    with a sentence also where that crashes or exceeds its bounds."""
    seconds = TIME + artifact.size / BYTES_A_SECOND
    room = PROGRAM_ROOM if artifact.path.endswith(PROGRAM) else ROOM
    memory = room + COPIES * artifact.size
    head = {
        "path": artifact.path,
        "memory": memory,
        "seconds": round(seconds),
        "beside": list(artifact.beside),
    }
    parts = [json.dumps(head).encode(), artifact.content, *artifact.beside.values()]
    try:
        ended = subprocess.run(
            [sys.executable, "-m", __name__],
            input=b"".join(_LENGTH.pack(len(part)) + part for part in parts),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds * PATIENCE,
            check=False,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
    except subprocess.TimeoutExpired:
        raise ValueError(
            f"loading it takes more than {seconds * PATIENCE:.0f} s; it was tried in a process of"
            " its own, which was ended"
        ) from None
    except OSError as error:
        raise ValueError(f"it cannot be tried in a process of its own: {error}") from None
    if ended.returncode:
        raise ValueError(
            f"loading it ended the process in which it was tried ({_end(ended.returncode)}): it"
            f" crashes its runtime, or needs more than {memory} bytes or {seconds:.0f} s of"
            " processor"
        )
    return _answer(ended.stdout)


def _end(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit {code}"


def _answer(told: bytes) -> Signature:
    """A child that was taken over may say anything."""
    try:
        if len(told) > LONGEST_ANSWER:
            raise ValueError("too long")
        said = json.loads(told)
        if "refused" in said:
            raise Refused(str(said["refused"]))
        return Signature(_specs(said["inputs"]), _specs(said["outputs"]))
    except Refused as error:
        raise ValueError(str(error)) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(
            "the process in which it was tried did not say what it takes and gives"
        ) from None


class Refused(Exception):
    """The child says why it cannot be served."""


def _specs(told: Sequence[dict[str, object]]) -> tuple[TensorSpec, ...]:
    found = []
    for each in told:
        shape = each["shape"]
        if not isinstance(shape, list) or not all(isinstance(size, int) for size in shape):
            raise TypeError("a shape is a list of whole numbers")
        found.append(TensorSpec(str(each["name"]), str(each["datatype"]), tuple(shape)))
    return tuple(found)


def main() -> None:
    """The child's side: an artifact comes in, a line of JSON goes out."""
    stream = sys.stdin.buffer
    head = json.loads(_part(stream))
    for bound, most in (
        (resource.RLIMIT_AS, head["memory"]),
        (resource.RLIMIT_CPU, head["seconds"]),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, WRITTEN),
    ):
        with suppress(ValueError, OSError):  # A lower bound stands already.
            resource.setrlimit(bound, (most, most))
    content = _part(stream)
    artifact = Artifact(head["path"], content, {name: _part(stream) for name in head["beside"]})
    try:
        rehearse = pytorch.rehearse if artifact.path.endswith(PROGRAM) else onnx.rehearse
        signature = rehearse(artifact)
    except ValueError as error:
        told: dict[str, object] = {"refused": str(error)}
    else:
        told = asdict(signature)
    sys.stdout.write(json.dumps(told))


def _part(stream: BinaryIO) -> bytes:
    (length,) = _LENGTH.unpack(stream.read(_LENGTH.size))
    return stream.read(length)


if __name__ == "__main__":
    main()
