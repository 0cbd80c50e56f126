"""Baselines that hold every variant on every worker: an idle worker may run any of them."""

from __future__ import annotations

from abc import abstractmethod

from gearshift.core.decisions import Dispatch
from gearshift.simulate.policies.deadline_order import Choice, DeadlineOrder, Queue


class AnyWorker(DeadlineOrder):
    """A policy that is finished by saying which variant a device gives to a queue."""

    @abstractmethod
    def _choose(self, queue: Queue, device: str, now: float) -> Choice | None:
        """What an idle worker of `device` does for this queue; None if nothing in time."""

    def _rank(self, choice: Choice) -> tuple[float, ...]:
        """Where several devices are idle, the smallest rank runs: here, the shortest run."""
        profile, members = choice
        return (profile.p99(len(members)),)

    def _next(self, now: float) -> Dispatch | None:
        idle = [device for device in self._devices if self._idle[device]]
        if not idle:
            return None
        for queue in self._by_urgency():
            best = None
            for device in idle:
                choice = self._choose(queue, device, now)
                if choice is not None and (best is None or self._rank(choice) < self._rank(best)):
                    best = choice
            if best is not None:
                profile, members = best
                return self._dispatch(self._idle[profile.device].pop(0), profile, members)
        return None
