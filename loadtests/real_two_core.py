"""The real server, open loop, beside the simulator: same models, same arrivals, same core.

    python loadtests/real_two_core.py --out docs/results

Fraud checks with 10 ms, tumour readings with 250 ms and a floor that only the best variant
meets, and pictures of clothes, eight a request, with 250 ms and for half of them a floor.
At load 1 the pictures alone would take 80 % of two workers if all were answered by the most
accurate variant, whose run of 30 ms is three times fraud's budget.

The client sends at the workload's arrival times whether answers come or not, and judges by
its own clock, from the moment a request should have been sent. It shares the two cores with
the server, which the simulator knows nothing of.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import uvloop
from arrivals import Arrivals
from sample_request import request_for
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from gearshift.ports import EXPRESS, SHORT

ROOT = Path(__file__).parents[1]
REPOSITORY, STATE = ROOT / "model_repo", ROOT / "build" / "state"
PATIENCE = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """`rate` requests a second at load 1, each of `rows` rows; `floor` for a `share` of them."""

    model: str
    rate: float
    budget_ms: float
    rows: int = 1
    floor: float = 0.0
    share: float = 1.0


TRAFFIC = (
    Traffic(model="fraud", rate=100.0, budget_ms=10.0),
    Traffic(model="tumor", rate=20.0, budget_ms=250.0, floor=0.9952),
    Traffic(
        model="garment",
        rate=53.0,
        budget_ms=250.0,
        rows=8,
        floor=0.94,
        share=0.5,
    ),
)

Request = tuple[float, Traffic, float]
"""Arrival in seconds, what is asked, and the floor."""


def workload(load: float, seconds: float, seed: int) -> list[Request]:
    rng = np.random.default_rng(seed)
    requests: list[Request] = []
    for traffic in TRAFFIC:
        for at in Arrivals(rate=traffic.rate * load).draw(seconds, rng):
            floored = rng.random() < traffic.share
            requests.append((float(at), traffic, traffic.floor if floored else 0.0))
    return sorted(requests, key=lambda request: request[0])


# --- the real server --------------------------------------------------------------------


def one_class_each(folder: Path) -> Path:
    """A copy of the repository in which a model has one class, with this traffic's budget."""
    copy = folder / "model_repo"
    for traffic in TRAFFIC:
        source, target = REPOSITORY / traffic.model, copy / traffic.model
        shutil.copytree(source, target)
        text = (source / "model.toml").read_text()
        head, variants = text.split("[[variants]]", 1)
        kept = re.findall(r"^(?:metric|max_batch_size) .*$", head, re.MULTILINE)
        declared = f'default_class = "bench"\n[classes.bench]\nbudget_ms = {traffic.budget_ms:g}\n'
        (target / "model.toml").write_text(
            "\n".join(kept) + "\n" + declared + "\n[[variants]]" + variants
        )
    return copy


def message_of(traffic: Traffic, floor: float) -> pb.ModelInferRequest:
    message = request_for(traffic.model, rows=traffic.rows)
    if floor:
        message.parameters["min_accuracy"].double_param = floor
    return message


async def drive(address: str, requests: Sequence[Request]) -> list[tuple[str, str, float, float]]:
    """(model, status, seconds, accuracy) of every request."""
    messages = {(t.model, f): message_of(t, f) for _, t, f in requests}
    async with grpc.aio.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for message in messages.values():  # connect, before anything is counted
            with suppress(grpc.RpcError):
                await stub.ModelInfer(message, timeout=PATIENCE)
        begun = time.perf_counter() + 0.1

        async def one(at: float, traffic: Traffic, floor: float) -> tuple[str, str, float, float]:
            try:
                answer = await stub.ModelInfer(messages[traffic.model, floor], timeout=PATIENCE)
            except grpc.RpcError as error:
                return traffic.model, error.code().name, 0.0, 0.0
            took = time.perf_counter() - begun - at
            return traffic.model, "OK", took, answer.parameters["accuracy"].double_param

        tasks = []
        for at, traffic, floor in requests:
            wait = begun + at - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(one(at, traffic, floor)))
        return await asyncio.gather(*tasks)


Figures = Mapping[str, tuple[float, float, float]]
"""By model: share answered in time by the server's clock, by the client's, and the mean
accuracy of what was answered; for the simulator the first two are one."""


