"""How the rest scales: variants, models in memory, idle connections, large messages.

    python -m loadtests.scale --out docs/results

Starts the server on repositories of 10, 100 and 1,000 variants of a tiny network (ten a model),
once with nothing known about this machine and once with its profiles kept; weighs the three models
of `loadtests.peers` and those that are shipped; holds thousands of idle HTTP/2 connections open;
sends tensors of up to 60 MiB.
"""

from __future__ import annotations

import argparse
import platform
import re
import resource
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import tritonclient.grpc as triton
from loadtests.peers.environment import command_line, described, environment
from loadtests.peers.models import BIG, MODELS, make
from loadtests.peers.peer import ROOT
from loadtests.peers.plain import write_model
from loadtests.peers.processes import Tree
from onnx import TensorProto, helper, numpy_helper

VARIANTS = (10, 100, 1_000)
VARIANTS_A_MODEL = 10
WIDTH = 30
CONNECTIONS = (1_000, 10_000)
MEGABYTES = (1, 16, 60)
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
START_WITHIN = 1_800.0
IDLE_SECONDS = 5.0
CALLERS = 16
"""Of each of the three models, all at the same time."""
ASKED = {"tiny": 300, "mid": 100, "big": 15}
"""Requests of each caller."""


def network(path: Path, hidden: int, seed: int) -> None:
    """x FP32 [n, WIDTH] -> y FP32 [n, 1]."""
    rng = np.random.default_rng((hidden, seed))
    first = rng.normal(size=(WIDTH, hidden)).astype(np.float32)
    second = rng.normal(size=(hidden, 1)).astype(np.float32)
    _save(
        path,
        [
            helper.make_node("MatMul", ["x", "a"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("MatMul", ["r", "b"], ["y"]),
        ],
        WIDTH,
        {"a": first, "b": second},
    )


def widest(path: Path, width: int) -> None:
    """x FP32 [n, width] -> y FP32 [n, 1]: as large a tensor as one likes, and little work."""
    _save(
        path,
        [helper.make_node("ReduceMax", ["x"], ["y"], axes=[1], keepdims=1)],
        width,
        {},
    )


def _save(path: Path, nodes: list, width: int, weights: dict[str, np.ndarray]) -> None:
    graph = helper.make_graph(
        nodes,
        "scale",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)


def repository(folder: Path, variants: int) -> Path:
    for number in range(variants // VARIANTS_A_MODEL):
        model = folder / f"m{number:03}"
        text = 'metric = "top1"\nmax_batch_size = 16\ndefault_class = "d"\n\n[classes.d]\n'
        for version in range(1, VARIANTS_A_MODEL + 1):
            network(model / f"v{version}" / "model.onnx", 8 * version, number)
            text += (
                f'\n[[variants]]\nname = "v{version}"\nversion = {version}\n'
                f'executor = "onnx"\naccuracy = {0.5 + 0.04 * version:.2f}\n'
            )
        (model / "model.toml").write_text(text)
    return folder


def wide_repository(folder: Path) -> Path:
    for size in MEGABYTES:
        widest(folder / f"w{size}" / "v" / "model.onnx", size * 2**20 // 4)
        (folder / f"w{size}" / "model.toml").write_text(
            'metric = "top1"\nmax_batch_size = 1\ndefault_class = "d"\n\n[classes.d]\n'
            '\n[[variants]]\nname = "v"\nversion = 1\nexecutor = "onnx"\naccuracy = 1.0\n'
        )
    return folder


@dataclass(frozen=True, slots=True)
class Server:
    tree: Tree
    address: str
    ready_after: float


@contextmanager
def served(folder: Path, state: Path) -> Iterator[Server]:
    begun = time.monotonic()
    command = (sys.executable, "-m", "gearshift", "serve", "--repository", str(folder))
    ports = ("--state-dir", str(state), "--grpc-port", "0", "--http-port", "0")
    log = state.parent / "serve.log"
    tree = Tree((*command, *ports), log, {})
    try:
        while (found := re.search(r"ready: gRPC on (\S+),", log.read_text())) is None:
            if not tree.alive or time.monotonic() - begun > START_WITHIN:
                raise SystemExit(f"the server did not come up: {log.read_text()[-2_000:]}")
            time.sleep(0.05)
        yield Server(tree, found[1], time.monotonic() - begun)
    finally:
        tree.end()


def latency_ms(address: str, model: str, width: int, rounds: int) -> float:
    """Median of a request at a time."""
    took = []
    with triton.InferenceServerClient(address) as client:
        tensor = triton.InferInput("x", [1, width], "FP32")
        tensor.set_data_from_numpy(np.ones((1, width), np.float32))
        for _ in range(rounds):
            begun = time.perf_counter()
            client.infer(model, [tensor])
            took.append(time.perf_counter() - begun)
    return 1e3 * statistics.median(took)


def by_variants(folder: Path, most: int) -> Iterator[str]:
    yield (
        "| variants | first start, s (CPU) | next start, s (CPU) | MB (PSS) | ms a request"
        " | CPU while idle, of one core |"
    )
    yield "| ---: | ---: | ---: | ---: | ---: | ---: |"
    for count in VARIANTS:
        if count > most:
            continue
        place = folder / str(count)
        models = repository(place / "models", count)
        with served(models, place / "state") as server:
            first = f"{server.ready_after:.1f} ({server.tree.cpu_seconds():.1f})"
        with served(models, place / "state") as server:
            next_ = f"{server.ready_after:.1f} ({server.tree.cpu_seconds():.1f})"
            took = latency_ms(server.address, "m000", WIDTH, 200)
            memory = server.tree.memory_bytes() / 1e6
            before = server.tree.cpu_seconds()
            time.sleep(IDLE_SECONDS)
            idle = 100 * (server.tree.cpu_seconds() - before) / IDLE_SECONDS
            row = f"| {count:,} | {first} | {next_} | {memory:.0f} | {took:.2f} | {idle:.1f} % |"
            yield row
        print(row, flush=True)


def by_models(folder: Path) -> Iterator[str]:
    yield "| models | MB of artifacts | MB (PSS) when ready | after many requests at once |"
    yield "| --- | ---: | ---: | ---: |"
    three = folder / "models"
    for model in MODELS:
        write_model(three / model.name, make(model, folder / "made"))
    with served(three, folder / "state") as server:
        ready = server.tree.memory_bytes() / 1e6
        with ThreadPoolExecutor(CALLERS * len(MODELS)) as callers:
            for model in MODELS * CALLERS:
                callers.submit(ask, server.address, model.name, model.shape, ASKED[model.name])
        after = server.tree.memory_bytes() / 1e6
        names = ", ".join(model.name for model in MODELS)
        yield f"| {names} | {artifacts(three)} | {ready:.0f} | {after:.0f} |"
        print(ready, after, flush=True)
    with served(ROOT / "model_repo", folder / "state") as server:
        ready = server.tree.memory_bytes() / 1e6
        yield f"| the shipped ones | {artifacts(ROOT / 'model_repo')} | {ready:.0f} | |"
        print(ready, flush=True)


def artifacts(repository: Path) -> str:
    return f"{sum(path.stat().st_size for path in repository.glob('*/*/model.onnx')) / 1e6:.0f}"


def ask(address: str, model: str, shape: tuple[int, ...], requests: int) -> None:
    own = [("grpc.use_local_subchannel_pool", 1)]
    with triton.InferenceServerClient(address, channel_args=own) as client:
        tensor = triton.InferInput("x", [1, *shape], "FP32")
        tensor.set_data_from_numpy(np.ones((1, *shape), np.float32))
        for _ in range(requests):
            client.infer(model, [tensor])


def by_connections(folder: Path) -> Iterator[str]:
    yield "| idle connections | kB a connection | ms a request beside them |"
    yield "| ---: | ---: | ---: |"
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    models = repository(folder / "models", 10)
    with served(models, folder / "state") as server:
        host, port = server.address.split(":")
        latency_ms(server.address, "m000", WIDTH, 50)
        before, opened = server.tree.memory_bytes(), []
        for count in CONNECTIONS:
            while len(opened) < count:
                opened.append(socket.create_connection((host, int(port)), timeout=10))
                opened[-1].sendall(GREETING)
            time.sleep(2.0)
            took = latency_ms(server.address, "m000", WIDTH, 200)
            each = (server.tree.memory_bytes() - before) / count / 1e3
            yield f"| {count:,} | {each:.1f} | {took:.2f} |"
            print(count, each, took, flush=True)
        for connection in opened:
            connection.close()


def by_size(folder: Path) -> Iterator[str]:
    yield "| MiB a request | ms a request | MiB/s | MB (PSS) before, after |"
    yield "| ---: | ---: | ---: | ---: |"
    with served(wide_repository(folder / "models"), folder / "state") as server:
        for size in MEGABYTES:
            before = server.tree.memory_bytes() / 1e6
            took = latency_ms(server.address, f"w{size}", size * 2**20 // 4, 10)
            after = server.tree.memory_bytes() / 1e6
            yield f"| {size} | {took:.0f} | {1e3 * size / took:.0f} | {before:.0f}, {after:.0f} |"
            print(size, took, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--most-variants", type=int, default=VARIANTS[-1])
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="gearshift-scale-"))
    try:
        parts = [
            ("Variants", by_variants(folder / "variants", arguments.most_variants)),
            ("Models in memory", by_models(folder / "memory")),
            ("Idle connections", by_connections(folder / "connections")),
            ("Large messages", by_size(folder / "sizes")),
        ]
        told = [f"## {title}\n\n" + "\n".join(lines) + "\n" for title, lines in parts]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    (arguments.out / "scale.md").write_text(
        "# How the rest scales\n\n"
        f"Made by `{command_line('loadtests.scale')}` on"
        f" {described(environment())}, {platform.machine()}. Client and server share the cores;"
        " one run, so that only sizes of things are to be read from it, not their last digits."
        " Variants are tiny networks, ten a model, each another one; the first start measures each"
        " of them on this machine, the next one finds the profiles. The models in memory are those"
        f" of [peers](peers.md) ({BIG.name}: ResNet-50's layout) and those of `model_repo`, with"
        f" all variants loaded; many requests: {CALLERS} callers of each model at once. PSS: what"
        " processes share is counted once.\n\n" + "\n".join(told)
    )


if __name__ == "__main__":
    main()
