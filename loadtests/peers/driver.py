"""The client as seen from Python: started, and its line of JSON read."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

MOST_CONNECTIONS = 16
"""For 64 callers: enough that servers of several processes all get some."""

TIMEOUT = 180
"""Seconds that a run of the client may take: many more than any should."""
OK = 0


class Asked(Protocol):
    """What the client sends and expects."""

    @property
    def name(self) -> str: ...
    @property
    def request(self) -> Path: ...
    @property
    def right(self) -> tuple[Path, ...]: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the requests of one kind. Latencies are of right answers."""

    sent: int
    right: int
    wrong: int
    p50_ms: float
    p99_ms: float
    in_time_by_answer: tuple[int, ...]
    """One for each answer that is right: the model's own, then those of its other variants."""
    statuses: Mapping[int, int]

    @property
    def in_time(self) -> int:
        return sum(self.in_time_by_answer)

    @property
    def failed(self) -> int:
        return sum(count for status, count in self.statuses.items() if status != OK)


@dataclass(frozen=True, slots=True)
class Run:
    begun: float
    """By this machine's monotonic clock: warmed up before."""
    seconds: float
    client_cpu: float
    lag_p99_ms: float
    """How late the client itself was in sending."""
    kinds: Mapping[str, Outcome]

    @property
    def only(self) -> Outcome:
        (outcome,) = self.kinds.values()
        return outcome


def read_run(line: str) -> Run:
    told = json.loads(line)
    kinds = {}
    for name, kind in told["kinds"].items():
        statuses = {int(status): count for status, count in kind.pop("statuses").items()}
        in_time = tuple(kind.pop("in_time"))
        kinds[name] = Outcome(**kind, in_time_by_answer=in_time, statuses=statuses)
    return Run(told["begun"], told["seconds"], told["client_cpu_s"], told["lag_p99_ms"], kinds)


class Client:
    """Runs the program `client`; `first` is put before its command (`chrt -f 50`)."""

    def __init__(self, program: Path, first: Sequence[str] = ()) -> None:
        self._command = [*first, str(program)]

    def closed(
        self,
        port: int,
        asked: Asked,
        callers: int,
        seconds: float,
        connections: int = MOST_CONNECTIONS,
    ) -> Run:
        mode = ["closed", str(callers), str(seconds), str(min(callers, connections))]
        return self._run(port, mode, [kind(asked, 0.0)])

    def open(self, port: int, plan: Path, deadlines: Sequence[tuple[Asked, float]]) -> Run:
        """`deadlines` in seconds, by the kinds' numbers in the plan."""
        mode = ["open", str(plan), str(MOST_CONNECTIONS)]
        return self._run(port, mode, [kind(asked, deadline) for asked, deadline in deadlines])

    def _run(self, port: int, mode: Sequence[str], kinds: Sequence[str]) -> Run:
        command = [*self._command, "127.0.0.1", str(port), *mode, *kinds]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            raise ClientFailed(f"it was not done within {TIMEOUT} s") from None
        if done.returncode != 0:
            raise ClientFailed(done.stderr.strip() or f"exit status {done.returncode}")
        return read_run(done.stdout)


class ClientFailed(Exception):
    """The client could not connect, or could not be run."""


def kind(asked: Asked, deadline: float) -> str:
    right = "+".join(map(str, asked.right))
    return f"{asked.name},{asked.request},{right},{1e3 * deadline:g}"
