"""Who sends which request where."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from gearshift.simulate.fleet.pod import Pod


class Balancer(Protocol):
    """Chooses among the pods that are ready, of which there is at least one."""

    def choose(self, ready: Sequence[Pod]) -> Pod: ...


class RoundRobin:
    """One after the other: gRPC's `round_robin`."""

    def __init__(self) -> None:
        self._next = 0

    def choose(self, ready: Sequence[Pod]) -> Pod:
        self._next += 1
        return ready[self._next % len(ready)]


class LeastRequest:
    """The pod with the fewest requests that are not answered yet; in turn where several have."""

    def __init__(self) -> None:
        self._next = 0

    def choose(self, ready: Sequence[Pod]) -> Pod:
        self._next += 1
        first = self._next % len(ready)
        return min((*ready[first:], *ready[:first]), key=_open)


def _open(pod: Pod) -> int:
    return pod.open


BALANCERS: Mapping[str, Callable[[], Balancer]] = {
    "round_robin": RoundRobin,
    "least_request": LeastRequest,
}
