"""Who is free, and who will be when.

A running worker has two ends: by the first it should be free (its batch's p99), by the
second it will be as good as surely. Whoever relies on it takes the second.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Mapping

MOST = 4096
"""Workers of all devices: whoever adds them without end finds out."""


class Workers:
    """The workers by device. Times in seconds."""

    __slots__ = (
        "_device",
        "_ends",
        "_idled",
        "_idled_until",
        "_runs",
        "_since",
        "_sure_ends",
        "counts",
        "idle",
    )

    def __init__(self, devices: Mapping[int, str]) -> None:
        """`devices` maps each worker's id to its device."""
        self._device = dict(devices)
        self.counts = dict(Counter(devices.values()))
        self.idle: dict[str, list[int]] = {device: [] for device in self.counts}
        for worker, device in reversed([*devices.items()]):
            self.idle[device].append(worker)
        # By device the two ends of all runs, each in rising order; and by worker those of its own.
        self._ends: dict[str, list[float]] = {device: [] for device in self.counts}
        self._sure_ends: dict[str, list[float]] = {device: [] for device in self.counts}
        self._runs: dict[int, tuple[float, float]] = {}
        # Idle worker seconds by device since the last question, and until when they are summed.
        self._idled = dict.fromkeys(self.counts, 0.0)
        self._idled_until = dict.fromkeys(self.counts, math.nan)
        self._since = math.nan

    def copy(self) -> Workers:
        """The same, going on apart from this."""
        copied = object.__new__(Workers)
        copied.counts, copied._device = dict(self.counts), dict(self._device)
        copied.idle = {device: list(workers) for device, workers in self.idle.items()}
        copied._ends = {device: list(ends) for device, ends in self._ends.items()}
        copied._sure_ends = {device: list(ends) for device, ends in self._sure_ends.items()}
        copied._runs = dict(self._runs)
        copied._idled, copied._since = dict(self._idled), self._since
        copied._idled_until = dict(self._idled_until)
        return copied

    def add(self, worker: int, device: str, now: float, *, first: bool = False) -> None:
        """One more, idle. If it is the only one of its device, that comes after all others, or
        `first`. ValueError if the number is taken, or there are MOST already."""
        if worker in self._device:
            raise ValueError(f"there is a worker {worker} already, on {self._device[worker]!r}")
        if len(self._device) >= MOST:
            raise ValueError(f"there are {MOST} workers already: no more can be added")
        self._device[worker] = device
        if device in self.counts:
            self._sum(device, now)
            self.counts[device] += 1
            self.idle[device].insert(0, worker)
            return
        self.counts[device] = 1
        self.idle[device] = [worker]
        if first:
            self.idle = {device: self.idle[device], **self.idle}
        self._ends[device], self._sure_ends[device] = [], []
        self._idled[device], self._idled_until[device] = 0.0, now

    def remove(self, worker: int, now: float) -> None:
        """It is here no longer; if it runs, its run is over. ValueError if it is not known, or the
        last one of its device: lanes rely on that."""
        device = self._device.get(worker)
        if device is None:
            raise ValueError(f"there is no worker {worker}")
        if self.counts[device] == 1:
            raise ValueError(f"worker {worker} is the last one of {device!r} and has to stay")
        if worker in self._runs:
            self.end(worker, now)
        self._sum(device, now)
        self.idle[device].remove(worker)
        self.counts[device] -= 1
        del self._device[worker]

    def device_of(self, worker: int) -> str:
        """ValueError if it is not known."""
        if worker not in self._device:
            raise ValueError(f"there is no worker {worker}")
        return self._device[worker]

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
