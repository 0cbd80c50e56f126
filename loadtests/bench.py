"""gearshift beside a bare gRPC handler and ONNX Runtime alone: same artifacts, same client.

`make bench`. Rounds are interleaved, so that a change of the machine's speed meets all alike;
the table gives medians and the ratio round by round with its spread. The client shares the
machine's cores with the server, as in every row.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import numpy as np
import onnxruntime as ort

ROOT = Path(__file__).parents[1]
CALLERS = (1, 8, 64)
# The most accurate and the fastest: a model of milliseconds and one of microseconds.
CASES = (("fraud", -1), ("garment", -1), ("garment", 0))


def variants(model: str) -> list[tuple[str, str]]:
    """(name, version) from the most to the least accurate."""
    told = tomllib.loads((ROOT / "model_repo" / model / "model.toml").read_text())["variants"]
    ordered = sorted(told, key=lambda variant: variant["version"])
    return [(variant["name"], str(variant["version"])) for variant in ordered]


def without_budgets(folder: Path) -> Path:
    """A copy of the repository whose classes have no budget: 64 callers in a closed loop would
    only measure how fast requests are refused."""
    copy = folder / "model_repo"
    shutil.copytree(ROOT / "model_repo", copy)
    for told in copy.glob("*/model.toml"):
        lines = told.read_text().splitlines(keepends=True)
        told.write_text("".join(line for line in lines if not line.startswith("budget_ms")))
    return copy


def start_gearshift(repository: Path, *options: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gearshift", "serve", "--grpc-port", "0", "--http-port", "0"),
            *("--repository", str(repository), "--log-level", "warning"),
            *("--state-dir", str(ROOT / "build" / "state"), *options),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    return process, re.search(r"gRPC on (\S+),", line)[1]


def start_bare(artifact: Path) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [
            *(sys.executable, str(ROOT / "loadtests" / "bare_server.py")),
            *(str(artifact), str(os.cpu_count())),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, f"127.0.0.1:{process.stdout.readline().strip()}"


def ask(address: str, model: str, version: str, callers: int, seconds: float) -> dict:
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "loadtests" / "closed_loop.py"), address, model),
            *(version, str(callers), str(seconds)),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60 + seconds,
    )
    return json.loads(done.stdout)


def alone(artifact: Path, model: str, seconds: float) -> float:
    """Rows a second of ONNX Runtime itself, one thread, one row at a time."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(artifact), options, ["CPUExecutionProvider"])
    with np.load(ROOT / "model_repo" / model / "samples.npz", allow_pickle=False) as file:
        feed = {session.get_inputs()[0].name: file["inputs"][:1]}
    count, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        session.run(None, feed)
        count += 1
    return count / seconds


def bench(rounds: int, seconds: float) -> list[str]:
    lines = [
        "| model, variant | callers | gearshift req/s | bare gRPC req/s | ratio (min to max) |"
        " gearshift p50 / p99 ms | bare p50 / p99 ms | ONNX Runtime alone, 1 thread, rows/s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory() as folder:
        ours, address = start_gearshift(without_budgets(Path(folder)))
    try:
        for model, position in CASES:
            name, version = variants(model)[position]
            artifact = ROOT / "model_repo" / model / name / "model.onnx"
            bare, bare_address = start_bare(artifact)
            try:
                for callers in CALLERS:
                    pairs, lone = [], []
                    for _ in range(rounds):
                        pairs.append(
                            (
                                ask(address, model, version, callers, seconds),
                                ask(bare_address, model, version, callers, seconds),
                            )
                        )
                        lone.append(alone(artifact, model, 0.5))
                    lines.append(row(f"{model}, {name}", callers, pairs, lone))
                    print(lines[-1], flush=True)
            finally:
                bare.terminate()
                bare.wait()
    finally:
        ours.terminate()
        ours.wait()
    return lines


def row(title: str, callers: int, pairs: list, lone: list[float]) -> str:
    def median(side: int, key: str) -> float:
        return statistics.median(pair[side][key] for pair in pairs)

    ratios = [a["requests_per_s"] / b["requests_per_s"] for a, b in pairs]
    refused = sum(a["refused"] for a, _ in pairs)
    note = f" ({refused} refused)" if refused else ""
    return (
        f"| {title} | {callers} | {median(0, 'requests_per_s'):,.0f}{note} |"
        f" {median(1, 'requests_per_s'):,.0f} |"
        f" {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        f" {median(0, 'p50_ms'):.2f} / {median(0, 'p99_ms'):.2f} |"
        f" {median(1, 'p50_ms'):.2f} / {median(1, 'p99_ms'):.2f} |"
        f" {statistics.median(lone):,.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    arguments = parser.parse_args()
    lines = bench(arguments.rounds, arguments.seconds)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "bench.md").write_text(
        "# What serving costs beside the model\n\n"
        f"Made by `make bench` ({arguments.rounds} interleaved rounds of"
        f" {arguments.seconds:g} s each) on {os.cpu_count()} cores, {platform.machine()},"
        f" Python {platform.python_version()}, onnxruntime {ort.__version__}. Client and server"
        " share the cores. Closed loop: each caller asks again as soon as it is answered, so"
        " latency at 64 callers is mostly waiting for the others. Versions are pinned, and the"
        " classes' budgets are taken out: every request runs the named variant.\n\n"
        "`bare gRPC` is `loadtests/bare_server.py`: an asyncio handler without queue, batching,"
        " routing or metrics. Compare within a row only: the machine's speed varies from day to"
        " day.\n\n" + "\n".join(lines) + "\n"
    )


if __name__ == "__main__":
    main()
