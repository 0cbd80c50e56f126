"""Who is free, and who will be when.

A running worker has two ends: by the first it should be free (its batch's p99), by the
second it will be as good as surely. Whoever relies on it takes the second.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping


class Workers:
    """The workers by device. Times in seconds."""

    __slots__ = (
        "_device",
        "_ends",
        "_idled",
        "_idled_until",
        "_of",
        "_runs",
        "_since",
        "_sure_ends",
        "counts",
        "idle",
    )

    def __init__(self, devices: Mapping[int, str]) -> None:
        """`devices` maps each worker's id to its device."""
        self._device = dict(devices)
        self._of: dict[str, list[int]] = {}
        for worker, device in devices.items():
            self._of.setdefault(device, []).append(worker)
        self.counts = {device: len(workers) for device, workers in self._of.items()}
        self.idle = {device: list(reversed(workers)) for device, workers in self._of.items()}
        # By device the two ends of all runs, each in rising order; and by worker those of its own.
        self._ends: dict[str, list[float]] = {device: [] for device in self._of}
        self._sure_ends: dict[str, list[float]] = {device: [] for device in self._of}
        self._runs: dict[int, tuple[float, float]] = {}
        # Idle worker seconds by device since the last question, and until when they are summed.
        self._idled = dict.fromkeys(self._of, 0.0)
        self._idled_until = dict.fromkeys(self._of, math.nan)
        self._since = math.nan

    def copy(self) -> Workers:
        """The same, going on apart from this."""
        copied = object.__new__(Workers)
        copied.counts, copied._device, copied._of = self.counts, self._device, self._of
        copied.idle = {device: list(workers) for device, workers in self.idle.items()}
        copied._ends = {device: list(ends) for device, ends in self._ends.items()}
        copied._sure_ends = {device: list(ends) for device, ends in self._sure_ends.items()}
        copied._runs = dict(self._runs)
        copied._idled, copied._since = dict(self._idled), self._since
        copied._idled_until = dict(self._idled_until)
        return copied

    def ends(self) -> Mapping[int, float]:
        """When each running worker should be free."""
        return {worker: until for worker, (until, _) in self._runs.items()}

    def any_idle(self) -> bool:
        return any(self.idle.values())

    def begin(self, device: str, now: float, until: float, surely: float) -> int:
        """An idle worker of `device` takes a run that should end at `until`, and `surely` then."""
        self._sum(device, now)
        worker = self.idle[device].pop()
        insort(self._ends[device], until)
        insort(self._sure_ends[device], surely)
        self._runs[worker] = (until, surely)
        return worker

    def end(self, worker: int, now: float) -> None:
        device = self._device[worker]
        self._sum(device, now)
        until, surely = self._runs.pop(worker)
        ends, sure_ends = self._ends[device], self._sure_ends[device]
        del ends[bisect_left(ends, until)]
        del sure_ends[bisect_left(sure_ends, surely)]
        self.idle[device].append(worker)

    def idle_shares(self, now: float) -> dict[str, float]:
        """By device, the share of its workers' time since the last call that was idle."""
        shares = {}
        for device, count in self.counts.items():
            self._sum(device, now)
            elapsed = now - self._since
            shares[device] = self._idled[device] / (count * elapsed) if elapsed > 0.0 else 1.0
            self._idled[device] = 0.0
        self._since = now
        return shares

    def _sum(self, device: str, now: float) -> None:
        before = self._idled_until[device]
        if now > before:
            self._idled[device] += len(self.idle[device]) * (now - before)
        self._idled_until[device] = now

    def free_within(self, device: str, moment: float) -> int:
        """How many workers of `device` are idle or surely will be at `moment`."""
        return len(self.idle[device]) + bisect_right(self._sure_ends[device], moment)

    def enough_free_at(self, device: str, count: int) -> float:
        """When `count` workers of `device` are surely free, if nothing new starts; infinite
        if there are not so many."""
        missing = count - len(self.idle[device])
        if missing <= 0:
            return -math.inf
        ends = self._sure_ends[device]
        return ends[missing - 1] if missing <= len(ends) else math.inf

    def next_free(self, device: str) -> float:
        """When the next running worker of `device` should be free; infinite if none runs."""
        ends = self._ends[device]
        return ends[0] if ends else math.inf
