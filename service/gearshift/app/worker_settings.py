"""Settings of the workers: where their runs are."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings


class WorkerSettings(BaseSettings):
    """A part of `gearshift.app.settings.Settings`."""

    worker_isolation: Literal["thread", "process"] = Field(
        "thread",
        description="Whether workers are threads of the server, or each a process of its own, whose"
        " crash or hang takes one batch with it; that costs memory, and time for every run.",
    )
    worker_memory_mib: int = Field(
        0,
        ge=0,
        description="MiB that a worker process may hold for itself before another one takes its"
        " place, which costs no request; 0 for no limit.",
    )

    @property
    def worker_memory(self) -> float:
        """In bytes, infinite for no limit."""
        return self.worker_memory_mib * 2.0**20 or math.inf
