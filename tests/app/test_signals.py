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
ENDS = [("", -signal.SIGTERM), ("os.getpid = lambda: 1", 128 + signal.SIGTERM)]


@pytest.mark.parametrize(("pid", "expected"), ENDS)
@pytest.mark.parametrize(("script", "lines"), [(LOADING, 1), (DRAINING, 2)])
def test_a_signal_that_ends_at_once(script, lines, pid, expected):
    with subprocess.Popen(
        [sys.executable, "-c", script.format(pid=pid)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            for _ in range(lines):
                assert process.stdout.readline()
                process.send_signal(signal.SIGTERM)
            assert process.wait(20) == expected
        finally:
            process.kill()
