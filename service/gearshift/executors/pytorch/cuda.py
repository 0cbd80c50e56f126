"""A worker on a GPU: a stream, pinned memory on the way there and back, and a CUDA graph for each
number of rows.

Launching a program's kernels one by one from Python takes longer than the kernels of a small model.
A CUDA graph launches all of them at once, but always for the same addresses and shapes: so there
is one for each power of two of rows, with tensors of its own that inputs are copied into, and
what a batch has fewer is filled with zeros (https://docs.pytorch.org/docs/stable/notes/cuda.html,
"CUDA Graphs").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
import torch

from gearshift.executors.key import Key
from gearshift.executors.pytorch.program import Program
from gearshift.ports import Array, Tensors

log = structlog.get_logger(__name__)

WARM_UPS = 3
"""Runs before a graph is captured: libraries choose their kernels and take their memory then."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """For one number of rows of one variant; `graph` is None where none could be captured."""

    sent: Mapping[str, Any]
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    received: Mapping[str, Any]
    graph: Any
    size: int
    """Bytes on the GPU: its tensors, and what the graph keeps for its kernels."""


class Stream:
    """Used from one thread, for one batch at a time."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)
        self._plans: dict[tuple[Key, int], _Plan] = {}

    def size(self, name: Key) -> int:
        """Bytes that its plans for a variant keep on the GPU."""
        return sum(plan.size for (held, _), plan in list(self._plans.items()) if held == name)

    def forget(self, name: Key) -> None:
        """Give back what belongs to a variant."""
        for held in [held for held in list(self._plans) if held[0] == name]:
            self._plans.pop(held, None)

    def run(self, name: Key, program: Program, module: Any, inputs: Tensors) -> dict[str, Array]:
        """Copy there, run, copy back; returns when the outputs are here."""
        rows = len(next(iter(inputs.values())))
        size = 1 << (rows - 1).bit_length()
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            plan = self._plans.get((name, size))
            if plan is None:
                plan = self._plans[name, size] = self._plan(program, module, inputs, size)
            for each, array in inputs.items():
                sent = plan.sent[each].numpy()
                sent[:rows] = array
                sent[rows:] = 0
                plan.inputs[each].copy_(plan.sent[each], non_blocking=True)
            outputs = plan.outputs
            if plan.graph is not None:
                plan.graph.replay()
            else:
                outputs = program.call(module, plan.inputs)
            for each, output in outputs.items():
                plan.received[each].copy_(output, non_blocking=True)
            self._stream.synchronize()
        # A copy, because the next batch comes back to the same place.
        return {each: tensor.numpy()[:rows].copy() for each, tensor in plan.received.items()}

    def _plan(self, program: Program, module: Any, inputs: Tensors, size: int) -> _Plan:
        sent = {
            each: torch.zeros(
                (size, *array.shape[1:]), dtype=torch.from_numpy(array[:0].copy()).dtype
            ).pin_memory()
            for each, array in inputs.items()
        }
        there = {each: tensor.to(self.device) for each, tensor in sent.items()}
        for _ in range(WARM_UPS):
            outputs = program.call(module, there)
        self._stream.synchronize()
        graph: Any = torch.cuda.CUDAGraph()
        try:
            # Other workers go on meanwhile, in threads of their own.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                outputs = program.call(module, there)
        except RuntimeError as error:
            log.warning("no CUDA graph, its kernels are launched one by one", reason=str(error))
            graph = None
        received = {
            each: torch.empty_like(output, device="cpu").pin_memory()
            for each, output in outputs.items()
        }
        # The graph's outputs lie in its pool.
        size = sum(each.nbytes for each in there.values())
        return _Plan(sent, there, outputs, received, graph, size + _pool(graph))


def _pool(graph: Any) -> int:
    """Bytes of the pool that a graph takes what its kernels need from (torch.cuda.memory_snapshot,
    in which each segment names its pool)."""
    if graph is None:
        return 0
    own = tuple(graph.pool())
    return sum(
        each["total_size"]
        for each in torch.cuda.memory_snapshot()
        if tuple(each["segment_pool_id"]) == own
    )
