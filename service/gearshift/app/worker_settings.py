"""Settings of the workers: where their runs are, and on what."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings

from gearshift.executors.providers import Provider


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

    worker_threads: int = Field(
        1,
        ge=1,
        le=256,
        description="Threads that one run on the processor may use; above 1 for workers in"
        " processes of their own only, of which there are then so many fewer by default.",
    )
    gpu_workers: int = Field(
        1,
        ge=1,
        le=16,
        description="Batches that run at the same time on each GPU or other accelerator.",
    )
    providers: list[Provider] = Field(
        default_factory=list,
        description="ONNX Runtime providers, best first: cpu, cuda, tensorrt, openvino, directml,"
        " coreml, or tables with a name and options. All devices that they have are used; empty"
        " takes CUDA, where there is a GPU, and the processor.",
    )

    @model_validator(mode="after")
    def _threads_are_of_processes(self) -> Self:
        if self.worker_threads > 1 and self.worker_isolation != "process":
            raise ValueError(
                f"setting worker_threads: {self.worker_threads} threads a run need workers in"
                " processes of their own, because workers that are threads share theirs; set"
                " worker_isolation to process as well"
            )
        return self

    @property
    def worker_memory(self) -> float:
        """In bytes, infinite for no limit."""
        return self.worker_memory_mib * 2.0**20 or math.inf
