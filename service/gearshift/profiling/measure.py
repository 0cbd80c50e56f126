"""Measuring one variant on one worker: how long a batch takes, by its size."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from gearshift.core.catalog import Model, Variant
from gearshift.core.profile import LatencyPoint
from gearshift.ports import Executor, Tensors, Worker
from gearshift.profiling.inputs import InputMaker

MOST_WARM_UPS = 3


async def measure(
    executor: Executor,
    worker: Worker,
    model: Model,
    variant: Variant,
    *,
    clock: Callable[[], float] = time.perf_counter,
    budget_s: float = 0.1,
    min_repeats: int = 5,
    max_repeats: int = 200,
) -> list[LatencyPoint]:
    """Latency at batch 1, 2, 4, ... and the model's largest, in seconds.

    Timed is the whole `executor.run`, with its way to the worker and back, because a request
    waits for that too. Each point takes about `budget_s`, with at least `min_repeats` and at
    most `max_repeats` runs after some to warm up. Raises what the executor raises.
    """
    maker = InputMaker(model)

    async def run(inputs: Tensors) -> float:
        begun = clock()
        await executor.run(worker, model.name, variant.name, inputs)
        return clock() - begun

    points = []
    for batch in batch_sizes(model.max_batch_size):
        inputs = maker.batch(batch)
        warming, warm_ups = 0.0, 0
        while warm_ups == 0 or (warm_ups < MOST_WARM_UPS and warming < budget_s / 4):
            warming += await run(inputs)
            warm_ups += 1
        seconds: list[float] = []
        spent = 0.0
        while len(seconds) < min_repeats or (spent < budget_s and len(seconds) < max_repeats):
            seconds.append(await run(inputs))
            spent += seconds[-1]
        points.append(point(batch, seconds))
    return points


def batch_sizes(largest: int) -> list[int]:
    """The powers of two up to `largest`, and `largest` itself."""
    sizes = [2**exponent for exponent in range(largest.bit_length())]
    return sizes if sizes[-1] == largest else [*sizes, largest]


def point(batch: int, seconds: Sequence[float]) -> LatencyPoint:
    """The median and the 99 % quantile; of fewer than 100 runs the slowest stands for it.

    Interpolating there would promise a tail that was never seen.
    """
    p50 = float(np.quantile(seconds, 0.5))
    p99 = float(np.quantile(seconds, 0.99)) if len(seconds) >= 100 else max(seconds)
    return LatencyPoint(batch=batch, p50=p50, p99=p99)
