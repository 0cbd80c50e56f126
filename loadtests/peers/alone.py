"""ONNX Runtime without any server: the most rows a second that this machine can compute.

`python loadtests/peers/alone.py ARTIFACT SECONDS ROWS...` prints the best of the batch sizes,
with as many threads as cores: each with a batch of its own, or all on the same batch.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

CORES = os.cpu_count() or 1


def rows_per_second(
    session: ort.InferenceSession, batch: int, runners: int, seconds: float
) -> float:
    tensor = session.get_inputs()[0]
    shape = (batch, *tensor.shape[1:])
    rows = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    counts = [0] * runners
    session.run(None, {tensor.name: rows})
    begun = time.perf_counter()

    def repeat(index: int) -> None:
        while time.perf_counter() < begun + seconds:
            session.run(None, {tensor.name: rows})
            counts[index] += batch

    threads = [threading.Thread(target=repeat, args=(i,)) for i in range(runners)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - begun)


def session_for(artifact: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(artifact, options, ["CPUExecutionProvider"])


def best(artifact: Path, seconds: float, batches: list[int]) -> tuple[float, str]:
    """Rows a second, and how they were had."""
    found = []
    for runners, threads in ((CORES, 1), (1, CORES)):
        session = session_for(artifact, threads)
        for batch in batches:
            rate = rows_per_second(session, batch, runners, seconds)
            found.append((rate, f"batches of {batch}, {runners} x {threads} thread(s)"))
    return max(found)


if __name__ == "__main__":
    artifact, seconds, *batches = sys.argv[1:]
    print(json.dumps(best(Path(artifact), float(seconds), [int(batch) for batch in batches])))
