"""The few statistics that the studies share: spreads, intervals, paired differences, turns."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of repeated measurements and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The median and the quartiles of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(statistics.median(values), low, high)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over `n` seeds with its 95 % interval."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def differs(self) -> bool:
        """Whether zero lies outside the interval."""
        return self.low > 0.0 or self.high < 0.0


def estimate(values: Sequence[float]) -> Estimate:
    """Student's t interval of the mean; a single value has none and stands for itself."""
    n = len(values)
    mean = statistics.fmean(values)
    if n < 2:
        return Estimate(mean, mean, mean, n)
    from scipy.stats import t

    half = float(t.ppf(0.975, n - 1)) * statistics.stdev(values) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n)


def paired(treated: Sequence[float], plain: Sequence[float]) -> Estimate:
    """The mean difference of twins that share a seed: what both have in common drops out."""
    return estimate([a - b for a, b in zip(treated, plain, strict=True)])


def in_turns(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    longest: float = math.inf,
    warm: int = 1,
) -> Mapping[str, Spread]:
    """Seconds of processor time of one run of each call, by its name.

    The calls take turns, in a new order every round, so that a disturbance hits all alike; the
    time is that of the calling thread alone, so waiting for busy cores is not in it. A call
    that has had `longest` seconds gets no further rounds, but five in any case.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(warm):
            call()
    generator = random.Random(0)
    for _ in range(rounds):
        for name in generator.sample(list(calls), len(calls)):
            if len(taken[name]) >= 5 and sum(taken[name]) > longest:
                continue
            started = time.thread_time()
            calls[name]()
            taken[name].append(time.thread_time() - started)
    return {name: Spread.of(times) for name, times in taken.items()}


def points(estimated: Estimate) -> str:
    """A difference of accuracies in points of a hundred, with its interval."""
    mean, low, high = (f"{100 * v:+.2f}" for v in (estimated.mean, estimated.low, estimated.high))
    return f"{mean} ({low} to {high})" if estimated.n > 1 else f"{mean} (one seed)"


def accuracy(estimated: Estimate) -> str:
    """A mean accuracy with its interval, as far as accuracies reach."""
    if estimated.n == 1:
        return f"{estimated.mean:.4f} (one seed)"
    low, high = max(0.0, estimated.low), min(1.0, estimated.high)
    return f"{estimated.mean:.4f} ({low:.4f} to {high:.4f})"
