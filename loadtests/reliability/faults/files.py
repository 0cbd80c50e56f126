"""Files and the system beneath a server: state, quotas, limits of the kernel, signals."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from loadtests.reliability.faults.executors import started_again
from loadtests.reliability.faults.fault import Act, Fault, Group
from loadtests.reliability.faults.scene import Scene

QUOTAS = "quotas.toml"
PLENTY = "[default]\nrows_per_second = 100000\n"
LITTLE = "[default]\nrows_per_second = 1\nburst = 1\n"
FEEDBACK = "feedback.sqlite3"
READ_WITHIN = 10.0


class FilesScene(Scene):
    """With quotas that nobody reaches, and a feedback database."""

    def prepare(self) -> tuple[str, ...]:
        (self.folder / QUOTAS).write_text(PLENTY)
        return "--set", f"quotas={self.folder / QUOTAS}"


def limited(kind: int, amount: Callable[[Scene], int]) -> tuple[Act, Act]:
    """A limit of the kernel on the running server, and its end."""
    before: list[tuple[int, int]] = []

    def tighten(scene: Scene) -> str:
        before.append(resource.prlimit(scene.pid, kind))
        resource.prlimit(scene.pid, kind, (amount(scene), before[-1][1]))
        return ""

    def loosen(scene: Scene) -> str:
        resource.prlimit(scene.pid, kind, before.pop())
        return recording(scene)

    return tighten, loosen


def recording(scene: Scene) -> str:
    """Wait until answers are written again."""
    deadline = time.monotonic() + READ_WITHIN
    while any(
        value for name, value in scene.metrics().items() if "gearshift_feedback_failing" in name
    ):
        if time.monotonic() > deadline:
            raise RuntimeError(f"answers are not recorded again after {READ_WITHIN:g} s")
        time.sleep(0.1)
    return "answers are recorded"


def descriptors(scene: Scene) -> int:
    """As many as it has: no more can be opened."""
    return len(os.listdir(f"/proc/{scene.pid}/fd"))


def database(scene: Scene, spoil: Callable[[Path], object]) -> str:
    since = scene.log.stat().st_size
    spoil(scene.state / FEEDBACK)
    with suppress(RuntimeError):
        return scene.said("feedback", since)
    return ""


def noise(path: Path) -> None:
    """Over what is there, as a disk that writes to the wrong place."""
    with path.open("r+b") as file:
        file.write(os.urandom(path.stat().st_size))


def no_state(scene: Scene) -> str:
    shutil.rmtree(scene.state)
    return ""


def state_is_a_file(scene: Scene) -> str:
    scene.state.rename(scene.folder / "state-aside")
    scene.state.write_text("")
    return ""


def state_back(scene: Scene) -> str:
    scene.state.unlink()
    (scene.folder / "state-aside").rename(scene.state)
    return recording(scene)


def quotas(text: str, words: str) -> Act:
    def act(scene: Scene) -> str:
        since = scene.log.stat().st_size
        made = scene.folder / f".{QUOTAS}"
        made.write_text(text)
        made.rename(scene.folder / QUOTAS)
        return scene.said(words, since)

    return act


def no_quotas(scene: Scene) -> str:
    since = scene.log.stat().st_size
    (scene.folder / QUOTAS).unlink()
    return scene.said("quotas stay as they were", since)


def frozen(number: signal.Signals) -> Act:
    return lambda scene: scene.signal(number)


def twice(scene: Scene) -> str:
    scene.signal(signal.SIGTERM)
    time.sleep(0.05)
    with suppress(ProcessLookupError):
        scene.signal(signal.SIGTERM)
    return ""


def no_files(scene: Scene) -> str:
    """And who comes now is not served, as soon as what was being closed has been taken again."""
    NO_MORE(scene)
    host, port = scene.http.split(":")
    with ExitStack() as there:
        for _ in range(CLOSING):
            taken = there.enter_context(socket.create_connection((host, int(port)), 1.0))
            taken.sendall(b"GET /healthz HTTP/1.1\r\nHost: gearshift\r\n\r\n")
            try:
                taken.recv(1)
            except OSError as error:
                return f"a scraper that comes now: {error}"
    raise RuntimeError(f"{CLOSING} connections were taken though no file could be opened")


CLOSING = 5
"""Connections that may have been on their way out when the files were counted."""


FULL, NOT_FULL = limited(resource.RLIMIT_FSIZE, lambda scene: 0)
NO_MORE, FILES = limited(resource.RLIMIT_NOFILE, descriptors)
QUOTAS_BACK = quotas(PLENTY, "quotas read anew")

FAULTS = (
    Fault(
        name="no byte can be written (RLIMIT_FSIZE 0, as on a full disk)",
        strike=FULL,
        mend=NOT_FULL,
    ),
    Fault(
        name="no file and no connection can be opened (RLIMIT_NOFILE)", strike=no_files, mend=FILES
    ),
    Fault(name="the state dir is removed", strike=no_state, mend=recording),
    Fault(name="the state dir is a file", strike=state_is_a_file, mend=state_back),
    Fault(
        name="the feedback database is truncated",
        strike=lambda scene: database(scene, lambda path: os.truncate(path, 0)),
        mend=recording,
    ),
    Fault(
        name="the feedback database is overwritten with noise",
        strike=lambda scene: database(scene, noise),
        mend=recording,
    ),
    Fault(
        name="the feedback database is deleted",
        strike=lambda scene: database(scene, Path.unlink),
        mend=recording,
    ),
    Fault(
        name="the quotas file is broken",
        strike=quotas("[default\n", "quotas stay as they were"),
        mend=QUOTAS_BACK,
    ),
    Fault(name="the quotas file is removed", strike=no_quotas, mend=QUOTAS_BACK),
    Fault(
        name="a quota of one row a second for all",
        strike=quotas(LITTLE, "quotas read anew"),
        mend=QUOTAS_BACK,
        counted="gearshift_quota_refused_total",
    ),
    Fault(
        name="the server is frozen for 2 s (SIGSTOP, SIGCONT)",
        strike=frozen(signal.SIGSTOP),
        mend=frozen(signal.SIGCONT),
    ),
    Fault(
        name="the server is frozen ten times for 100 ms",
        strike=lambda scene: "".join(_blinks(scene)),
        seconds=0.0,
    ),
    started_again("SIGTERM under load, then started again", frozen(signal.SIGTERM)),
    started_again("SIGTERM twice, then started again", twice),
    started_again("killed (SIGKILL), then started again", frozen(signal.SIGKILL)),
)


def _blinks(scene: Scene) -> list[str]:
    told = []
    for _ in range(10):
        told.append(scene.signal(signal.SIGSTOP))
        time.sleep(0.1)
        told.append(scene.signal(signal.SIGCONT))
        time.sleep(0.1)
    return told


GROUPS = (Group("files and signals", FilesScene, FAULTS),)
