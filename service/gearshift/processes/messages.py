"""What parent and process say to each other.

Two pairs of sockets connect them. On the first, connections go to the process, each as a file
descriptor with one byte, and single signs come back; a process may ask there for what all have
counted (the sum of the statistics, the frontier), and gets it as a file. On the second, the
parent asks, and a thread of its own answers in the process: a page of metrics must not take the
time of those that are served. The end of the second one is the end of the parent, and with it of
the process.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

ALIVE = b"a"
READY = b"r"
DRAINING = b"d"
CLOSED = b"c"
ASK = b"q"
ASK_FRONTIER = b"f"
"""Signs: the start has got on, requests are taken, no more are, a connection is over; and the
questions for the sum of all statistics and for the frontier."""

CONNECTION = b"n"
SUM = b"u"
FRONTIER = b"v"
"""The byte that goes with a connection, and those with the files that answer an ASK and an
ASK_FRONTIER, each kind in order."""

STOP = b"s"
METRICS = b"m"
TRITON = b"t"
STATISTICS = b"i"
BESIDE = b"b"
EXEMPLARS = b"e"
"""Questions: finish and end; give the page of metrics; the one under Triton's names; what
ModelStatistics says of this process alone; what stands beside the figures on the page; the traced
requests behind the latency histograms."""

QUESTION = struct.Struct("!cI")
"""What is asked, and a number that the answer repeats."""

ANSWER = struct.Struct("!II")
"""The number of the question, and how many bytes follow."""

MAX_ORDERS = 1_000_000


@dataclass(frozen=True, slots=True)
class Orders:
    """What a process is told at its start: its number, its share, and the server's settings."""

    index: int
    cores: tuple[int, ...]
    first_worker: int
    settings: Mapping[str, Any]
    quota_table: str = ""
    """The file that holds the buckets of all processes, "" without quotas."""

    def pack(self) -> bytes:
        """As it is sent."""
        body = json.dumps(asdict(self)).encode()
        return ANSWER.pack(self.index, len(body)) + body

    @classmethod
    def unpack(cls, body: bytes) -> Orders:
        """From the bytes behind the head."""
        told = json.loads(body)
        return cls(
            index=told["index"],
            cores=tuple(told["cores"]),
            first_worker=told["first_worker"],
            settings=told["settings"],
            quota_table=told["quota_table"],
        )
