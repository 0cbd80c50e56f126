"""Which signal ends a server, and how, also as process 1 of a container."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

LOADING = """
import os, signal, time
from gearshift.app.signals import end_at_once
{pid}
end_at_once(signal.SIGTERM)
print("loading", flush=True)
time.sleep(30)
"""
STARTING = """
import asyncio, os, sys
from gearshift.app import server
from gearshift.cli.commands import app
{pid}
async def serve(settings, on_progress, announce):
    print("loading", flush=True)
    await asyncio.sleep(30)
server.serve = serve
app(["serve"])
"""
DRAINING = """
import asyncio, os, signal, uvloop
from gearshift.app.signals import stop_on_signal
{pid}
async def serve():
    stop = stop_on_signal()
    print("serving", flush=True)
    await stop.wait()
    print("draining", flush=True)
    await asyncio.sleep(30)
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(serve())
"""
# The kernel ends whoever has not asked for a signal; of process 1 the program must do it.
BY_KERNEL, FIRST_OF_ALL = "", "os.getpid = lambda: 1"
TERM, INT = signal.SIGTERM, signal.SIGINT


@pytest.mark.parametrize(
    ("script", "lines", "pid", "number"),
    [
        (LOADING, 1, BY_KERNEL, TERM),
        (LOADING, 1, FIRST_OF_ALL, TERM),
        (STARTING, 1, BY_KERNEL, INT),
        (STARTING, 1, FIRST_OF_ALL, TERM),
        (DRAINING, 2, BY_KERNEL, TERM),
        (DRAINING, 2, BY_KERNEL, INT),
        (DRAINING, 2, FIRST_OF_ALL, TERM),
    ],
)
def test_a_signal_that_ends_at_once(script, lines, pid, number):
    expected = -number if pid == BY_KERNEL else 128 + number
    with subprocess.Popen(
        [sys.executable, "-c", script.format(pid=pid)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            for _ in range(lines):
                assert process.stdout.readline()
                process.send_signal(number)
            assert process.wait(20) == expected
        finally:
            process.kill()
