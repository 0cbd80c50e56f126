"""The real server, open loop, beside the simulator: same models, same arrivals, same core.

    python -m loadtests.real_two_core --out docs/results

Fraud checks with 10 ms, tumour readings with 250 ms and a floor that only the best variant
meets, and pictures of clothes, eight a request, with 250 ms and for half of them a floor.
At load 1 the pictures alone would take 80 % of two workers if all were answered by the most
accurate variant, whose run is five times fraud's budget.

The client sends at the workload's arrival times whether answers come or not, judges by its own
clock from the moment a request should have been sent, and tells from the values which variant
answered. It shares the two cores with the server, which the simulator knows nothing of; it runs
at real-time priority, so that what it sees is the server's doing.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from loadtests.arrivals import Arrivals
from loadtests.peers.driver import Client
from loadtests.peers.environment import described, environment, stolen
from loadtests.peers.peer import ROOT
from loadtests.peers.throughput import build_client, real_time, write_plan
from tritonclient.grpc import service_pb2 as pb

from gearshift.compress import evaluate
from gearshift.ports import EXPRESS, SHORT

REPOSITORY, STATE = ROOT / "model_repo", ROOT / "build" / "state"
APART = 0.004
"""By how much the answers of two variants must differ for the client to tell them apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """`rate` requests a second at load 1, each of `rows` rows."""

    name: str
    model: str
    rate: float
    budget_ms: float
    rows: int = 1
    floor: float = 0.0


TRAFFIC = (
    Traffic(name="fraud", model="fraud", rate=100.0, budget_ms=10.0),
    Traffic(name="tumor", model="tumor", rate=20.0, budget_ms=250.0, floor=0.9952),
    Traffic(name="garment", model="garment", rate=15.0, budget_ms=250.0, rows=8),
    Traffic(name="garment, floor", model="garment", rate=15.0, budget_ms=250.0, rows=8, floor=0.95),
)


def workload(load: float, seconds: float, seed: int) -> list[list[float]]:
    """The moments, in seconds, at which each kind of traffic is sent."""
    random = np.random.default_rng(seed)
    return [
        [float(at) for at in Arrivals(rate=traffic.rate * load).draw(seconds, random)]
        for traffic in TRAFFIC
    ]


# --- the real server --------------------------------------------------------------------


def one_class_each(folder: Path) -> Path:
    """A copy of the repository in which a model has one class, with this traffic's budget, and no
    cascade: the client tells variants by their values, and a request's rows may come from two."""
    copy = folder / "model_repo"
    for model, budget in {traffic.model: traffic.budget_ms for traffic in TRAFFIC}.items():
        source, target = REPOSITORY / model, copy / model
        shutil.copytree(source, target)
        text = (source / "model.toml").read_text()
        head, variants = text.partition("[[cascades]]")[0].split("[[variants]]", 1)
        kept = re.findall(r"^(?:metric|max_batch_size) .*$", head, re.MULTILINE)
        declared = f'default_class = "bench"\n[classes.bench]\nbudget_ms = {budget:g}\n'
        (target / "model.toml").write_text(
            "\n".join(kept) + "\n" + declared + "\n[[variants]]" + variants
        )
    return copy


@dataclass(frozen=True, slots=True)
class Files:
    """What the client sends, and what each of the model's variants would answer."""

    name: str
    request: Path
    right: tuple[Path, ...]
    accuracies: tuple[float, ...]


