"""One clock, one source of chance: what else would differ from run to run."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from random import Random
from typing import Any
from unittest.mock import patch

import structlog

from gearshift.http2 import Connection, Stream
from simulation.scenario import Scenario
from virtual import VirtualLoop

MOST_TURNS = 2_000_000
"""Of the loop in one run; a few thousand are usual."""


class Loop(VirtualLoop):
    """A virtual loop on which the machine may stand still for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.leap = 0.0
        """Seconds that pass as soon as nothing is left to do at this moment."""
        self.wall = 1.7e9
        """What the wall clock says at 0, in seconds since the epoch."""
        self.turns = 0
        self.stood_still = 0.0
        """Seconds for which nothing could be done though there may have been something to do."""

    def _run_once(self) -> None:
        self.turns += 1
        if self.turns > MOST_TURNS:
            raise RuntimeError(
                f"the loop turned {MOST_TURNS} times: something goes round in circles"
            )
        super()._run_once()  # type: ignore[misc]

    def jump(self, seconds: float) -> None:
        self.stood_still += self.leap
        super().jump(seconds + self.leap)
        self.leap = 0.0

    def stand_still(self, seconds: float) -> None:
        """The loop's thread sleeps."""
        self.stood_still += seconds
        super().jump(seconds)


def _taking_time(seconds: float, loop: Loop) -> Callable[..., None]:
    """How a connection takes a frame when that takes so long."""
    take = Connection.take

    def taken(connection: Connection[Any], *frame: Any) -> None:
        loop.stand_still(seconds)
        take(connection, *frame)

    return taken if seconds else take


@contextmanager
def one_source(scenario: Scenario, loop: Loop) -> Iterator[list[dict[str, Any]]]:
    """Every clock is the loop's and every random number comes from the seed; logs are kept."""
    logged: list[dict[str, Any]] = []
    source = Random(scenario.seed + 1)

    def keep(_: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
        logged.append({"level": method, **event})
        raise structlog.DropEvent

    before = time.monotonic, time.time, time.sleep, uuid.uuid4, random.getstate()
    time.monotonic = loop.time
    time.time = lambda: loop.wall + loop.time()
    time.sleep = loop.stand_still
    uuid.uuid4 = lambda: uuid.UUID(int=source.getrandbits(128), version=4)
    random.seed(scenario.seed)
    structlog.configure(processors=[keep], cache_logger_on_first_use=False)
    numbers = count(1)

    def numbered(connection: Connection[Any]) -> int:
        return int(connection.__dict__.setdefault("number", next(numbers)))

    try:
        # Sets of them then have the same order in every process.
        with (
            patch.object(Connection, "__hash__", numbered),
            patch.object(Stream, "__hash__", lambda stream: stream.id),
            patch.object(Connection, "take", _taking_time(scenario.reading, loop)),
        ):
            yield logged
    finally:
        time.monotonic, time.time, time.sleep, uuid.uuid4 = before[:4]
        random.setstate(before[4])
        structlog.reset_defaults()
