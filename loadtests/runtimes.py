"""The same networks by ONNX Runtime, by PyTorch as it is, and by PyTorch compiled.

    python -m loadtests.runtimes --out docs/results

Two networks with the same weights for each runtime: an MLP of 30-256-256-1, as for fraud, and a
small convolutional one for 28x28 pictures. Each run is one call of an executor on a worker's
thread, timed as the server's profiles are; runs take turns, five of each, so that whatever else the
machine does meets all alike. Cold is a new process's way from nothing to the first answer. Compiled
is `torch.compile(dynamic=True)` of the same program (Inductor, a C++ compiler at hand), which
gearshift does not do: it is here to know what that would bring.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import uvloop
from loadtests.first_answer import MOST_ROWS, WORKER, model_of
from loadtests.peers.environment import environment, stolen, stolen_since
from onnx import TensorProto, helper, numpy_helper

from gearshift.core.catalog import Model, Variant
from gearshift.executors.onnx import OnnxExecutor
from gearshift.executors.pytorch import TorchExecutor
from gearshift.ports import Executor

BATCHES = (1, 8, MOST_ROWS)
TURN = 5
SECONDS = 3.0
"""For each network and batch."""
COLDS = 5


@dataclass(frozen=True, slots=True)
class Network:
    name: str
    module: Any
    graph: Any
    shape: Sequence[int]


def mlp(chance: np.random.Generator) -> Network:
    sizes = (30, 256, 256, 1)
    layers: list[Any] = []
    nodes, weights = [], []
    last = "x"
    for index, (wide, narrow) in enumerate(pairwise(sizes)):
        weight = chance.normal(0, wide**-0.5, (narrow, wide)).astype(np.float32)
        linear = torch.nn.Linear(wide, narrow)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight))
            linear.bias.zero_()
        weights += [
            numpy_helper.from_array(weight, f"w{index}"),
            numpy_helper.from_array(np.zeros(narrow, np.float32), f"b{index}"),
        ]
        end = index == len(sizes) - 2
        out = "y" if end else f"h{index}"
        nodes.append(helper.make_node("Gemm", [last, f"w{index}", f"b{index}"], [out], transB=1))
        layers.append(linear)
        last = out
        if not end:
            nodes.append(helper.make_node("Relu", [out], [f"r{index}"]))
            layers.append(torch.nn.ReLU())
            last = f"r{index}"
    return Network(
        "MLP 30-256-256-1", torch.nn.Sequential(*layers), _graph(nodes, weights, [30], [1]), [30]
    )


def convolutional(chance: np.random.Generator) -> Network:
    channels = (1, 16, 32, 64)
    layers: list[Any] = []
    nodes, weights = [], []
    last = "x"
    for index, (few, many) in enumerate(pairwise(channels)):
        weight = chance.normal(0, (9 * few) ** -0.5, (many, few, 3, 3)).astype(np.float32)
        convolution = torch.nn.Conv2d(few, many, 3, stride=2, padding=1, bias=False)
        with torch.no_grad():
            convolution.weight.copy_(torch.from_numpy(weight))
        weights.append(numpy_helper.from_array(weight, f"w{index}"))
        options = {"strides": [2, 2], "pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
        nodes.append(helper.make_node("Conv", [last, f"w{index}"], [f"c{index}"], **options))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"]))
        layers += [convolution, torch.nn.ReLU()]
        last = f"r{index}"
    weight = chance.normal(0, 0.1, (10, 64)).astype(np.float32)
    linear = torch.nn.Linear(64, 10)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weight))
        linear.bias.zero_()
    weights += [
        numpy_helper.from_array(weight, "w"),
        numpy_helper.from_array(np.zeros(10, np.float32), "b"),
    ]
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["y"], transB=1),
    ]
    layers += [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), linear]
    module = torch.nn.Sequential(*layers)
    return Network(
        "convolutional, 28x28", module, _graph(nodes, weights, [1, 28, 28], [10]), [1, 28, 28]
    )


def _graph(nodes: Any, weights: Any, taken: Sequence[int], given: Sequence[int]) -> Any:
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", *taken])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", *given])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


class Named(torch.nn.Module):
    """With inputs and outputs called as those of the graph."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Any) -> Mapping[str, Any]:
        return {"y": self.module(x)}


def written(network: Network, folder: Path) -> Mapping[str, Path]:
    """The artifacts, by executor."""
    rows = torch.export.Dim("rows", min=1, max=MOST_ROWS)
    sample = torch.zeros(2, *network.shape)
    program = torch.export.export(
        Named(network.module).eval(), (), {"x": sample}, dynamic_shapes={"x": {0: rows}}
    )
    paths = {"onnx": folder / "model.onnx", "torch": folder / "model.pt2"}
    folder.mkdir(parents=True)
    torch.export.save(program, paths["torch"])
    onnx.save(network.graph, paths["onnx"])
    return paths