def write_files(traffic: Traffic, folder: Path) -> Files:
    """Made of those sample rows that the model's variants answer most differently."""
    with np.load(REPOSITORY / traffic.model / "samples.npz", allow_pickle=False) as file:
        inputs = file["inputs"]
    inputs = inputs[: len(inputs) // traffic.rows * traffic.rows]
    answers, accuracies = [], []
    for card in sorted((REPOSITORY / traffic.model).glob("*/card.json")):
        told = json.loads(card.read_text())
        session = evaluate.session(card.parent / told["artifact"])
        (put,) = session.get_inputs()
        (values,) = session.run(None, {put.name: inputs})
        answers.append(values.reshape(-1, values.size * traffic.rows // len(inputs)))
        accuracies.append(told["accuracy"]["value"])
    closest = np.full(len(answers[0]), np.inf)
    for one in range(len(answers)):
        for other in range(one):
            apart = np.abs(answers[one] - answers[other]).max(axis=1)
            closest = np.minimum(closest, apart)
    chosen = int(closest.argmax())
    if closest[chosen] < APART:
        raise ValueError(f"{traffic.model}: no sample tells all variants apart")
    rows = inputs[chosen * traffic.rows : (chosen + 1) * traffic.rows]
    message = pb.ModelInferRequest(model_name=traffic.model)
    datatype = {"float32": "FP32", "uint8": "UINT8"}[rows.dtype.name]
    message.inputs.add(name=put.name, datatype=datatype, shape=rows.shape)
    message.raw_input_contents.append(rows.tobytes())
    if traffic.floor:
        message.parameters["min_accuracy"].double_param = traffic.floor
    place = folder / traffic.name.replace(", ", "-")
    place.mkdir()
    (place / "request.bin").write_bytes(message.SerializeToString())
    right = []
    for number, values in enumerate(answers):
        right.append(place / f"right-{number}.f32")
        right[-1].write_bytes(values[chosen].astype(np.float32).tobytes())
    return Files(place.name, place / "request.bin", tuple(right), tuple(accuracies))


Figures = Mapping[str, tuple[float, float]]
"""By kind of traffic: the share answered in time, and the mean accuracy of those answers."""


def start(repository: Path) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gearshift", "serve", "--grpc-port", "0", "--http-port", "0"),
            *("--repository", str(repository), "--log-level", "warning"),
            *("--state-dir", str(STATE), "--workers", "2"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    found = re.search(r"gRPC on \S+:(\d+),", process.stdout.readline())
    assert found is not None
    return process, int(found[1])


def real(
    client: Client, plan: Path, repository: Path, files: Sequence[Files]
) -> tuple[Figures, float]:
    """The figures, and how late the client was in sending (p99, ms)."""
    # A server of its own each time: what one round has learned must not help the next.
    process, port = start(repository)
    try:
        budgets = [traffic.budget_ms / 1e3 for traffic in TRAFFIC]
        run = client.open(port, plan, list(zip(files, budgets, strict=True)))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    figures = {}
    for traffic, asked in zip(TRAFFIC, files, strict=True):
        kind = run.kinds[asked.name]
        if kind.wrong:
            raise ValueError(f"{traffic.name}: {kind.wrong} answers are no variant's")
        total = sum(n * a for n, a in zip(kind.in_time_by_answer, asked.accuracies, strict=True))
        figures[traffic.name] = (kind.in_time / kind.sent, total / max(kind.in_time, 1))
    return figures, run.lag_p99_ms


# --- the simulator ----------------------------------------------------------------------


def write_profiles(path: Path) -> None:
    """What the server knows of its variants, with a request's rows as one row."""
    models = {traffic.model: traffic.rows for traffic in TRAFFIC}
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "variant", "accuracy", "device", "batch", "p50_ms", "p99_ms"])
        for model, rows in models.items():
            for card in sorted((REPOSITORY / model).glob("*/card.json")):
                variant = card.parent.name
                accuracy = json.loads(card.read_text())["accuracy"]["value"]
                (found,) = STATE.glob(f"profiles/*/{model}/{variant}.json")
                points = json.loads(found.read_text())["devices"]["cpu"]["points"]
                points = [point for point in points if point["batch"] % rows == 0]
                short = [point for point in points if point["p50"] <= SHORT]
                # As the server places them: short batches here, and all of them there unless
                # the largest is short as well.
                placed = [(EXPRESS, short), ("cpu", points if len(short) < len(points) else [])]
                for device, those in placed:
                    for point in those:
                        seconds = point["p50"] * 1e3, point["p99"] * 1e3
                        batch = point["batch"] // rows
                        writer.writerow([model, variant, accuracy, device, batch, *seconds])


def write_arrivals(path: Path, moments: Sequence[Sequence[float]]) -> None:
    """A workload file for the simulator: when requests come (seconds), by kind of TRAFFIC."""
    sent = sorted((at, number) for number, each in enumerate(moments) for at in each)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arrival_ms", "model", "budget_ms", "min_accuracy", "service_class"])
        for at, number in sent:
            traffic = TRAFFIC[number]
            writer.writerow(
                [at * 1e3, traffic.model, traffic.budget_ms, traffic.floor, traffic.name]
            )


def simulated(moments: Sequence[Sequence[float]], seed: int, folder: Path) -> Figures:
    profiles, arrivals, result = (folder / name for name in ("p.csv", "w.csv", "r.json"))
    write_profiles(profiles)
    write_arrivals(arrivals, moments)
    subprocess.run(
        [
            *(sys.executable, "-m", "gearshift", "simulate", "--profiles", str(profiles)),
            *("--workload", str(arrivals), "--workers", f"cpu=2,{EXPRESS}=1", "--noise", "0.1"),
            *("--seed", str(seed), "--json", str(result)),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    told = json.loads(result.read_text())["per_class"]
    return {
        traffic.name: (
            told[traffic.name]["attainment"],
            told[traffic.name]["mean_served_accuracy"] or 0.0,
        )
        for traffic in TRAFFIC
    }


# --- the report -------------------------------------------------------------------------


def row(
    load: float,
    name: str,
    sim: Sequence[Figures],
    found: Sequence[Figures],
    taken: Sequence[float],
) -> str:
    def of(figures: Sequence[Figures], part: int, scale: float) -> str:
        values = [scale * each[name][part] for each in figures]
        middle, digits = statistics.median(values), 2 if scale > 1 else 4
        return f"{middle:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"

    return (
        f"| {load:g} | {name} | {of(sim, 0, 100)} | {of(found, 0, 100)} |"
        f" {of(sim, 1, 1)} | {of(found, 1, 1)} |"
        f" {statistics.median(taken):.1f} ({min(taken):.1f} to {max(taken):.1f}) |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--loads", type=float, nargs="+", default=[0.5, 1.0, 2.0, 3.0])
    arguments = parser.parse_args()
    sims, reals = defaultdict(list), defaultdict(list)
    lags, taken = [], defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        client = Client(build_client(folder / "client"), real_time())
        repository = one_class_each(folder)
        files = [write_files(traffic, folder) for traffic in TRAFFIC]
        first = start(repository)[0]  # It measures its variants at its first start.
        first.terminate()
        first.wait(60)
        for seed in range(arguments.rounds):
            for load in arguments.loads:
                moments = workload(load, arguments.seconds, seed)
                write_plan(folder / "plan.txt", moments)
                lost, whole = stolen()
                figures, lag = real(client, folder / "plan.txt", repository, files)
                now_lost, now_whole = stolen()
                taken[load].append(100 * (now_lost - lost) / (now_whole - whole))
                lags.append(lag)
                reals[load].append(figures)
                sims[load].append(simulated(moments, seed, folder))
                print(load, seed, reals[load][-1], sims[load][-1], f"lag {lag:.2f}", flush=True)
    lines = [
        "| load | requests | simulated: in time % | real: in time % | simulated: accuracy |"
        " real: accuracy | taken by the host, % |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: |",
        *(
            row(load, traffic.name, sims[load], reals[load], taken[load])
            for load in arguments.loads
            for traffic in TRAFFIC
        ),
    ]
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "real-two-core.md").write_text(
        "# The real server beside the simulator\n\n"
        f"Made by `python -m loadtests.real_two_core --out docs/results` ({arguments.rounds} rounds"
        f" of {arguments.seconds:g} s, median, least and most) on {described(environment())};"
        " what the traffic is stands in that file. A real answer is in time by the client's"
        " clock, from the moment the request should have been sent; the client shares the cores"
        " with the server, at real-time priority, and was itself late in sending by at most"
        f" {max(lags):.2f} ms (p99 of the worst round). What the host gave of the cores' time"
        " to others stands in the last column: a few per cent of it cost fraud as many of its"
        " answers.\n\n" + "\n".join(lines) + "\n"
    )


if __name__ == "__main__":
    main()
