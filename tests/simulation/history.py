"""What happened in a run, as seen from both ends: what callers sent and heard, what ran.

Every entry has a number, so that of two things at the same moment it is known which came first.
The same seed gives the same `digest`, to the byte.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from gearshift.core.catalog import Model
from gearshift.core.request import Ticket
from simulation.scenario import Ask


@dataclass(slots=True)
class Taken:
    """One request that reached the engine. Numbers are those of entries in the history."""

    number: int
    at: float
    model: Model | None = None
    ticket: Ticket | None = None
    """None if it was refused at the door."""
    standing: bool = True
    """The engine was accepting when it came."""
    refused: Exception | None = None
    endings: list[tuple[int, float, Any]] = field(default_factory=list)
    """Number, time, and the Answer or error of each reply: there should be one."""
    left: int = 0
    """When its caller had left, 0 if it did not."""


@dataclass(slots=True)
class Ran:
    """One run of an executor. `rows` by request: which rows of it. `ended`: "" while it runs."""

    begun: int
    at: float
    worker: int
    device: str
    model: Model
    variant: str
    version: int
    accuracy: float
    rows: dict[int, list[int]]
    ended: str = ""
    until: int = 0
    odd: set[int] = field(default_factory=set)
    """Requests whose rows came back as no numbers."""


@dataclass(slots=True)
class Heard:
    """What one caller heard of one request. `endings`: status names, "RESET", "LOST" or
    "CANCELLED BY CALLER", of which there should be one."""

    ask: Ask
    sent: float | None = None
    endings: list[str] = field(default_factory=list)
    text: str = ""
    messages: list[bytes] = field(default_factory=list)
    left: bool = False
    left_at: float = math.inf
    """When the server was told."""
    reads: bool = False
    """Its caller takes what it is sent, without much delay."""
    excused: bool = False
    """Its connection was misused or is gone: no ending is owed."""


class History:
    def __init__(self) -> None:
        self._numbers = count(1)
        self._digest = hashlib.sha256()
        self.entries = 0
        self.taken: dict[int, list[Taken]] = {}
        """By the request's number; more than one would be a request that was taken in twice."""
        self.runs: list[Ran] = []
        self.heard: dict[int, Heard] = {}
        self.problems: list[str] = []
        """What was seen to be wrong while it happened."""
        self.above: list[str] = []
        """Limits that were seen to be exceeded."""
        self.sent_away: list[str] = []
        """What callers heard who were sent away though they speak HTTP/2."""
        self.drained_at: float | None = None

    def note(self, now: float, what: str, *about: object) -> int:
        """One more entry; returns its number."""
        self.entries += 1
        self._digest.update(f"{now!r} {what} {about!r}\n".encode())
        return next(self._numbers)

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    def wrong(self, problem: str) -> None:
        self.problems.append(problem)
