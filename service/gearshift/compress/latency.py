"""Latency of the variants of one model side by side, for the report.

The server measures its own profiles on its own hardware; these figures only show what was
reached where the models were made.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gearshift.compress.dataset import Array
from gearshift.compress.evaluate import session

ROUNDS = 400
"""Runs of each variant; the median of so many moves by less than a percent."""
LONGEST = 2.0
"""Seconds that one variant may take at one batch size; the slowest get fewer rounds."""
LEAST_ROUNDS = 20


def medians(
    artifacts: Mapping[str, Path | bytes], inputs: Mapping[str, Array], batch: int
) -> Mapping[str, float]:
    """The median latency in seconds of each artifact at `batch` rows of `inputs`, one thread.

    The artifacts take turns, in a new order every round, so that a disturbance of the machine
    hits all of them alike. Rows are repeated where there are fewer than a batch.
    """
    feed = {name: np.resize(array, (batch, *array.shape[1:])) for name, array in inputs.items()}
    variants = list(artifacts)
    runtimes = {name: session(artifact) for name, artifact in artifacts.items()}
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for runtime in runtimes.values():
        for _ in range(3):  # The first runs allocate what all later ones reuse.
            runtime.run(None, feed)
    generator = random.Random(0)
    for _ in range(ROUNDS):
        for name in generator.sample(variants, len(variants)):
            if len(taken[name]) >= LEAST_ROUNDS and sum(taken[name]) > LONGEST:
                continue
            started = time.perf_counter()
            runtimes[name].run(None, feed)
            taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in taken.items()}
