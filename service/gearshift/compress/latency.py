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
import numpy.typing as npt

from gearshift.compress.evaluate import session
from gearshift.compress.publish import ARTIFACT

ROUNDS = 400
"""Runs of each variant; the median of so many moves by less than a percent."""
LONGEST = 2.0
"""Seconds that one variant may take at one batch size; the slowest get fewer rounds."""
LEAST_ROUNDS = 20


def medians(
    folder: Path, variants: list[str], inputs: npt.NDArray[np.generic], batch: int
) -> Mapping[str, float]:
    """The median latency in seconds of each variant in `folder` at `batch` rows, one thread.

    The variants take turns, in a new order every round, so that a disturbance of the machine
    hits all of them alike.
    """
    rows = inputs[:batch]
    if len(rows) != batch:
        raise ValueError(f"{len(inputs)} rows are too few for a batch of {batch}")
    runtimes = {name: session(folder / name / ARTIFACT) for name in variants}
    feeds = {name: {s.get_inputs()[0].name: rows} for name, s in runtimes.items()}
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for name, runtime in runtimes.items():
        for _ in range(3):  # The first runs allocate what all later ones reuse.
            runtime.run(None, feeds[name])
    generator = random.Random(0)
    for _ in range(ROUNDS):
        for name in generator.sample(variants, len(variants)):
            if len(taken[name]) >= LEAST_ROUNDS and sum(taken[name]) > LONGEST:
                continue
            started = time.perf_counter()
            runtimes[name].run(None, feeds[name])
            taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in taken.items()}
