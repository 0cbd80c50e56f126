"""A server's whole process tree: started, weighed and ended. Linux's /proc is what tells."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
LISTEN = "0A"
"""The state in /proc/net/tcp."""


def end_tidily() -> None:
    """SIGTERM becomes an ordinary exit, on whose way the servers are ended."""

    def leave(number: int, frame: object) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Tree:
    """One started command and all that came of it."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        folder: Path | None = None,
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        with log.open("wb") as out:
            # A session of its own: ending it ends whatever it started.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                cwd=folder,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of the command itself."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def members(self) -> list[int]:
        return members(self._process.pid)

    def cpu_seconds(self) -> float:
        """Used so far, with the children that have ended."""
        return sum(cpu_ticks(stat) for stat in map(read_stat, self.members())) / TICKS

    def memory_bytes(self) -> int:
        """Proportional (PSS): what several processes share is counted once."""
        total = 0
        for pid in self.members():
            with suppress(OSError):
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
                total += pss_of(text)
        return total

    def listening(self, port: int) -> int:
        """How many of the processes take connections on `port`."""
        wanted = listening_sockets(port)
        return sum(not wanted.isdisjoint(open_sockets(pid)) for pid in self.members())

    def end(self) -> None:
        """Politely, then with force."""
        if not self._signal(signal.SIGTERM, 5.0):
            self.kill()

    def kill(self) -> None:
        """At once: what it is still working on is of no use to anyone."""
        self._signal(signal.SIGKILL, 10.0)

    def _signal(self, number: signal.Signals, seconds: float) -> bool:
        """To every member; whether all are gone then. The next server must not meet them."""
        pids = self.members()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        end = time.monotonic() + seconds
        while any(map(runs, pids)):
            self._process.poll()
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        self._process.wait()
        return True


def read_stat(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text()
    return ""


def after_name(stat: str) -> list[str]:
    """The fields after the name, which may hold blanks and brackets: state, parent, group, ..."""
    return stat.rpartition(")")[2].split()


def cpu_ticks(stat: str) -> int:
    """User and system time of a process and of its children that were waited for."""
    return sum(int(part) for part in after_name(stat)[11:15])


def pss_of(rollup: str) -> int:
    for line in rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _everyone() -> dict[int, list[str]]:
    pids = (int(folder.name) for folder in Path("/proc").glob("[0-9]*"))
    found = {pid: after_name(read_stat(pid)) for pid in pids}
    return {pid: fields for pid, fields in found.items() if fields and fields[0] != "Z"}


def listening_sockets(port: int) -> set[str]:
    """The kernel's numbers of the sockets that listen on `port`."""
    found = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(fields[9])
    return found


def open_sockets(pid: int) -> set[str]:
    found = set()
    with suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                found.add(str(entry.readlink()).removeprefix("socket:[").removesuffix("]"))
    return found


def runs(pid: int) -> bool:
    fields = after_name(read_stat(pid))
    return bool(fields) and fields[0] != "Z"


def members(root: int) -> list[int]:
    """`root`, and all that have it as an ancestor or are of its session."""
    everyone = _everyone()
    known = {root} | {pid for pid, fields in everyone.items() if int(fields[3]) == root}
    grew = True
    while grew:
        more = {pid for pid, fields in everyone.items() if int(fields[1]) in known} - known
        known |= more
        grew = bool(more)
    return sorted(known & everyone.keys())
