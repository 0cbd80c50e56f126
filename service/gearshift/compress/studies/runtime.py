"""Artifacts run for the clock: as the server runs them, or with one optimization left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from gearshift.compress.dataset import Part
from gearshift.compress.evaluate import session
from gearshift.compress.studies.figures import Spread, in_turns


def runner(content: bytes, rows: Part, batch: int) -> Callable[[], object]:
    """A call that runs the artifact once on `batch` rows; they repeat where there are fewer."""
    runtime = session(content)
    feed = {
        name: np.resize(array, (batch, *array.shape[1:])) for name, array in rows.inputs.items()
    }
    return lambda: runtime.run(None, feed)


def milliseconds(
    artifacts: Mapping[str, bytes], rows: Part, batch: int, rounds: int, longest: float = 1.0
) -> Mapping[str, Spread]:
    """Processor time of one run of each artifact, one thread, the artifacts taking turns."""
    calls = {name: runner(content, rows, batch) for name, content in artifacts.items()}
    found = in_turns(calls, rounds=rounds, longest=longest, warm=3)
    return {
        name: Spread(1e3 * spread.median, 1e3 * spread.low, 1e3 * spread.high)
        for name, spread in found.items()
    }
