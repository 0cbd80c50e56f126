"""Workers, and what runs artifacts on them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from gearshift.core.artifact import Artifact
from gearshift.core.catalog import Model, Signature, Variant

Array = npt.NDArray[Any]
Tensors = Mapping[str, Array]
"""Arrays by tensor name, each (rows, *shape) in the datatype of its TensorSpec; those of BF16 are
float32 (`gearshift.ports.bfloat16`)."""

BYTES = np.dtype(object)
"""The datatype BYTES travels as an object array of `bytes`."""

EXPRESS = "express"
"""The device of a worker beside those that have a core each, for runs of less than about a
millisecond. They fit in between, on whichever core the caller is (`Executor.run_here`), and nobody
with a budget of ten has to wait for a longer run to end."""

REMOTE = "remote"
"""The device of places on other servers, which may be down while this one serves."""

SHORT = 0.001
"""Seconds: the longest median of a batch that runs on the express worker."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One thing that runs one batch at a time: its number and the device it stands for."""

    id: int
    device: str


@dataclass(frozen=True, slots=True)
class Placed:
    """How a loaded variant is placed on one device: what runs it there (a provider or a runtime,
    empty where it does not run there), how many bytes of its own lie there as far as is known, and
    what was asked for on that device and does not run it."""

    device: str
    runs: str = ""
    size: int = 0
    lacking: Sequence[str] = ()


class Executor(Protocol):
    """Runs variants' artifacts. One call to `run` per worker at a time.

    `inspect`, `load`, `unload` and `close` may block; `run` may not.
    """

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that this executor runs on here, such as `cpu`."""

    @property
    def identity(self) -> str:
        """Library, version and providers: a change of it makes old profiles worthless."""

    @property
    def runs_here(self) -> bool:
        """Whether `run_here` may be called: not where workers are processes of their own."""

    def inspect(self, artifact: Artifact) -> Signature:
        """The signature of an artifact; ValueError with a sentence if it cannot be served."""

    def load(self, model: Model, variant: Variant) -> None:
        """Make the variant ready to run, beside that of another generation of the model, from the
        bytes that have its hash (`artifacts.read_again`); ValueError with a sentence if that fails.
        """

    def unload(self, model: Model, variant: Variant) -> None:
        """Give back what this variant of this generation holds; it is not run again."""

    def placed(self, model: Model, variant: Variant) -> Sequence[Placed]:
        """Where a loaded variant lies, device by device; empty where it is not loaded. Any thread
        may ask."""

    async def run(
        self,
        worker: Worker,
        model: Model,
        variant: Variant,
        inputs: Tensors,
        within: float = math.inf,
    ) -> Tensors:
        """Run one batch. After `within` seconds nobody has use for the answer: whoever can end a
        run then may. Raises ExecutorUnavailable if the backend is down, WorkerLost if the worker is
        gone, or whatever broke. A run that hangs is cancelled: that must end this call at once,
        whatever becomes of the run."""

    def run_here(self, model: Model, variant: Variant, inputs: Tensors) -> Tensors:
        """The same at once, on the caller's thread, for the express worker."""

    async def replace(self, worker: Worker) -> None:
        """The worker is lost: it hangs, and its run was cancelled, or it is gone. Returns when
        `run` may be called for it again; what it still does, if anything, is nobody's. Raises
        what keeps it from that; it is then tried again later."""

    @property
    def stuck(self) -> int:
        """Runs given up that still hold a thread and what they need, because nothing can end
        them."""

    def close(self) -> None:
        """Give everything back; `run` is not called again."""


@runtime_checkable
class ByDevice(Executor, Protocol):
    """An executor that can have a variant on some of its devices only. All calls may block."""

    def all_devices(self) -> tuple[str, ...]:
        """Its `devices`, also where it knows them for certain only once it has looked."""

    def load_on(self, model: Model, variant: Variant, device: str) -> None:
        """As `load` on this one of its devices, beside those that the variant is on already."""

    def unload_from(self, model: Model, variant: Variant, device: str) -> None:
        """Give back what the variant holds on this device; runs under way there end as they would
        have."""
