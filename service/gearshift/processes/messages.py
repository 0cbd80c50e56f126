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
import os
import struct
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import IO, Any

ALIVE = b"a"
READY = b"r"
DRAINING = b"d"
CLOSED = b"c"
ASK = b"q"
ASK_FRONTIER = b"f"
"""Signs: the start has got on, requests are taken, no more are, a connection is over; and the
questions for the sum of all statistics and for the frontier."""

LETTER = b"l"
"""The byte that goes with a file in either direction: an order or its answer, as both ends of it
agree."""

CONNECTION = b"n"
INSIDE = b"o"
SUM = b"u"
FRONTIER = b"v"
"""The byte that goes with a connection, with one that is the parent's own, and those with the files
that answer an ASK and an ASK_FRONTIER, each kind in order."""

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

MAX_LETTER = 16 * 1024 * 1024


def read_letter(descriptor: int) -> bytes:
    """What stands in the file, which is closed; from its beginning: who else has it shares its
    place in it."""
    try:
        return os.pread(descriptor, min(os.fstat(descriptor).st_size, MAX_LETTER), 0)
    finally:
        os.close(descriptor)


@contextmanager
def letter(body: bytes) -> Iterator[int]:
    """The descriptor of a file with this in it, to be handed over. In memory where the system can:
    a full disk must not keep orders from arriving."""
    with ExitStack() as stack:
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("gearshift-letter")
            file: IO[bytes] = stack.enter_context(os.fdopen(descriptor, "wb", buffering=0))
        else:
            file = stack.enter_context(tempfile.TemporaryFile(buffering=0))
        file.write(body)
        yield file.fileno()


@dataclass(frozen=True, slots=True)
class Orders:
    """What a process is told at its start: its number, its share, and the server's settings."""

    index: int
    cores: tuple[int, ...]
    first_worker: int
    settings: Mapping[str, Any]
    generation: int = 1
    """Number of the catalog that the others serve."""
    out: tuple[str, ...] = ()
    """Models that none of them serves, though they have a folder."""
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
            generation=told["generation"],
            out=tuple(told["out"]),
            quota_table=told["quota_table"],
        )
