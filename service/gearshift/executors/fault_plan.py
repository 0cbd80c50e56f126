"""Which runs of an executor are to go wrong, and how: pure data, drawn from a seed."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydantic import TypeAdapter, ValidationError


class Kind(StrEnum):
    """What goes wrong. `THROW`, `SHAPE` (one row too many), `DTYPE`, `MISSING` (the first output),
    `NAN` and `INFINITY` (in the first row of the batch, or in every row where `amount` says so)
    break the answers; `HANG` holds a run until the fault is over; `SLOW` makes it last `amount`
    times as long; `MEMORY` is a MemoryError; `LOST` the loss of the worker; `EXIT` and `CRASH` end
    the process, with a status and by SIGSEGV; `LEAK` keeps `amount` bytes at each run."""

    THROW = "throw"
    SHAPE = "shape"
    DTYPE = "dtype"
    MISSING = "missing"
    NAN = "nan"
    INFINITY = "infinity"
    HANG = "hang"
    SLOW = "slow"
    MEMORY = "memory"
    LOST = "lost"
    EXIT = "exit"
    CRASH = "crash"
    LEAK = "leak"


class Moment(StrEnum):
    """When a fault strikes."""

    RUN = "run"
    LOAD = "load"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong, with this probability, at each run (or load) that it fits.

    `model` and `variant` are names, "" for any. It holds from `begin` to `end`, seconds since the
    plan was taken up, and strikes `count` times at the most, if that is given. With `poison` it
    strikes only where an input of the batch holds that very number. `amount` is what its kind
    makes of it: NAN and INFINITY, above 0: every row; SLOW: the factor; LEAK: bytes; EXIT: the
    status.
    """

    kind: Kind
    model: str = ""
    variant: str = ""
    moment: Moment = Moment.RUN
    probability: float = 1.0
    begin: float = 0.0
    end: float = math.inf
    count: int | None = None
    poison: float | None = None
    amount: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.probability <= 1.0:
            raise ValueError(f"probability {self.probability} is not between 0 and 1")
        if not self.begin <= self.end:
            raise ValueError(f"begin {self.begin} is not before end {self.end}, in seconds")
        if self.count is not None and self.count < 0:
            raise ValueError(f"count {self.count} is below 0")
        if not self.amount >= 0.0:
            raise ValueError(f"amount {self.amount} is not 0 or more")

    def fits(self, moment: Moment, model: str, variant: str) -> bool:
        """Whether it may strike this variant of this model then."""
        return (
            moment is self.moment
            and self.model in ("", model)
            and self.variant in ("", variant)
            and self.probability > 0.0
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """Faults in the order in which they are asked: the first that strikes is the one. The same
    seed and the same runs give the same faults."""

    faults: tuple[Fault, ...] = ()
    seed: int = 0


class Draws:
    """What a plan says for one run after the other. Times are seconds since it was taken up."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._random = [random.Random(f"{plan.seed}/{n}") for n in range(len(plan.faults))]
        self.struck = [0] * len(plan.faults)
        """How often each fault has struck."""

    def next(
        self, moment: Moment, model: str, variant: str, now: float, poisons: Sequence[float] = ()
    ) -> Fault | None:
        """The fault that strikes this run, None if it goes well. `poisons` are the poisons of the
        plan that the batch holds."""
        for number, fault in enumerate(self.plan.faults):
            if not fault.fits(moment, model, variant) or not fault.begin <= now < fault.end:
                continue
            if fault.poison is not None and fault.poison not in poisons:
                continue
            if fault.count is not None and self.struck[number] >= fault.count:
                continue
            if self._random[number].random() < fault.probability:
                self.struck[number] += 1
                return fault
        return None


_PLAN: TypeAdapter[Plan] = TypeAdapter(Plan)


def plan_from(text: str) -> Plan:
    """The plan that stands in a JSON text: {"faults": [{"kind": "throw", "variant": "int8"}],
    "seed": 0}, each fault with the fields of Fault. ValueError with what is wrong in it."""
    try:
        found = json.loads(text)
        unknown = sorted({key for one in found["faults"] for key in one} - set(Fault.__slots__))
        if unknown:
            raise ValueError(f"a fault has no {', '.join(unknown)}; it has {Fault.__slots__}")
        return _PLAN.validate_python(found)
    except (ValidationError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"this is no plan of faults: {error}") from error
