"""A real server of made models for the runs here."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import numpy as np
from loadtests.peers.models import INPUT, Files, Graph, Model, big, make
from loadtests.peers.peer import ROOT, wait_until_right
from loadtests.peers.plain import write_model
from loadtests.peers.processes import Tree, free_port
from loadtests.reliability.asking import METHOD
from onnx import numpy_helper
from tritonclient.grpc import service_pb2 as pb

SIDE = 64
"""Height and width of the picture that is made of each request's few numbers: what is sent is small
and costs neither side much, what is computed is not."""


def drawn(graph: Graph, narrowest: int) -> None:
    flat = graph.dense(INPUT, 16, 3 * SIDE * SIDE)
    shape = numpy_helper.from_array(np.array([0, 3, SIDE, SIDE]), "shape")
    graph.weights.append(shape)
    big(graph, narrowest, graph.add("Reshape", flat, "shape"))


WIDE = Model("wide", partial(drawn, narrowest=64), (16,), 1000, 8)
HALF = Model("half", partial(drawn, narrowest=32), (16,), 1000, 8)

MEASURED = 6.0
"""Seconds in which the capacity is measured."""

CALLERS = 16


@dataclass(frozen=True, slots=True)
class Served:
    tree: Tree
    port: int
    files: Files

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def message(self, **parameters: str) -> bytes:
        """One request."""
        asked = pb.ModelInferRequest.FromString(self.files.request.read_bytes())
        for name, value in parameters.items():
            asked.parameters[name].string_param = value
        return bytes(asked.SerializeToString())


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[Served]:
    """A wide model and one half as wide, by one worker: the other core is the callers'."""
    models = folder / "models"
    files = make(WIDE, models)
    half = make(HALF, models)
    files = Files(files.model, files.folder, (half,))
    write_model(folder / "repository" / files.name, files)
    port = free_port()
    tree = Tree(
        (
            *(sys.executable, "-m", "gearshift", "serve", "--workers", "1", "--no-drift"),
            *("--grpc-port", str(port), "--http-port", "0", "--no-feedback"),
            *("--log-level", "warning", "--repository", str(folder / "repository")),
            *("--state-dir", str(folder / "state"), *options),
        ),
        folder / "server.log",
        {"PYTHONPATH": str(ROOT / "service")},
    )
    try:
        wait_until_right(tree, {files.name: files}, port, 1)
        yield Served(tree, port, files)
    finally:
        tree.end()


def capacity(served: Served, seconds: float = MEASURED) -> float:
    """Answers a second by the quicker variant, to callers who ask as soon as they are answered."""
    message = served.message(variant=HALF.name)

    async def run() -> float:
        async with grpc.aio.insecure_channel(served.address) as channel:
            call = channel.unary_unary(METHOD)
            count = 0
            end = time.monotonic() + seconds

            async def caller() -> None:
                nonlocal count
                while time.monotonic() < end:
                    await call(message, timeout=60)
                    count += 1

            begun = time.monotonic()
            await asyncio.gather(*(caller() for _ in range(CALLERS)))
            return count / (time.monotonic() - begun)

    return asyncio.run(run())


def percent(part: float, whole: float) -> float:
    return 100.0 * part / max(whole, 1e-9)


def percentile(values: Sequence[float], share: float) -> float:
    """Of sorted or unsorted values; not a number without any."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")
