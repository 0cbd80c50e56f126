"""A client that does nothing wrong, beside those who do."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import tritonclient.grpc as triton
from loadtests.reliability.attacks import SMALL

EVERY = 0.025
"""Seconds between two requests of the client."""

WITHIN = 0.25
"""Its budget, in seconds."""


@dataclass
class Good:
    """Asks every EVERY seconds until it is told to stop; all answers, as they came."""

    address: str
    asked: list[tuple[float, float | None]] = field(default_factory=list)
    """When, and how many seconds the answer took; None where there was none in time."""
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        tensor = triton.InferInput("x", [1, 30], "FP32")
        tensor.set_data_from_numpy(np.zeros((1, 30), np.float32))
        with triton.InferenceServerClient(self.address) as client:
            due = time.monotonic()
            while not self.stopped.is_set():
                begun = time.monotonic()
                took: float | None = None
                with suppress(triton.InferenceServerException):
                    client.infer(SMALL, [tensor], client_timeout=WITHIN)
                    took = time.monotonic() - begun
                self.asked.append((begun, took))
                due = max(due + EVERY, time.monotonic())
                self.stopped.wait(max(0.0, due - time.monotonic()))

    def between(self, begin: float, end: float) -> list[float | None]:
        return [took for at, took in self.asked if begin <= at < end]
