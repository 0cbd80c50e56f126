"""What does not fit into memory is an ordinary failure that says so, at a load and at a run."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gearshift.executors.memory import MIB, check_room, own_memory, room
from onnx_models import row_sum, wide_inside


def written(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def system(tmp_path: Path) -> tuple[Path, Path]:
    meminfo = tmp_path / "meminfo"
    written(meminfo, "MemTotal: 4096 kB\nMemAvailable: 2048 kB\n")
    return tmp_path / "cgroup", meminfo


def test_room_is_what_the_machine_has_left(system):
    assert room(*system) == 2 * MIB


def test_room_is_what_the_containers_limit_leaves(system):
    cgroup, meminfo = system
    written(cgroup / "memory.max", f"{3 * MIB}\n")
    written(cgroup / "memory.current", f"{int(2.5 * MIB)}\n")
    assert room(cgroup, meminfo) == MIB // 2
    # What was read from files lately is given up when it is needed.
    written(cgroup / "memory.stat", f"anon 1\nactive_file 7\ninactive_file {MIB}\n")
    assert room(cgroup, meminfo) == 1.5 * MIB
    written(cgroup / "memory.max", "max\n")
    assert room(cgroup, meminfo) == 2 * MIB


def test_room_under_the_first_version_of_control_groups(system):
    cgroup, meminfo = system
    written(cgroup / "memory" / "memory.limit_in_bytes", f"{MIB}\n")
    written(cgroup / "memory" / "memory.usage_in_bytes", f"{MIB * 3 // 4}\n")
    written(cgroup / "memory" / "memory.stat", "inactive_file 99\ntotal_inactive_file 1024\n")
    assert room(cgroup, meminfo) == MIB // 4 + 1024


def test_a_system_that_tells_nothing_limits_nothing(tmp_path):
    assert room(tmp_path / "none", tmp_path / "nothing") == math.inf
    assert own_memory() > 0


def test_what_cannot_fit_is_refused_with_both_figures(monkeypatch):
    monkeypatch.setattr("gearshift.executors.memory.room", lambda: 100.0 * MIB)
    check_room(100 * MIB)
    with pytest.raises(ValueError, match="the artifact has 101 MiB, and 100 MiB are free"):
        check_room(101 * MIB)
    with pytest.raises(ValueError, match="has 60 MiB for each of 2 worker processes, and 100"):
        check_room(60 * MIB, copies=2)


LIMITED = """
import asyncio, resource, sys
from dataclasses import replace
import numpy as np
from builders import make_model
from gearshift.executors.memory import MIB, STATM
from gearshift.executors.onnx import OnnxExecutor
from gearshift.ports import Worker

small, large, wide = sys.argv[1:]
executor, model, worker = OnnxExecutor(["CPUExecutionProvider"]), make_model(), Worker(0, "cpu")

def variant(name, artifact, size=0):
    return replace(model.variants[0], name=name, artifact=artifact, artifact_bytes=size)

async def run(each, rows):
    inputs = {"x": np.ones((rows, 3), np.float32)}
    return float((await executor.run(worker, model, each, inputs))["y"][-1, 0])

async def main():
    kept, heavy = variant("kept", small), variant("heavy", wide)
    executor.load(model, kept)
    executor.load(model, heavy)
    print(await run(kept, 1), await run(heavy, 1))
    pages = int(STATM.read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + 50 * MIB, resource.RLIM_INFINITY))
    for size in (400 * MIB, 0):  # as its folder says, and as if that did not say it
        try:
            executor.load(model, variant("large", large, size))
        except ValueError as error:
            print(error)
    try:
        await run(heavy, 2_000)
    except Exception as error:
        print(type(error).__name__)
    print(await run(kept, 1), await run(heavy, 1))

asyncio.run(main())
"""


def test_loads_and_runs_beyond_the_limit_fail_alone(tmp_path):
    artifacts = (
        row_sum(tmp_path / "small.onnx"),
        wide_inside(tmp_path / "large.onnx", 6 * MIB),
        wide_inside(tmp_path / "wide.onnx", MIB // 4),
    )
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *map(str, artifacts)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    before, by_size, by_trying, run, after = done.stdout.splitlines()
    assert before == after == "3.0 3.0"
    assert by_size.startswith("not enough memory: the artifact has 400 MiB, and ")
    assert by_trying.startswith("not enough memory to load it: ")
    assert run in ("RuntimeException", "Fail", "MemoryError")
