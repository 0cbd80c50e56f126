"""What becomes of requests, processes and files when a real server or a worker of it is ended."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from serving import Server

APART = ("--set", "worker_isolation=process")
GONE_WITHIN = 20.0
"""Seconds, generous: machines are busy."""


class Callers:
    """Stock clients that ask without pause, each over a connection of its own."""

    def __init__(self, server: Server, count: int = 6, **parameters: object) -> None:
        self.seen: Counter[str] = Counter()
        self._server, self._parameters = server, parameters
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        rows = triton.InferInput("x", [1, 3], "FP32")
        rows.set_data_from_numpy(np.ones((1, 3), np.float32))
        own = [("grpc.use_local_subchannel_pool", 1)]
        with triton.InferenceServerClient(self._server.grpc, channel_args=own) as client:
            while not self._ending.is_set():
                try:
                    answer = client.infer("sums", [rows], parameters=self._parameters)
                    assert np.allclose(answer.as_numpy("y"), 3.0)
                    self.seen["OK"] += 1
                except InferenceServerException as error:
                    self.seen[str(error.status()).removeprefix("StatusCode.")] += 1
                    time.sleep(0.01)

    def answered(self, more: int) -> None:
        """Return when so many more have been."""
        wanted = self.seen["OK"] + more
        until(lambda: self.seen["OK"] >= wanted)

    def end(self) -> Counter[str]:
        self._ending.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()
        return self.seen


@contextmanager
def calling(server: Server, **parameters: object) -> Iterator[Callers]:
    callers = Callers(server, **parameters)
    try:
        yield callers
    finally:
        callers.end()


def until(done: Callable[[], object], within: float = 120.0) -> None:
    deadline = time.monotonic() + within
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def descendants(pid: int) -> set[int]:
    listed = subprocess.run(
        ["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, timeout=20, check=True
    )
    parents = dict(map(int, line.split()) for line in listed.stdout.splitlines())
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return {each for each in found - {pid} if is_worker(each)}


def is_worker(pid: int) -> bool:
    """Or a serving process; not the `ps` that has just looked."""
    try:
        return "gearshift" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def lost(server: Server, reason: str) -> float:
    return sum(server.samples("gearshift_workers_lost_total", reason=reason).values())


def test_a_worker_process_that_crashes_takes_no_request_with_it(begin) -> None:
    server = begin(*APART)
    with calling(server) as callers:
        callers.answered(20)
        for turn in range(30):
            if lost(server, "crashed") >= 3:
                break
            children = descendants(server.process.pid)
            assert len(children) == 3
            # The first that was started only measures. Of the others, one that runs nothing just
            # then is only replaced.
            os.kill(sorted(children)[1], signal.SIGKILL if turn % 2 else signal.SIGSEGV)
            callers.answered(20)
            until(lambda: len(descendants(server.process.pid)) == 3)
            until(lambda: set(server.samples("gearshift_breaker_state").values()) <= {0.0})
            callers.answered(20)
        assert lost(server, "crashed") >= 3
        seen = callers.end()
    assert set(seen) == {"OK"}, "each had its second chance"
    server.process.terminate()
    assert server.process.wait(GONE_WITHIN) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("options", [(), ("--processes", "2"), APART])
def test_the_first_signal_drains(begin, options: tuple[str, ...], number: int) -> None:
    server = begin(*options)
    with calling(server) as callers:
        callers.answered(10)
        children = descendants(server.process.pid)
        server.process.send_signal(number)
        assert server.process.wait(GONE_WITHIN) == 0
        seen = callers.end()
    assert set(seen) <= {"OK", "UNAVAILABLE"}
    assert not any(Path(f"/proc/{child}").exists() for child in children)


@pytest.mark.parametrize("options", [(), ("--processes", "2"), APART])
def test_the_second_signal_ends_at_once_and_leaves_no_process(begin, options) -> None:
    server = begin(*options)
    children = descendants(server.process.pid)
    assert len(children) == {(): 0, APART: 3}.get(options, 2)
    worker = max(children, default=0)
    with calling(server) as callers:
        callers.answered(10)
        if worker:
            # What hangs keeps the server from ending, and must end with it.
            os.kill(worker, signal.SIGSTOP)
            time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        if options:
            with pytest.raises(subprocess.TimeoutExpired):
                server.process.wait(0.3)
        server.process.send_signal(signal.SIGTERM)
        code = server.process.wait(GONE_WITHIN)
        if worker and options != APART:
            # A serving process hears of the end once it runs; a worker is killed as it is.
            os.kill(worker, signal.SIGCONT)
        callers.end()
    assert code == -signal.SIGTERM or (not options and code == 0)
    until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), GONE_WITHIN)


def test_a_server_that_slept_goes_on_and_has_lost_no_worker(begin) -> None:
    for options in ((), APART):
        server = begin(*options)
        with calling(server, latency_budget_ms=2000) as callers:
            callers.answered(20)
            group = [server.process.pid, *descendants(server.process.pid)]
            for pid in group:
                os.kill(pid, signal.SIGSTOP)
            time.sleep(7.0)
            for pid in group:
                os.kill(pid, signal.SIGCONT)
            callers.answered(50)
            seen = callers.end()
        assert set(seen) <= {"OK", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}
        assert seen["DEADLINE_EXCEEDED"] <= 6, "only what was under way has expired"
        assert lost(server, "hung") == 0
        server.process.terminate()
        assert server.process.wait(GONE_WITHIN) == 0


def test_after_a_kill_the_next_one_starts_from_what_is_whole(begin, tmp_path: Path) -> None:
    own = ("--state-dir", str(tmp_path))
    server = begin(*own)
    with calling(server) as callers:
        callers.answered(50)
        server.process.kill()
        server.process.wait()
        callers.end()
    profiles = list((tmp_path / "profiles").rglob("*.json"))
    assert profiles
    for file in profiles:
        json.loads(file.read_text())
    with closing(sqlite3.connect(tmp_path / "feedback.sqlite3")) as connection:
        assert connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
    # What was cut off is measured anew, and nobody trips over it.
    profiles[0].write_text(profiles[0].read_text()[:40])
    profiles[0].with_name(f".{profiles[0].name}-left").write_text("{")
    again = begin(*own)
    with calling(again) as callers:
        callers.answered(20)
        assert set(callers.end()) == {"OK"}
    json.loads(profiles[0].read_text())
    again.process.terminate()
    assert again.process.wait(GONE_WITHIN) == 0


def failing(server: Server) -> float:
    return server.samples("gearshift_feedback_failing")[("answers",)]


def test_a_full_disk_stops_nothing_and_is_told(begin, place: Path) -> None:
    server = begin("--feedback-url", f"sqlite:///{place / 'full.sqlite3'}")
    with calling(server) as callers:
        callers.answered(10)
        _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, hard))
        until(lambda: failing(server) == 1)
        callers.answered(50)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        until(lambda: failing(server) == 0)
        callers.answered(20)
        assert set(callers.end()) == {"OK"}
    server.process.terminate()
    assert server.process.wait(GONE_WITHIN) == 0
