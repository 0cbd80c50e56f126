"""What the engine tells of requests and batches, as its telemetry hears it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from gearshift.errors import Outcome
from gearshift.ports.tracing import TraceIds


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """One request is over without an answer. Times in seconds.

    `model` and `service_class` are names from the catalog or "" (a caller's unknown name
    never becomes a label). `variant` is who ran it or was pinned, "" if none; `version`
    its number, 0 if none. `slack` is deadline minus settling time, None without a deadline.
    `message` is what the caller reads, and may quote what the caller sent. `wanted`: worker
    seconds that it would have cost on an idle server, of one that was refused or dropped for load.
    """

    model: str
    service_class: str
    variant: str
    version: int
    outcome: Outcome
    status: str
    duration: float
    slack: float | None = None
    message: str = ""
    wanted: float = 0.0
    trace: TraceIds | None = None
    """Of the request, where it is traced."""


class Served(NamedTuple):
    """One request that got its answer. Seconds; `slack` is infinite without a deadline.
    `load_deficit` is the part of its accuracy deficit that is for want of workers."""

    service_class: str
    late: bool
    duration: float
    queue: float
    slack: float
    load_deficit: float = 0.0


class Stage(StrEnum):
    """Who answers in a cascade: its first variant, its second, or the first for want of time."""

    FIRST = "first"
    THEN = "then"
    FALLBACK = "fallback"


@dataclass(frozen=True, slots=True)
class Answered:
    """The requests of one batch that got their answers. Names are the catalog's; `deficit` is
    the model's best accuracy minus that of this variant."""

    model: str
    variant: str
    version: int
    accuracy: float
    deficit: float
    requests: Sequence[Served]
    cascade: str = ""
    """The one that they were answered through."""
    stage: Stage = Stage.FIRST
    traced: Sequence[tuple[Served, TraceIds]] = ()
    """Those of `requests` that are traced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One batch left its worker.

    Seconds: `queue` summed over its requests; `input`, `compute` and `output` once for the
    batch: assembling it, the worker's time, taking it apart. `failed` when it raised. `wanted`:
    worker seconds that its requests would have cost in what an idle server gives them.
    """

    model: str
    variant: str
    version: int
    worker: int
    device: str
    requests: int
    rows: int
    queue: float
    input: float
    compute: float
    output: float
    p50: float = math.inf
    p99: float = math.inf
    """What was predicted of `input` and `compute` together when the batch was dispatched;
    infinite where nothing was."""
    failed: bool = False
    wanted: float = 0.0
    trace: TraceIds | None = None
    """Of the batch, where a request in it is traced."""
