"""Measuring one variant on one worker: how long a batch takes, by its size.

No longer than it takes to know: a size is done when its median is, and one between two others
is left out where a line between them says the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from gearshift.core.catalog import Model, Variant
from gearshift.core.profile import LatencyPoint
from gearshift.ports import EXPRESS, SHORT, Executor, Tensors, Worker
from gearshift.profiling.inputs import InputMaker

MOST_WARM_UPS = 3

TURN = 12
"""Runs of one size, then the next one's: what disturbs the machine for some milliseconds meets a
few runs of every size, not all of one."""

ENOUGH = 4 * TURN
"""Runs from which on a certain median is enough: as many as the online estimate looks back on."""

CERTAIN = 0.10
"""A median is certain when its 95 % interval is not wider than this share of it."""

STRAIGHT = 0.10
"""A line stands for what is measured when it is not farther off than this share of it."""


TRIES = 4


async def short_up_to(
    executor: Executor,
    worker: Worker,
    model: Model,
    variant: Variant,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> int:
    """The largest of the measured batch sizes at which one run in a few is short, 0 if none is:
    so far it is worth measuring the variant on the express worker. Raises what the executor
    raises."""
    maker = InputMaker(model)
    largest = 0
    for batch in batch_sizes(model.max_batch_size):
        inputs = maker.batch(batch)
        for _ in range(TRIES):
            begun = clock()
            await _run(executor, worker, model, variant, inputs)
            if clock() - begun <= SHORT:
                break
        else:
            break
        largest = batch
    return largest


async def measure(
    executor: Executor,
    worker: Worker,
    model: Model,
    variant: Variant,
    *,
    largest: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
    budget_s: float = 0.1,
    min_repeats: int = 5,
    max_repeats: int = 200,
) -> list[LatencyPoint]:
    """Latency at batch 1, at the `largest` (the model's own where none is given), and at as many
    of the powers of two between them as are needed to read the others from lines, in seconds.

    Timed is the whole `executor.run`, with its way to the worker and back, because a request
    waits for that too. A point takes at most about `budget_s` and `max_repeats` runs, but at
    least `min_repeats`, after some to warm up. Raises what the executor raises.
    """
    maker = InputMaker(model)
    sizes = batch_sizes(largest or model.max_batch_size)

    async def run(inputs: Tensors) -> float:
        begun = clock()
        await _run(executor, worker, model, variant, inputs)
        return clock() - begun

    def done(seconds: Sequence[float], spent: float) -> bool:
        count = len(seconds)
        if count < min_repeats:
            return False
        if spent >= budget_s or count >= max_repeats:
            return True
        return count >= ENOUGH and count % TURN == 0 and certain(seconds)

    points: dict[int, LatencyPoint] = {}
    while wanted := unknown(sizes, {batch: each.p50 for batch, each in points.items()}):
        inputs = {batch: maker.batch(batch) for batch in wanted}
        for batch in wanted:
            await _warmed(run, inputs[batch], budget_s / 4)
        for batch, seconds in (await _in_turns(run, inputs, done)).items():
            points[batch] = point(batch, seconds)
    return [points[batch] for batch in sorted(points)]


async def _run(
    executor: Executor, worker: Worker, model: Model, variant: Variant, inputs: Tensors
) -> None:
    if worker.device == EXPRESS:
        executor.run_here(model, variant, inputs)
    else:
        await executor.run(worker, model, variant, inputs)


async def _warmed(
    run: Callable[[Tensors], Awaitable[float]], inputs: Tensors, budget_s: float
) -> None:
    spent, runs = 0.0, 0
    while runs == 0 or (runs < MOST_WARM_UPS and spent < budget_s):
        spent += await run(inputs)
        runs += 1


async def _in_turns(
    run: Callable[[Tensors], Awaitable[float]],
    inputs: Mapping[int, Tensors],
    done: Callable[[Sequence[float], float], bool],
) -> dict[int, list[float]]:
    """The seconds of all runs by batch size, until each is `done`."""
    seconds: dict[int, list[float]] = {batch: [] for batch in inputs}
    spent = dict.fromkeys(inputs, 0.0)
    open_ = list(inputs)
    while open_:
        for batch in list(open_):
            for _ in range(TURN):
                took = await run(inputs[batch])
                seconds[batch].append(took)
                spent[batch] += took
                if done(seconds[batch], spent[batch]):
                    open_.remove(batch)
                    break
    return seconds


def batch_sizes(largest: int) -> list[int]:
    """The powers of two up to `largest`, and `largest` itself."""
    sizes = [2**exponent for exponent in range(largest.bit_length())]
    return sizes if sizes[-1] == largest else [*sizes, largest]


def unknown(sizes: Sequence[int], p50s: Mapping[int, float]) -> list[int]:
    """Which of `sizes` are to be measured next, given the medians of those that were.

    First the ends, the middle by number of doublings, and the middle by number of rows; then,
    wherever one of the two is not where a line between the ends would have it, those between.
    """
    wanted = {sizes[0], sizes[-1]} - p50s.keys()
    spans = [(0, len(sizes) - 1)]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        inside = sorted({(first + last) // 2, last - 1})
        missing = {sizes[place] for place in inside} - p50s.keys()
        if missing:
            wanted |= missing
        elif not all(_on_line(p50s, sizes[first], sizes[place], sizes[last]) for place in inside):
            spans += pairwise((first, *inside, last))
    return sorted(wanted)


def _on_line(p50s: Mapping[int, float], left: int, batch: int, right: int) -> bool:
    along = (batch - left) / (right - left)
    line = p50s[left] + (p50s[right] - p50s[left]) * along
    return abs(line - p50s[batch]) <= STRAIGHT * p50s[batch]


def certain(seconds: Sequence[float]) -> bool:
    """Whether the 95 % interval of the median, which needs no distribution, is narrow."""
    ordered, count = sorted(seconds), len(seconds)
    aside = 0.98 * math.sqrt(count)
    low = ordered[max(0, math.floor(count / 2 - aside))]
    high = ordered[min(count - 1, math.ceil(count / 2 + aside))]
    return high - low <= CERTAIN * ordered[count // 2]


def point(batch: int, seconds: Sequence[float]) -> LatencyPoint:
    """The median and the 99 % quantile; of fewer than 100 runs the slowest stands for it.

    Interpolating there would promise a tail that was never seen.
    """
    p50 = float(np.quantile(seconds, 0.5))
    p99 = float(np.quantile(seconds, 0.99)) if len(seconds) >= 100 else max(seconds)
    return LatencyPoint(batch=batch, p50=p50, p99=p99)
