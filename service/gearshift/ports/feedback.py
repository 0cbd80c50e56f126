"""How good the answers were: what is kept of them, and what is told of them later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from gearshift.core.catalog import Model, Variant
from gearshift.core.reports import Report, Result
from gearshift.ports.executing import Tensors


class Row(NamedTuple):
    """One request of a batch: the id in its response, its class, its first row and how many.
    `fallback`: it was to go on to the second variant of a cascade, which was not in time."""

    request_id: bytes
    service_class: str
    first: int
    rows: int
    fallback: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """What was answered together. `inputs` and `outputs` hold the whole batch, each array
    (rows, *shape); `requests` says whose rows are whose, and may leave some out; `inputs` is empty
    where they are no longer at hand. `cascade` is
    the name of the one that they were answered through, "" for none."""

    model: Model
    variant: Variant
    cascade: str
    inputs: Tensors
    outputs: Tensors
    requests: Sequence[Row]


class Journal(Protocol):
    """Keeps what is needed to learn later how good the answers were. On the way of every
    request: must neither raise nor block, and do its work elsewhere."""

    def answered(self, batch: Batch) -> None:
        """These requests got these answers."""

    def shadowed(self, batch: Batch) -> None:
        """Requests answered before by a lesser variant, run again on the most accurate one."""


class Feedback(Protocol):
    """Takes what was true about earlier answers."""

    async def report(self, reports: Sequence[Report]) -> Sequence[Result]:
        """What became of each report, in order; what is counted is durable. FeedbackUnavailable
        if that cannot be said now; reporting the same again counts nothing twice."""
