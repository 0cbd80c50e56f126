"""A plan beside the real server: does the two-core pod that it plans hold its goals?

    python -m loadtests.plan --out docs/results

The traffic of loadtests.real_two_core at rising loads. For each load `gearshift plan` says how
many two-core pods hold the goals; one real server then gets all of it, and its clients judge by
their own clock. Where one pod is planned, it should hold them; where two are, it should not.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.peers.driver import Client
from loadtests.peers.environment import described, environment, stolen
from loadtests.peers.throughput import build_client, real_time, write_plan
from loadtests.real_two_core import (
    REPOSITORY,
    STATE,
    TRAFFIC,
    Files,
    one_class_each,
    real,
    start,
    workload,
    write_arrivals,
    write_files,
)

ATTAINMENT = 0.98
"""Of every kind of traffic: what the clients take of the two cores is not planned for."""

KINDS = "name,device,workers,memory_mb,price_per_hour\ncpu-2,cpu,2,4000,0.09\n"


def write_profiles(path: Path) -> None:
    """What the server knows of its variants, with a request's rows as one row."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "variant", "accuracy", "device", "batch", "p50_ms", "p99_ms"])
        for model, rows in {traffic.model: traffic.rows for traffic in TRAFFIC}.items():
            for card in sorted((REPOSITORY / model).glob("*/card.json")):
                accuracy = json.loads(card.read_text())["accuracy"]["value"]
                (found,) = STATE.glob(f"profiles/*/{model}/{card.parent.name}.json")
                for point in json.loads(found.read_text())["devices"]["cpu"]["points"]:
                    if point["batch"] % rows == 0:
                        times = point["p50"] * 1e3, point["p99"] * 1e3
                        batch = point["batch"] // rows
                        writer.writerow([model, card.parent.name, accuracy, "cpu", batch, *times])


@dataclass(frozen=True, slots=True)
class Planned:
    """How many pods, and what the simulator says that one pod does: attainment by traffic."""

    pods: int
    one: Mapping[str, float]


def planned(moments: Sequence[Sequence[float]], folder: Path) -> Planned:
    """What `gearshift plan` says to these arrivals."""
    profiles, arrivals, kinds = (folder / name for name in ("p.csv", "w.csv", "k.csv"))
    write_profiles(profiles)
    kinds.write_text(KINDS)
    write_arrivals(arrivals, moments)
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "gearshift", "plan", "--profiles", str(profiles)),
            *("--workload", str(arrivals), "--kinds", str(kinds), "--json"),
            *("--attainment", str(ATTAINMENT)),
        ],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    (fleet,) = json.loads(ran.stdout)["answer"]["fleets"]
    trials = [fleet[name] for name in ("goals_hold", "one_less_fails") if fleet[name]]
    one = {
        goal["goal"]["service_class"]: goal["value"]
        for trial in trials
        if trial["pods"] == 1
        for goal in trial["goals"]
    }
    return Planned(fleet["pods"], one)


def row(load: float, plans: Sequence[Planned], reals: Sequence[Mapping[str, float]]) -> list[str]:
    pods = ", ".join(sorted({str(plan.pods) for plan in plans}))
    rows = []
    for traffic in TRAFFIC:
        name = traffic.name
        sims = [100 * plan.one[name] for plan in plans if name in plan.one]
        simulated = f"{statistics.median(sims):.2f}" if sims else "-"
        found = [100 * each[name] for each in reals]
        held = "yes" if statistics.median(found) >= 100 * ATTAINMENT else "no"
        rows.append(
            f"| {load:g} | {pods} | {name} | {simulated} | {statistics.median(found):.2f}"
            f" ({min(found):.2f} to {max(found):.2f}) | {held} |"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--loads", type=float, nargs="+", default=[0.5, 1.0, 2.0, 4.0, 8.0])
    arguments = parser.parse_args()
    rows: list[str] = []
    lost, whole = stolen()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        client = Client(build_client(folder / "client"), real_time())
        repository = one_class_each(folder)
        files: list[Files] = [write_files(traffic, folder) for traffic in TRAFFIC]
        first = start(repository)[0]  # It measures its variants at its first start.
        first.terminate()
        first.wait(60)
        for load in arguments.loads:
            plans, reals = [], []
            for seed in range(arguments.rounds):
                moments = workload(load, arguments.seconds, seed)
                write_plan(folder / "plan.txt", moments)
                plans.append(planned(moments, folder))
                figures, _ = real(client, folder / "plan.txt", repository, files)
                reals.append({kind: in_time for kind, (in_time, _) in figures.items()})
                print(load, seed, plans[-1], reals[-1], flush=True)
            rows += row(load, plans, reals)
    now_lost, now_whole = stolen()
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "plan.md").write_text(
        "# A plan beside the real server\n\n"
        f"Made by `python -m loadtests.plan --out docs/results` ({arguments.rounds} rounds of"
        f" {arguments.seconds:g} s) on {described(environment())}; the traffic stands in"
        " `loadtests/real_two_core.py`. For each load: how many two-core pods `gearshift plan`"
        f" asks for so that {100 * ATTAINMENT:g} % of every kind of request are in time; what its"
        " simulation says of one pod; and what one real server does with all of the traffic, by"
        " the clock of a client that shares its two cores. The host took"
        f" {100 * (now_lost - lost) / (now_whole - whole):.1f} % of the cores' time.\n\n"
        "| load | pods planned | requests | one pod simulated: in time % | one real server: in"
        " time % | the goal held |\n| ---: | ---: | --- | ---: | ---: | --- |\n"
        + "\n".join(rows)
        + "\n"
    )


if __name__ == "__main__":
    main()
