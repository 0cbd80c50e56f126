"""What became of a fleet and its requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Moment(NamedTuple):
    """One look at the fleet. `at` in seconds; `deficit` is the mean load deficit, `shed` the share
    of requests shed or expired, both since the look before."""

    at: float
    pods: int
    ready: int
    rate: float
    deficit: float
    shed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetResult:
    """`pod_seconds` from a pod's creation until it is gone. `attainment` leaves out what nobody
    could have answered; `effective_accuracy` is the mean over the same requests, one that was not
    answered in time counting 0; `shedding` the seconds in which anybody was shed or expired."""

    scaler: str
    seed: int
    requests: int
    served: int
    late: int
    missed: int
    infeasible: int
    pod_seconds: float
    most_pods: int
    served_accuracy: float
    effective_accuracy: float
    load_deficit: float
    shedding: int
    moments: Sequence[Moment]

    @property
    def attainment(self) -> float:
        counted = self.requests - self.infeasible
        return self.served / counted if counted else 1.0

    @property
    def pod_hours(self) -> float:
        return self.pod_seconds / 3600.0


class Tally:
    """Counts while a simulation runs."""

    def __init__(self) -> None:
        self.served = self.late = self.missed = self.infeasible = 0
        self.accuracy = 0.0
        self.shed_seconds: set[int] = set()

    def answer(self, accuracy: float, *, late: bool) -> None:
        if late:
            self.late += 1
        else:
            self.served += 1
            self.accuracy += accuracy

    def miss(self, now: float, *, infeasible: bool) -> None:
        if infeasible:
            self.infeasible += 1
        else:
            self.missed += 1
            self.shed_seconds.add(int(now))