async def timed(
    network: Network, paths: Mapping[str, Path]
) -> list[tuple[int, dict[str, list[float]]]]:
    """Seconds of each run, by batch and way."""
    executors: dict[str, Executor] = {
        "onnx": OnnxExecutor(["CPUExecutionProvider"]),
        "torch": TorchExecutor("cpu"),
        "compiled": TorchExecutor("cpu"),
    }
    asked: dict[str, tuple[Executor, Model, Variant]] = {}
    for way, executor in executors.items():
        kind = "onnx" if way == "onnx" else "torch"
        model, variant = model_of(network.shape, kind, paths[kind])
        executor.load(model, variant)
        asked[way] = executor, model, variant
    compiled: Any = executors["compiled"]
    for name, (program, module) in compiled._loaded.items():
        compiled._loaded[name] = program, torch.compile(module, dynamic=True)
    found = []
    chance = np.random.default_rng(1)
    for batch in BATCHES:
        inputs = {"x": chance.normal(size=(batch, *network.shape)).astype(np.float32)}
        answers = {}
        for way, (executor, model, variant) in asked.items():
            for _ in range(20):
                answers[way] = (await executor.run(WORKER, model, variant, inputs))["y"]
        for way in ("torch", "compiled"):
            assert np.allclose(answers["onnx"], answers[way], rtol=1e-3, atol=1e-4), (way, batch)
        seconds: dict[str, list[float]] = {way: [] for way in asked}
        until = time.perf_counter() + SECONDS
        while time.perf_counter() < until:
            for way, (executor, model, variant) in asked.items():
                for _ in range(TURN):
                    begun = time.perf_counter()
                    await executor.run(WORKER, model, variant, inputs)
                    seconds[way].append(time.perf_counter() - begun)
        found.append((batch, seconds))
    for executor in executors.values():
        executor.close()
    return found


def cold(kind: str, path: Path, shape: Sequence[int]) -> float:
    """Seconds of a new process, from its start to its first answer."""
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "loadtests.first_answer", kind, str(path), *map(str, shape)],
        check=True,
    )
    return time.perf_counter() - begun


def page(rows: Sequence[Sequence[str]], colds: Sequence[Sequence[str]], head: str) -> str:
    """In Markdown."""
    about = " ".join((__doc__ or "").split("results\n", 1)[1].split())
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    cold_lines = "\n".join(f"| {' | '.join(row)} |" for row in colds)
    return (
        f"# ONNX Runtime and PyTorch, the same networks\n\n{head}\n\n{about}\n\n"
        "## Warm: p50 (p99) of a run, ms\n\n"
        "| network | rows | ONNX Runtime | PyTorch | times as long | PyTorch compiled | times as"
        " long |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        f"{lines}\n\n## Cold: seconds to the first answer of a new process\n\n"
        "| network | ONNX Runtime | PyTorch |\n| --- | ---: | ---: |\n"
        f"{cold_lines}\n\nNone of it was run on a GPU: there was none.\n"
    )


def told(seconds: Sequence[float]) -> str:
    ordered = sorted(seconds)
    p99 = ordered[(99 * len(ordered)) // 100]
    return f"{1e3 * statistics.median(ordered):.3f} ({1e3 * p99:.3f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out: Path = parser.parse_args().out
    before = stolen()
    chance = np.random.default_rng(0)
    rows: list[list[str]] = []
    colds: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        for network in (mlp(chance), convolutional(chance)):
            paths = written(network, Path(folder) / network.name.replace(" ", "-"))
            for batch, seconds in uvloop.run(timed(network, paths)):
                middle = {way: statistics.median(each) for way, each in seconds.items()}
                row = [network.name, str(batch), told(seconds["onnx"])]
                for way in ("torch", "compiled"):
                    row += [told(seconds[way]), f"{middle[way] / middle['onnx']:.1f}"]
                rows.append(row)
            took: dict[str, list[float]] = {"onnx": [], "torch": []}
            for _ in range(COLDS):
                for kind, each in took.items():
                    each.append(cold(kind, paths[kind], network.shape))
            colds.append(
                [
                    network.name,
                    *(
                        f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})"
                        for each in took.values()
                    ),
                ]
            )
    machine = environment()
    head = (
        f"Made by `make bench-runtimes` on {machine['cores']} cores of {machine['cpu']}"
        f" ({machine['flags']}), Python {machine['python']}, onnxruntime {machine['onnxruntime']},"
        f" torch {torch.__version__}, gearshift at {machine['gearshift']}; the host took"
        f" {stolen_since(*before)} of the cores. One thread a run."
    )
    text = page(rows, colds, head)
    (out / "runtimes.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
