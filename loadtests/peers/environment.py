"""What a figure depends on besides the code: the machine and the versions."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import onnxruntime
from loadtests.peers.peer import ROOT

TELLING_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_int8",
    "amx_bf16",
)
"""What ONNX Runtime's kernels choose by."""


def environment() -> dict[str, str]:
    cpu = cpu_of(Path("/proc/cpuinfo").read_text())
    flags = cpu.get("flags", "").split()
    return {
        "cpu": cpu.get("model name", platform.machine()).strip(),
        "flags": " ".join(flag for flag in TELLING_FLAGS if flag in flags) or "none of note",
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        # By itself and not by its package, of which there is one for each kind of hardware.
        "onnxruntime": onnxruntime.__version__,
        "grpcio": version("grpcio"),
        "gearshift": revision(),
    }


def cpu_of(text: str) -> Mapping[str, str]:
    """The first processor of /proc/cpuinfo."""
    lines = text.split("\n\n", 1)[0].splitlines()
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _, value in pairs}


def revision() -> str:
    """The commit that was measured, and whether the tree had changes beside it."""
    done = subprocess.run(
        ("git", "describe", "--always", "--dirty"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def described(told: Mapping[str, str]) -> str:
    return (
        f"{told['cores']} cores of {told['cpu']} ({told['flags']}), {told['memory']},"
        f" {told['system']}, Python {told['python']}, onnxruntime {told['onnxruntime']} in every"
        f" server, grpcio {told['grpcio']}, gearshift at {told['gearshift']}"
    )


def stolen() -> tuple[int, int]:
    """What the host has given to others, and all time, in ticks since the start."""
    ticks = [int(part) for part in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return ticks[7], sum(ticks)


def stolen_since(lost: int, whole: int) -> str:
    now_lost, now_whole = stolen()
    return f"{100 * (now_lost - lost) / max(now_whole - whole, 1):.1f} %"


def command_line(module: str) -> str:
    return " ".join(("python -m", module, *sys.argv[1:]))