def stolen() -> tuple[int, int]:
    """What the host has given to others, and all time, in ticks since the start (Linux)."""
    ticks = [int(part) for part in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return ticks[7], sum(ticks)


def start(repository: Path) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gearshift", "serve", "--grpc-port", "0", "--http-port", "0"),
            *("--repository", str(repository), "--log-level", "warning"),
            *("--state-dir", str(STATE), "--workers", "2"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    return process, re.search(r"gRPC on (\S+),", line)[1]


def real(load: float, seconds: float, seed: int, repository: Path) -> Figures:
    # A server of its own each time: what one round has learned must not help the next.
    process, address = start(repository)
    try:
        answers = uvloop.run(drive(address, workload(load, seconds, seed)))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    sent, served, seen, accuracies = Counter(), Counter(), Counter(), defaultdict(list)
    budgets = {traffic.model: traffic.budget_ms / 1e3 for traffic in TRAFFIC}
    for model, status, took, accuracy in answers:
        sent[model] += 1
        if status == "OK":
            served[model] += 1
            accuracies[model].append(accuracy)
            seen[model] += took <= budgets[model]
    return {
        model: (served[model] / n, seen[model] / n, statistics.fmean(accuracies[model] or [0.0]))
        for model, n in sent.items()
    }


# --- the simulator ----------------------------------------------------------------------


def write_profiles(path: Path) -> None:
    """What the server knows of its variants, with a request's rows as one row."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "variant", "accuracy", "device", "batch", "p50_ms", "p99_ms"])
        for traffic in TRAFFIC:
            for found in sorted(STATE.glob(f"profiles/*/{traffic.model}/*.json")):
                told = json.loads(found.read_text())
                card = REPOSITORY / traffic.model / found.stem / "card.json"
                accuracy = json.loads(card.read_text())["accuracy"]["value"]
                points = told["devices"]["cpu"]["points"]
                device = EXPRESS if points[-1]["p50"] <= SHORT else "cpu"
                for point in points:
                    if point["batch"] % traffic.rows == 0:
                        writer.writerow(
                            [
                                *(traffic.model, found.stem, accuracy, device),
                                point["batch"] // traffic.rows,
                                *(point["p50"] * 1e3, point["p99"] * 1e3),
                            ]
                        )


def simulated(load: float, seconds: float, seed: int, folder: Path) -> Figures:
    profiles, arrivals, result = (folder / name for name in ("p.csv", "w.csv", "r.json"))
    write_profiles(profiles)
    with arrivals.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arrival_ms", "model", "budget_ms", "min_accuracy"])
        for at, traffic, floor in workload(load, seconds, seed):
            writer.writerow([at * 1e3, traffic.model, traffic.budget_ms, floor])
    subprocess.run(
        [
            *(sys.executable, "-m", "gearshift", "simulate", "--profiles", str(profiles)),
            *("--workload", str(arrivals), "--workers", f"cpu=2,{EXPRESS}=1", "--noise", "0.1"),
            *("--seed", str(seed), "--json", str(result)),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    told = json.loads(result.read_text())["per_model"]
    return {
        model: (found["attainment"], found["attainment"], found["mean_served_accuracy"] or 0.0)
        for model, found in told.items()
    }


# --- the report -------------------------------------------------------------------------


def row(load: float, model: str, sim: Sequence[Figures], found: Sequence[Figures]) -> str:
    def of(figures: Sequence[Figures], part: int, scale: float) -> tuple[float, str]:
        values = [scale * each[model][part] for each in figures]
        middle, digits = statistics.median(values), 2 if scale > 1 else 4
        return middle, f"{middle:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"

    return (
        f"| {load:g} | {model} | {of(sim, 0, 100)[1]} | {of(found, 0, 100)[1]} |"
        f" {of(found, 1, 100)[1]} | {of(sim, 2, 1)[1]} | {of(found, 2, 1)[1]} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--loads", type=float, nargs="+", default=[0.5, 1.0, 2.0, 3.0])
    arguments = parser.parse_args()
    sims, reals, steal = defaultdict(list), defaultdict(list), []
    with tempfile.TemporaryDirectory() as name:
        repository = one_class_each(Path(name))
        for seed in range(arguments.rounds):
            for load in arguments.loads:
                lost, whole = stolen()
                reals[load].append(real(load, arguments.seconds, seed, repository))
                steal.append(100 * (stolen()[0] - lost) / (stolen()[1] - whole))
                sims[load].append(simulated(load, arguments.seconds, seed, Path(name)))
                print(load, seed, reals[load][-1], sims[load][-1], flush=True)
    lines = [
        "| load | model | simulated: in time % | real: answered % | real: in time by the client's"
        " clock % | simulated: accuracy | real: accuracy |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: |",
        *(
            row(load, traffic.model, sims[load], reals[load])
            for load in arguments.loads
            for traffic in TRAFFIC
        ),
    ]
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "real-two-core.md").write_text(
        "# The real server beside the simulator\n\n"
        f"Made by `python loadtests/real_two_core.py --out docs/results` ({arguments.rounds} rounds"
        f" of {arguments.seconds:g} s, median, least and most) on {os.cpu_count()} cores,"
        f" {platform.machine()}, Python {platform.python_version()}; what the traffic is stands in"
        " that file. `answered` is what the server sent an answer for, in time by its own clock;"
        " the client judges by its own, from the moment a request should have been sent, and"
        " shares the cores with the server. Of the cores' time the host gave"
        f" {min(steal):.1f} to {max(steal):.1f} % a round to others.\n\n" + "\n".join(lines) + "\n"
    )


if __name__ == "__main__":
    main()
