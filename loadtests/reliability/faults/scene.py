"""A real server with all that faults are put into: files, processes, callers' ways in."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import grpc
import tritonclient.grpc as triton
from loadtests.peers.peer import ROOT
from loadtests.peers.processes import Tree, free_port, runs
from loadtests.reliability import hostile, sums_model
from loadtests.reliability.reloads import reload
from tritonclient.utils import InferenceServerException

CHANNEL = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
)
SLOW, QUICK = 60, 25
"""Products of the variants of `sums`: above the millisecond below which runs are on the loop."""

ENDS_WITHIN = 30.0
CALL_WITHIN = 60.0
SAID_WITHIN = 8.0

SERVE = ("-m", "gearshift", "serve")
PLAN = "plan.json"


class Scene:
    """One server on ports of its own, which it keeps when it is started again. Its models are
    `sums`, `other`, which is quicker, those of `hostile`, and copies of `copied`."""

    metadata: Sequence[tuple[str, str]] = ()
    """What callers show with each request."""

    def __init__(
        self,
        *options: str,
        faulty: bool = False,
        environment: Mapping[str, str] | None = None,
        copied: Sequence[Path] = (),
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gearshift-faults-"))
        self.repository = self.folder / "repository"
        sums_model.write(self.repository, "sums", SLOW, QUICK)
        sums_model.write(self.repository, "other")
        hostile.repository(self.repository)
        for folder in copied:
            shutil.copytree(folder, self.repository / folder.name)
        self.state = self.folder / "state"
        self.options = (*options, *self.prepare())
        self.environment = {"GEARSHIFT_WORKERS": "2", **(environment or {})}
        self.ports = free_port(), free_port()
        self.grpc, self.http = (f"127.0.0.1:{port}" for port in self.ports)
        plan = str(self.folder / PLAN)
        faulty_server = ("-m", "loadtests.reliability.faulty_server", plan)
        self._program = faulty_server if faulty else SERVE
        self._starts = 0
        self.start()

    def prepare(self) -> tuple[str, ...]:
        """Before the first start: files beside the repository, and options that name them."""
        return ()

    # --- the process ---------------------------------------------------------------------------

    def start(self) -> None:
        """Returns when it is ready."""
        self._starts += 1
        self.tree = Tree(
            (
                *(sys.executable, *self._program, "--repository", str(self.repository)),
                *("--state-dir", str(self.state), "--grpc-port", str(self.ports[0])),
                *("--http-port", str(self.ports[1]), *self.options),
            ),
            self.log,
            {**self.environment, "PYTHONPATH": os.pathsep.join((str(ROOT / "service"), str(ROOT)))},
        )
        hostile.addresses(self.tree)

    @property
    def pid(self) -> int:
        return self.tree.pid

    def children(self) -> list[int]:
        """Serving or worker processes."""
        return [
            pid
            for pid in self.tree.members()
            if pid != self.pid and "gearshift" in _command(pid) and "tracker" not in _command(pid)
        ]

    def afresh(self) -> None:
        """Between two faults: forget what would hold against the next one's server."""

    def signal(self, number: signal.Signals, pid: int | None = None) -> str:
        """To the server, or to one of its processes."""
        os.kill(self.pid if pid is None else pid, number)
        return ""

    def ended(self) -> str:
        """Wait for the end of all that was started, and start it again; how it ended."""
        self.expect_end()
        self.start()
        return "ended, and was started again"

    def expect_end(self) -> None:
        deadline = time.monotonic() + ENDS_WITHIN
        while self.tree.alive or any(map(runs, self.tree.members())):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the server has not ended after {ENDS_WITHIN:g} s")
            time.sleep(0.02)

    def close(self) -> str:
        """End it; tracebacks of its logs, "" for none."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)
        self.tree.end()
        logs = "".join(log.read_text() for log in sorted(self.folder.glob("server-*.log")))
        shutil.rmtree(self.folder, ignore_errors=True)
        return logs

    # --- ways in -------------------------------------------------------------------------------

    def channel(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(self.grpc, CHANNEL)

    def metrics(self) -> dict[str, float]:
        """Samples by name and labels."""
        return hostile.samples(f"http://{self.http}", **dict(self.metadata))

    @property
    def log(self) -> Path:
        """Of the latest start."""
        return self.folder / f"server-{self._starts}.log"

    def said(self, words: str, since: int) -> str:
        """The first line with these words in the log from the byte `since` on; waited for."""
        deadline = time.monotonic() + SAID_WITHIN
        while time.monotonic() < deadline:
            with self.log.open() as file:
                file.seek(since)
                for line in file:
                    if words in line and line.endswith("\n"):
                        return _plain(line)
            time.sleep(0.05)
        raise RuntimeError(f"the log has no line with {words!r} after {SAID_WITHIN:g} s")

    # --- what is done to it --------------------------------------------------------------------

    def plan(self, *faults: Mapping[str, object]) -> str:
        """What its executors do from now on."""
        made = self.folder / f".{PLAN}"
        made.write_text(json.dumps({"faults": list(faults)}))
        made.rename(self.folder / PLAN)
        return ""

    def load(self, model: str = "sums") -> str:
        """By RepositoryModelLoad: what it said."""
        with triton.InferenceServerClient(self.grpc) as client:
            try:
                client.load_model(model, client_timeout=CALL_WITHIN)
            except InferenceServerException as error:
                return told(error)
        return "OK"

    def load_changed(self, number: int = 0, model: str = "sums") -> str:
        """The same with another comment in its model.toml."""
        toml = self.repository / model / "model.toml"
        with triton.InferenceServerClient(self.grpc) as client:
            try:
                reload(client, toml, sums_model.MODEL, number)
            except InferenceServerException as error:
                return told(error)
        return "OK"


def told(error: InferenceServerException) -> str:
    """Status and the first of the message."""
    status = str(error.status()).removeprefix("StatusCode.")
    return f"{status}: {' '.join((error.message() or '').split())}"


def _command(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def _plain(line: str) -> str:
    """Without its colours and its time."""
    bare = re.sub(r"\x1b\[[0-9;]*m", "", line)
    return " ".join(re.sub(r"^\S*\d\d:\d\d:\d\d\S*", "", bare).split())
