"""Settings of the workers: where their runs are, and on what."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator
from pydantic_settings import BaseSettings

from gearshift.executors.providers import Provider

_WITH_MEMORY = re.compile(r"cpu|coreml|intel-(gpu|npu)|(gpu|directml)[0-9]+")


def _has_memory(device: str) -> str:
    if not _WITH_MEMORY.fullmatch(device):
        raise ValueError(
            f"no device with a memory of its own is called {device!r}; there are cpu, gpu0 (gpu1"
            " and so on), directml0, intel-gpu, intel-npu, coreml"
        )
    return device


Device = Annotated[str, AfterValidator(_has_memory)]
Mebibytes = Annotated[float, Field(gt=0, allow_inf_nan=False)]


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
    device_memory_mib: dict[Device, Mebibytes] = Field(
        default_factory=dict,
        description="MiB that variants may take on a device, as in { cpu = 2048, gpu0 = 8192 };"
        " which of them are loaded then follows what is asked for. Devices that are not named hold"
        " everything.",
    )

    @field_validator("device_memory_mib", mode="before")
    @classmethod
    def _from_the_command_line(cls, given: object) -> object:
        """As in `--set device_memory_mib=cpu=2048,gpu0=8192`."""
        if not isinstance(given, str):
            return given
        pairs = [each.partition("=") for each in given.split(",")]
        return {device.strip(): mib for device, _, mib in pairs}

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
    def device_memory(self) -> Mapping[str, float]:
        """In bytes, by each device that has a limit."""
        return {device: mib * 2.0**20 for device, mib in self.device_memory_mib.items()}

    @property
    def worker_memory(self) -> float:
        """In bytes, infinite for no limit."""
        return self.worker_memory_mib * 2.0**20 or math.inf
