"""Worker threads: one call after the other, and one that hangs is left to itself."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import weakref
from dataclasses import replace

import numpy as np
import pytest

from builders import make_model
from gearshift.executors.onnx import OnnxExecutor
from gearshift.executors.thread import BEHIND, WorkerThread, WorkerThreads
from gearshift.ports import Worker
from onnx_models import row_sum

SOON = 20.0


async def test_results_and_errors_come_to_the_loop():
    thread = WorkerThread("one", lambda: None)
    assert await thread.submit(lambda a, b: a + b, 1, 2) == 3
    with pytest.raises(ZeroDivisionError):
        await thread.submit(lambda: 1 / 0)
    assert await asyncio.gather(*(thread.submit(lambda n=n: n) for n in range(9))) == [*range(9)]
    thread.close(SOON)
    assert not thread.alive


async def test_what_a_call_needed_is_gone_when_it_is_over():
    """A variant that is unloaded must not live on in a worker that ran it last."""

    class Session:
        def run(self, rows):
            return len(rows)

    gone = threading.Event()
    session = Session()
    weakref.finalize(session, gone.set)
    thread = WorkerThread("test", lambda: None)
    try:
        assert await thread.submit(session.run, [1, 2]) == 2
        del session
        assert await asyncio.to_thread(gone.wait, SOON)
    finally:
        thread.close()


async def test_a_call_that_was_cancelled_before_it_began_is_not_made():
    thread, release, made = WorkerThread("one", lambda: None), threading.Event(), []
    first = thread.submit(release.wait, SOON)
    second = thread.submit(made.append, 1)
    second.cancel()
    release.set()
    await first
    thread.close(SOON)
    assert made == []


async def test_another_thread_takes_the_place_of_one_that_hangs(tmp_path, monkeypatch):
    begun, release = threading.Event(), threading.Event()
    model, worker = make_model(), Worker(0, "cpu")

    class Session:
        def run(self, names, inputs):
            begun.set()
            assert inputs["x"][0] != 666 or release.wait(SOON)
            return [inputs["x"]]

    executor = OnnxExecutor(["CPUExecutionProvider"])
    variant = replace(model.variants[0], artifact=str(row_sum(tmp_path / "model.onnx")))
    executor.load(model, variant)
    (loaded,) = executor._loaded.values()
    monkeypatch.setattr(loaded.on["cpu"], "_session", Session())

    def run(value: int):
        return executor.run(worker, model, variant, {"x": np.array([value])})

    hanging = asyncio.ensure_future(run(666))
    assert await asyncio.to_thread(begun.wait, SOON)
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    await executor.replace(worker)
    assert (await run(1))["y"].tolist() == [1]
    assert executor.stuck == 1
    release.set()
    for _ in range(200):
        if not executor.stuck:
            break
        await asyncio.sleep(0.05)
    assert executor.stuck == 0
    executor.close()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system does not say")
async def test_workers_keep_to_their_processors():
    here = sorted(os.sched_getaffinity(0))
    threads = WorkerThreads([[here[0]], [here[-1]]])

    def kept() -> set[int]:
        return os.sched_getaffinity(0)

    for number in range(3):
        found = await threads.submit(Worker(number, "cpu"), kept)
        assert found == {here[-1] if number % 2 else here[0]}
    assert await threads.submit(Worker(3, "gpu0"), kept) == set(here)
    threads.replace(Worker(0, "cpu"))
    assert await threads.submit(Worker(0, "cpu"), kept) == {here[0]}
    assert os.sched_getaffinity(0) == set(here)
    threads.close()


def test_the_process_ends_though_a_thread_hangs():
    code = (
        "import asyncio, threading;"
        "from gearshift.executors.thread import WorkerThread\n"
        "async def main():\n"
        "    thread = WorkerThread('one', lambda: None)\n"
        "    thread.submit(threading.Event().wait)\n"
        "    thread.leave()\n"
        "asyncio.run(main())"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.skipif(not hasattr(os, "setpriority"), reason="the system has no niceness")
def test_workers_give_way_to_the_loop_however_nice_the_server_is():
    code = (
        "import asyncio, os, threading;"
        "from gearshift.executors.thread import WorkerThreads;"
        "from gearshift.ports import Worker\n"
        "def nice(): return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())\n"
        "async def main():\n"
        "    threads = WorkerThreads()\n"
        "    print(nice(), await threads.submit(Worker(0, 'cpu'), nice))\n"
        "    threads.close()\n"
        "os.nice(7)\n"
        "asyncio.run(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], timeout=60, check=True, capture_output=True, text=True
    )
    loop, worker = map(int, done.stdout.split())
    assert worker == min(19, loop + BEHIND)
