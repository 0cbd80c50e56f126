"""NVIDIA's model-analyzer as it stands, in its remote mode: it reads a model's configuration, lets
perf_analyzer measure the model, and writes its reports."""

from __future__ import annotations

import csv
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from loadtests.peers.peer import Place, install
from loadtests.stock_clients import perf_analyzer

NAME = "model_analyzer"
MODEL = "garment"
ENDED_WITHIN = 900.0
METRICS = "results/metrics-model-inference.csv"


def prepare(place: Place) -> Path:
    """The program. Absent if something of it cannot be had."""
    install(place, NAME)
    return place.folder / NAME / "bin" / "model-analyzer"


def run(program: Path, perf: Path, repository: Path, addresses: Mapping[str, str]) -> str:
    """One configuration, one caller; what became of it in a few words. `perf` is perf_analyzer."""
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            (
                *(str(program), "profile", "--profile-models", MODEL),
                *("--triton-launch-mode", "remote", "--reload-model-disable"),
                *("--triton-grpc-endpoint", addresses["grpc"]),
                *("--triton-http-endpoint", addresses["http"]),
                *("--triton-metrics-url", f"http://{addresses['http']}/metrics/triton"),
                *("--model-repository", str(repository)),
                *("--output-model-repository-path", f"{scratch}/repository"),
                *("--checkpoint-directory", f"{scratch}/checkpoints"),
                *("--export-path", f"{scratch}/export"),
                *("--run-config-search-disable", "--concurrency", "1", "--batch-sizes", "1"),
                *("--perf-analyzer-path", str(perf)),
            ),
            cwd=scratch,
            env=os.environ | perf_analyzer.libraries(perf),
            capture_output=True,
            text=True,
            timeout=ENDED_WITHIN,
            check=False,
        )
        found = Path(scratch, "export", METRICS)
        if done.returncode == 0 and found.exists():
            with found.open() as file:
                measured = next(csv.DictReader(file))
            if float(measured["Throughput (infer/sec)"]) > 0.0:
                return (
                    f"measured `{measured['Model Config Path']}` ({measured['Instance Group']},"
                    f" batches of up to {measured['Max Batch Size']}) and wrote its reports"
                )
    told = [line for line in (done.stdout + done.stderr).splitlines() if "rror" in line]
    return f"failed: {(told or ['it said nothing'])[0][:200]}"
