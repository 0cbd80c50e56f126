"""Where TensorRT keeps what it has compiled: `<state dir>/engines/<hardware>/<artifact>/`.

An engine takes minutes to compile, and is true for one artifact, one kind of GPU and one version of
TensorRT and ONNX Runtime (onnxruntime.ai, "TensorRT Execution Provider", caching). It is code for
the GPU, and what reads it trusts it: so nothing is read from a folder that anybody else may write.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from gearshift.core.catalog import Signature, TensorSpec

log = structlog.get_logger(__name__)

TIMINGS = "timings"
"""The folder of the timing cache, which all artifacts share."""

LIBRARIES = ("libnvinfer.so.11", "libnvinfer.so.10", "libnvinfer.so")
ANYBODY = stat.S_IWGRP | stat.S_IWOTH


class Engines:
    """`hardware` says what the engines are true for; `most` bytes are kept at the most."""

    def __init__(self, root: Path, hardware: str, most: int) -> None:
        self._root = root
        self._folder = root / hashlib.sha256(hardware.encode()).hexdigest()[:12]
        self._most = most
        self._told = False

    def options(self, artifact: str) -> Mapping[str, str]:
        """TensorRT's, for the artifact of that SHA-256; none where nothing can be kept, or what is
        there is not to be trusted."""
        own, timings = self._folder / artifact, self._folder / TIMINGS
        try:
            for folder in (self._root, self._folder, own, timings):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                _trusted(folder)
            for file in (*own.iterdir(), *timings.iterdir()):
                _trusted(file)
            os.utime(own)
        except (OSError, ValueError) as error:
            if not self._told:
                self._told = True
                log.warning(
                    "engines are not kept, TensorRT compiles at every start", reason=str(error)
                )
            return {}
        return {
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": str(own),
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": str(timings),
        }

    def tidy(self) -> None:
        """Let those go that were not used for longest, until the rest is not more than it may be;
        the newest always stays."""
        with suppress(OSError):
            found = [each for each in self._root.glob("*/*") if each.is_dir()]
            by_age = sorted(found, key=lambda each: each.stat().st_mtime, reverse=True)
            kept = 0
            for place, folder in enumerate(by_age):
                kept += sum(file.stat().st_size for file in folder.iterdir())
                if place and kept > self._most:
                    log.info("engines let go", folder=str(folder))
                    shutil.rmtree(folder, ignore_errors=True)


def _trusted(path: Path) -> None:
    """ValueError if somebody else may have written it."""
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) and not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path} is neither a folder nor a plain file")
    if not hasattr(os, "geteuid"):
        raise ValueError("this system does not say who may write a file")
    if found.st_uid != os.geteuid() or found.st_mode & ANYBODY:
        raise ValueError(
            f"{path} belongs to somebody else, or others may write it; engines are code, so let it"
            " be the server's user's alone (chmod go-w)"
        )


def shapes(signature: Signature, most: int) -> Mapping[str, str]:
    """TensorRT's options for batches of 1 to `most` rows. Without them it compiles anew, at a
    caller's cost, whenever a batch is larger than all before. ValueError for names that it cannot
    be told."""
    for tensor in signature.inputs:
        if not tensor.name or set(tensor.name) & set(":,"):
            raise ValueError(
                f"TensorRT cannot be told the shape of an input called {tensor.name!r}"
            )
    return {
        "trt_profile_min_shapes": _shapes(signature.inputs, 1),
        "trt_profile_opt_shapes": _shapes(signature.inputs, most),
        "trt_profile_max_shapes": _shapes(signature.inputs, most),
    }


def _shapes(tensors: Sequence[TensorSpec], rows: int) -> str:
    return ",".join(f"{each.name}:{'x'.join(map(str, (rows, *each.shape)))}" for each in tensors)


def version() -> str:
    """TensorRT's, empty where it is not to be found out: then engines cannot be kept."""
    for name in LIBRARIES:
        with suppress(OSError, AttributeError):
            return str(ctypes.CDLL(name).getInferLibVersion())
    return ""
