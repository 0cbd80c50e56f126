"""NVIDIA's perf_analyzer as it stands: from tritonclient's wheel, with Debian's libb64."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from loadtests.peers.peer import Absent, Place, install

NAME = "perf_analyzer"
LIBRARY = "libb64-0d"
ENDED_WITHIN = 300.0

RUNS: Mapping[str, tuple[str, ...]] = {
    "gRPC": ("-i", "grpc"),
    "gRPC, `--streaming --async`": ("-i", "grpc", "--streaming", "--async"),
    "gRPC, `--shared-memory system`": ("-i", "grpc", "--shared-memory", "system"),
    "gRPC, `--request-parameter`": ("-i", "grpc", "--request-parameter", "variant:tiny:string"),
    "gRPC, `--trace-level OFF --trace-rate 5`": (
        *("-i", "grpc", "--trace-level", "OFF", "--trace-rate", "5"),
    ),
    "HTTP": ("-i", "http"),
    "HTTP, `--async`": ("-i", "http", "--async"),
    "HTTP, `--shared-memory system`": ("-i", "http", "--shared-memory", "system"),
}
"""What it is told beside the model and the address."""


def prepare(place: Place) -> Path:
    """The program, ready to run. Absent if something of it cannot be had."""
    install(place, NAME)
    debian = place.folder / NAME / "debian"
    if not debian.exists():
        debian.mkdir()
        fetched = subprocess.run(
            ("apt-get", "download", "-qq", LIBRARY), cwd=debian, check=False, capture_output=True
        )
        packages = sorted(debian.glob("*.deb"))
        if not packages:
            debian.rmdir()
            raise Absent(f"{LIBRARY} cannot be fetched: {fetched.stderr.decode()[:200]}")
        subprocess.run(("dpkg-deb", "-x", str(packages[0]), str(debian)), check=True)
    return place.folder / NAME / "bin" / NAME


def libraries(program: Path) -> Mapping[str, str]:
    """What the environment must say for it to find its libraries."""
    home = program.parents[1]
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = home / "lib" / version / "site-packages"
    found = [
        *home.glob("debian/usr/lib/*-linux-gnu"),
        site / "nvidia" / "cuda_runtime" / "lib",
    ]
    return {"LD_LIBRARY_PATH": os.pathsep.join(map(str, found))}


def run(program: Path, options: tuple[str, ...], addresses: Mapping[str, str]) -> str:
    """Twenty requests; what became of it in a few words."""
    done = subprocess.run(
        (
            *(str(program), "-m", "garment", "-u", addresses[options[1]]),
            *("--request-count", "20", "-s", "999", *options),
        ),
        env=os.environ | libraries(program),
        capture_output=True,
        text=True,
        timeout=ENDED_WITHIN,
        check=False,
    )
    if done.returncode == 0 and "throughput:" in done.stdout:
        return "ran to its end"
    told = [line for line in (done.stdout + done.stderr).splitlines() if "rror" in line]
    return f"failed: {(told or ['it said nothing'])[0][:200]}"
