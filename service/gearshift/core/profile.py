"""Profiles: how long a variant takes on a device, by batch size.

A profile is measured at a few batch sizes and read at any: linear between the points,
never falling as the batch grows (a measured dip is noise), and extended beyond the last
point at its cost per row. All of it is tabulated, so that a look-up on the hot path is one
list index; what is learned online replaces the tables.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gearshift.core.catalog import Cascade, Model, Standing, Variant
from gearshift.core.latency import Learner

WASTE = 0.10
"""A larger batch than the efficient one would save less than this share of time per row."""


@dataclass(frozen=True, slots=True)
class LatencyPoint:
    """Measured latency at one batch size, in seconds."""

    batch: int
    p50: float
    p99: float


class Profile:
    """The latency of one variant on one device, in seconds, for 1 to `max_batch` rows: no more
    are run there at once, which may be fewer than the model's `max_batch_size`.

    `points` are the offline measurement; `p50s` and `p99s`, by number of rows (index 0 is 0),
    begin as it says and follow what is observed.
    """

    __slots__ = (
        "_learner",
        "cascade",
        "device",
        "efficient_batch",
        "p50s",
        "p99s",
        "points",
        "row_cost",
        "runs",
        "variant",
    )

    def __init__(
        self, variant: Variant, device: str, points: Sequence[LatencyPoint], max_batch: int
    ) -> None:
        if not points:
            raise ValueError(f"variant {variant.name!r} on {device!r}: a profile needs a point")
        self.variant = variant
        self.runs: Profile = self
        """What runs first: another profile where this one is that of a cascade."""
        self.cascade: Cascade | None = None
        self.device = device
        self.points = tuple(sorted(points, key=lambda point: point.batch))
        p50s = _table([(p.batch, p.p50) for p in self.points], max_batch)
        p99s = _table([(p.batch, max(p.p50, p.p99)) for p in self.points], max_batch)
        self._learner = Learner(p50s, p99s)
        self._show(p50s, p99s)

    def _show(self, p50s: list[float], p99s: list[float]) -> None:
        self.p50s, self.p99s = p50s, p99s
        costs = [p50s[rows] / rows for rows in range(1, len(p50s))]
        within = min(costs) * (1 + WASTE)
        self.efficient_batch = 1 + next(i for i, cost in enumerate(costs) if cost <= within)
        self.row_cost = costs[self.efficient_batch - 1]

    @property
    def least_accuracy(self) -> float:
        """The accuracy of the least accurate variant that may answer."""
        return self.variant.accuracy

    @property
    def serving(self) -> bool:
        """Whether the server may choose it for any request."""
        return self.variant.standing is Standing.SERVING

    @property
    def later(self) -> float:
        """Worker seconds a row that come after its run, on a worker of another variant."""
        return 0.0

    def observe(self, rows: int, seconds: float, now: float) -> bool:
        """Learn from one run of `rows` rows; True if the tables have changed."""
        changed = self._learner.observe(rows, seconds, now)
        if changed:
            self._show(*self._learner.tables())
        return changed

    def settle(self, now: float) -> bool:
        """Take in what was not urgent, and drift back to the offline measurement if nothing
        has run for long; call it now and then. True if the tables have changed."""
        changed = self._learner.settle(now)
        if changed:
            self._show(*self._learner.tables())
        return changed

    def fresh(self) -> Profile:
        """The same offline measurement with nothing learned."""
        return Profile(self.variant, self.device, self.points, self.max_batch)

    def alike(self, other: Profile) -> bool:
        """Is the other one of the same artifact, and was it measured in the same place? One without
        a hash is like no other."""
        mine, its = self.variant, other.variant
        return (
            self.cascade is other.cascade is None
            and mine.artifact_sha256 != ""
            and (mine.artifact_sha256, mine.executor) == (its.artifact_sha256, its.executor)
            and (self.device, self.points) == (other.device, other.points)
            and self.max_batch == other.max_batch
        )

    def go_on_from(self, other: Profile) -> None:
        """Begin with what the other one, which is alike, has learned."""
        self._learner = other._learner.copy()
        self._show(*self._learner.tables())

    @property
    def max_batch(self) -> int:
        """The most rows that are run at once."""
        return len(self.p50s) - 1

    def p50(self, rows: int) -> float:
        """Seconds; infinite for more rows than are run at once."""
        return self.p50s[rows] if rows <= self.max_batch else math.inf

    def p99(self, rows: int) -> float:
        """Seconds; infinite for more rows than are run at once."""
        return self.p99s[rows] if rows <= self.max_batch else math.inf

    def rows_within(self, seconds: float) -> int:
        """The largest batch whose p99 fits into `seconds`; 0 when not even one row does."""
        low = bisect_left(self.p99s, seconds)
        return low if low < len(self.p99s) and self.p99s[low] <= seconds else low - 1


def _table(points: Iterable[tuple[int, float]], max_batch: int) -> list[float]:
    """Seconds by number of rows, index 0 unused (0.0), monotone."""
    known = list(points)
    table = [0.0]
    right = 0
    for rows in range(1, max_batch + 1):
        while right < len(known) and known[right][0] < rows:
            right += 1
        if right == len(known):
            batch, seconds = known[-1]
            value = seconds * rows / batch
        elif right == 0 or known[right][0] == rows:
            value = known[right][1]
        else:
            (left_batch, left), (right_batch, upper) = known[right - 1], known[right]
            value = left + (upper - left) * (rows - left_batch) / (right_batch - left_batch)
        table.append(max(value, table[-1]))
    return table


class Profiles:
    """Every profile of one catalog: by model, then device, most accurate variant first."""

    __slots__ = ("_by_model",)

    def __init__(self, models: Mapping[str, Model], profiles: Iterable[Profile]) -> None:
        by_name: dict[str, dict[str, list[Profile]]] = {name: {} for name in models}
        owner = {id(v): model.name for model in models.values() for v in model.variants}
        for profile in profiles:
            by_device = by_name[owner[id(profile.variant)]]
            by_device.setdefault(profile.device, []).append(profile)
        for by_device in by_name.values():
            for gears in by_device.values():
                gears.sort(key=lambda p: (-p.variant.accuracy, p.p99(1), p.variant.version))
        self._by_model = {
            name: {device: tuple(gears) for device, gears in by_device.items()}
            for name, by_device in by_name.items()
        }

    def fresh(self) -> Profiles:
        """The same profiles with nothing learned, for who must not share what others learn."""
        copied = object.__new__(Profiles)
        copied._by_model = {
            name: {device: tuple(p.fresh() for p in gears) for device, gears in by_device.items()}
            for name, by_device in self._by_model.items()
        }
        return copied

    def on(self, model: str, device: str) -> tuple[Profile, ...]:
        """The profiles of `model` on `device`, most accurate first; empty if it cannot run."""
        return self._by_model[model].get(device, ())

    def everywhere(self, model: str) -> tuple[Profile, ...]:
        """The profiles of `model` on every device."""
        return tuple(p for gears in self._by_model[model].values() for p in gears)
