"""Several serving processes behind one port, and callers who ask them."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from onnx_models import row_sum
from serving import Server

MODEL_TOML = """
metric = "top1"
max_batch_size = 4
default_class = "default"

[classes.default]

[[variants]]
name = "only"
version = 1
executor = "onnx"
accuracy = 0.9
"""

two_cores = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2 if hasattr(os, "sched_getaffinity") else False,
    reason="two processes must not share a core",
)


def served_by_processes(root: Path) -> tuple[str, ...]:
    """Options of a server with one model, `sums`; all that it keeps is below `root`."""
    row_sum(root / "repo" / "sums" / "only" / "model.onnx")
    (root / "repo" / "sums" / "model.toml").write_text(MODEL_TOML)
    return ("--repository", str(root / "repo"), "--state-dir", str(root / "state"))


class Caller:
    """One connection of its own that asks without pause."""

    def __init__(self, address: str, ending: threading.Event) -> None:
        self.seen: Counter[str] = Counter()
        self._address = address
        self._ending = ending
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        rows = triton.InferInput("x", [1, 3], "FP32")
        rows.set_data_from_numpy(np.ones((1, 3), np.float32))
        # Channels of one process share their connections otherwise.
        own = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 200)]
        with triton.InferenceServerClient(self._address, channel_args=own) as client:
            while not self._ending.is_set():
                try:
                    answer = client.infer("sums", [rows], client_timeout=20)
                    assert answer.as_numpy("y")[0, 0] == 3.0
                    self.seen["OK"] += 1
                except InferenceServerException as error:
                    self.seen[str(error.status()).removeprefix("StatusCode.")] += 1
                    time.sleep(0.02)

    def done(self) -> Counter[str]:
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.seen


def children(process: subprocess.Popen[str]) -> list[int]:
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    return [int(line) for line in found.stdout.split()]


def until(done: Callable[[], bool], within: float = 60) -> None:
    deadline = time.monotonic() + within
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def served(server: Server) -> float:
    return sum(server.samples("gearshift_requests_total", outcome="served").values())


def processes(server: Server) -> dict[str, float]:
    found = server.samples("gearshift_processes")
    return {state: value for (state,), value in found.items()}


def counted_by(client: triton.InferenceServerClient) -> tuple[int, int]:
    (stats,) = client.get_inference_statistics("sums").model_stats
    return stats.inference_count, stats.inference_stats.success.count
