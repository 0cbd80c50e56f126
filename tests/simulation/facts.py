"""What the judges of a run ask of it again and again."""

from __future__ import annotations

from collections.abc import Iterator

from simulation.executors import SPOILED
from simulation.history import Ran, Taken
from simulation.scenario import MS
from simulation.world import Outcome as Run

Problems = Iterator[str]

ROUNDING = 1e-6
"""Seconds: sums of floats, and the loop's clock, which jumps by differences."""

BROKEN = ("Injected", "MemoryError", "WorkerLost", SPOILED)
"""How a run ends that is the executor's fault."""

CALLED_OFF = "called off"
TAKEN_OUT = "variant keeps failing and is taken out"
AT_THE_MOMENT = 2
"""Steps of the record of runs: one thing may happen between two of the same moment."""

MOST_RUNS = 3
"""Of one row: the first, the second of a cascade, and a second chance."""

GONE = ("CANCELLED BY CALLER", "NOT SENT")
CLASS_BUDGETS = {"default": 2.0, "realtime": 30 * MS, "archive": 60 * MS, "critical": 0.3}
CLASS_FLOORS = {"critical": 0.85}
PATIENT = 8.0
"""Seconds before the end after which a caller that reads has its answer."""


def settled(run: Run) -> Iterator[Taken]:
    for takens in run.history.taken.values():
        yield from takens


def only(run: Run, number: int) -> Taken | None:
    takens = run.history.taken.get(number)
    return takens[0] if takens else None


def broke(ran: Ran) -> bool:
    """It failed, or hung and was given up."""
    return ran.ended in (*BROKEN, CALLED_OFF)


def taken_out(run: Run) -> Iterator[tuple[str, str]]:
    """Models and variants whose breaker opened."""
    for event in run.logged:
        if event["event"] == TAKEN_OUT:
            yield event["model"], event["variant"]
