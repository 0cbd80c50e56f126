"""Fleets scaled by accuracy, by CPU, by queue and by concurrency, over a day and a flash crowd.

    python loadtests/autoscaling.py --out docs/results

In virtual time: every pod is the real scheduler, the control loop is the one that Kubernetes
documents. Every scaler is tried with several targets; what they are compared by is the curve of
effective accuracy over pods x hours, not one point of it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from arrivals import Arrivals, Flash

from gearshift.core.request import Ticket
from gearshift.simulate.fleet import (
    Accuracy,
    Behavior,
    Concurrency,
    Control,
    Cpu,
    Fixed,
    FleetResult,
    Moment,
    Plant,
    Policy,
    Queue,
    Scaler,
    run_fleet,
)
from gearshift.simulate.mistakes import Mistakes
from gearshift.simulate.profile_file import read_profiles

PROFILES = Path(__file__).parent / "profiles" / "garment.csv"
SEEDS = (0, 1)
WORKERS = {0: "cpu", 1: "cpu"}
LEAST, MOST = 2, 16
DAY = 3600.0
CROWD = 1500.0
SLOWLY = Behavior(300.0, (Policy(0.25, 60.0, share=True), Policy(1, 60.0)))
"""How fleets shrink here: as the chart's values say, for all scalers alike."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Requests of one kind: `rows` pictures each, seconds to answer them, the least accuracy."""

    service_class: str
    rows: int
    budget: float
    floor: float


COLLECTION = Kind("interactive", 64, 2.0, 0.9)
CAMERA = Kind("edge", 1, 0.1, 0.0)


@dataclass(frozen=True, slots=True)
class Workload:
    """`streams` together; `first` is how many pods there are when it begins."""

    title: str
    streams: Sequence[tuple[Kind, Arrivals]]
    seconds: float
    first: int

    def tickets(self, seed: int) -> list[Ticket]:
        children = np.random.SeedSequence(seed).spawn(len(self.streams))
        found = [
            (float(at), kind)
            for (kind, arrivals), child in zip(self.streams, children, strict=True)
            for at in arrivals.draw(self.seconds, np.random.default_rng(child))
        ]
        found.sort(key=lambda each: each[0])
        return [
            Ticket(
                id=number,
                model="garment",
                service_class=kind.service_class,
                arrival=at,
                deadline=at + kind.budget,
                floor=kind.floor,
                rows=kind.rows,
            )
            for number, (at, kind) in enumerate(found)
        ]


WORKLOADS: Mapping[str, Workload] = {
    "day": Workload(
        "A day in an hour",
        [(COLLECTION, Arrivals(rate=12.0, swing=0.85, period=DAY))],
        DAY,
        5,
    ),
    "crowd": Workload(
        "A flash crowd",
        [(COLLECTION, Arrivals(rate=6.0, flash=Flash(start=300, length=480, factor=6)))],
        CROWD,
        2,
    ),
    "mixed": Workload(
        "A day in an hour, short budgets beside",
        [
            (COLLECTION, Arrivals(rate=8.0, swing=0.85, period=DAY)),
            (CAMERA, Arrivals(rate=8.0, swing=0.85, period=DAY)),
        ],
        DAY,
        5,
    ),
}

FAMILIES: Mapping[str, Sequence[Scaler]] = {
    "accuracy": [
        Accuracy(0.0002, full=0.7),
        Accuracy(0.0005, full=0.8),
        Accuracy(0.001, full=0.8),
        Accuracy(0.002, full=0.9),
    ],
    "CPU": [Cpu(0.4), Cpu(0.5), Cpu(0.6), Cpu(0.7)],
    "queue": [Queue(0.25), Queue(0.5), Queue(1), Queue(2)],
    "concurrency": [Concurrency(1), Concurrency(1.5), Concurrency(2)],
    "fixed": [Fixed(2), Fixed(4), Fixed(6), Fixed(8)],
}
SHOWN = ("accuracy, 0.001 at 80 %", "CPU 70 %", "queue 1", "concurrency 1.5")
"""Whose pods are drawn over time."""


@dataclass(frozen=True, slots=True)
class Job:
    workload: str
    family: str
    scaler: Scaler
    seed: int


def measure(job: Job) -> FleetResult:
    file = read_profiles(PROFILES, Mistakes())
    assert file is not None
    workload = WORKLOADS[job.workload]
    catalog, profiles = file.catalog(
        {"garment": {kind.service_class: kind.budget for kind, _ in workload.streams}}, ["cpu"]
    )
    plant = Plant(catalog=catalog, profiles=profiles, workers=WORKERS, plan_every=1.0)
    first = job.scaler.pods if isinstance(job.scaler, Fixed) else workload.first
    return run_fleet(
        plant,
        workload.tickets(job.seed),
        job.scaler,
        lambda: Control(LEAST, MOST, down=SLOWLY),
        first,
        job.seed,
    )


# --- the page ---------------------------------------------------------------------------

Results = Mapping[str, Mapping[str, Mapping[str, Sequence[FleetResult]]]]
"""By workload, family and scaler."""


def mean(results: Sequence[FleetResult], value: Callable[[FleetResult], float]) -> float:
    return statistics.fmean(value(each) for each in results)


def cell(results: Sequence[FleetResult], value: Callable[[FleetResult], float], text: str) -> str:
    """The mean, and how far apart the seeds are."""
    values = [value(each) for each in results]
    apart = (max(values) - min(values)) / 2
    return f"{statistics.fmean(values):{text}} ±{apart:{text}}"


def table(families: Mapping[str, Mapping[str, Sequence[FleetResult]]]) -> list[str]:
    lines = [
        "| scaler | pods x hours | most pods | in time, % | served accuracy | effective accuracy"
        " | load deficit | seconds with shedding |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for scalers in families.values():
        for name, results in scalers.items():
            lines.append(
                f"| {name} | {cell(results, lambda r: r.pod_hours, '.2f')} |"
                f" {max(r.most_pods for r in results)} |"
                f" {cell(results, lambda r: 100 * r.attainment, '.2f')} |"
                f" {mean(results, lambda r: r.served_accuracy):.4f} |"
                f" {cell(results, lambda r: r.effective_accuracy, '.4f')} |"
                f" {mean(results, lambda r: r.load_deficit):.5f} |"
                f" {mean(results, lambda r: r.shedding):.0f} |"
            )
    return lines


COLORS = {
    "accuracy": "#0072b2",
    "CPU": "#d55e00",
    "queue": "#009e73",
    "concurrency": "#cc79a7",
    "fixed": "#777777",
}
MARKS = {"accuracy": "o", "CPU": "s", "queue": "^", "concurrency": "D", "fixed": "x"}


def draw(results: Results, target: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(results), figsize=(5 * len(results), 7.5))
    for column, (name, families) in enumerate(results.items()):
        above, below = axes[0][column], axes[1][column]
        for family, scalers in families.items():
            points = sorted(
                (mean(r, lambda r: r.pod_hours), mean(r, lambda r: r.effective_accuracy))
                for r in scalers.values()
            )
            above.plot(
                *zip(*points, strict=True),
                color=COLORS[family],
                marker=MARKS[family],
                label=family,
                linewidth=1,
            )
            for scaler, found in scalers.items():
                if scaler in SHOWN:
                    moments: Sequence[Moment] = found[0].moments
                    below.step(
                        [m.at / 60 for m in moments],
                        [m.ready for m in moments],
                        color=COLORS[family],
                        where="post",
                        label=scaler,
                    )
        above.set_title(WORKLOADS[name].title)
        above.set_xlabel("pods x hours")
        above.set_ylabel("effective accuracy")
        below.set_xlabel("minutes")
        below.set_ylabel("pods that serve")
        below.set_ylim(0, None)
        for each in (above, below):
            each.grid(alpha=0.3)
            each.spines[["top", "right"]].set_visible(False)
            each.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(target, dpi=110)
    plt.close(figure)


def page(results: Results) -> str:
    seeds = ", ".join(map(str, SEEDS))
    lines = [
        "# Autoscaling: by accuracy, CPU, queue and concurrency",
        "",
        f"Made by `make bench-autoscaling` in virtual time (Python {platform.python_version()});"
        f" seeds {seeds}, cells are means with half the distance between the seeds' extremes. What"
        " the scalers do, and what to make of this: [docs/autoscaling.md](../autoscaling.md).",
        "",
        "Pods are the real scheduler with two workers each and the latencies of four of the"
        " shipped `garment` variants on 2 cores AMD EPYC (`loadtests/profiles/garment.csv`);"
        " service times have a CV of 5 %. A request is a collection of 64 pictures with 2 s and a"
        " floor of 0.9; in the mixed day as many single pictures with 100 ms come beside. A pod"
        " serves 60 s after it was ordered. Metrics are scraped and looked at every 15 s; the loop"
        " is that of Kubernetes' HPA (tolerance 10 %, shrinking after 5 minutes, by a quarter or"
        f" one pod a minute), between {LEAST} and {MOST} pods. The balancer sends to the pod with"
        " the fewest open requests. Prices are planned every second instead of every 100 ms, to"
        " save time.",
        "",
        "The day is an hour long, from a seventh of the mean to nearly twice of it: load moves 24"
        " times as fast as in a real one, while pods and control loops are as slow as they are."
        " So every scaler loses more here than on a real day.",
        "",
        "![Effective accuracy over pods x hours, and pods over time](autoscaling.png)",
    ]
    for name, families in results.items():
        lines += ["", f"## {WORKLOADS[name].title}", "", *table(families)]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    arguments = parser.parse_args()
    jobs = [
        Job(workload, family, scaler, seed)
        for workload in arguments.workloads
        for family, scalers in FAMILIES.items()
        for scaler in scalers
        for seed in SEEDS[: arguments.seeds]
    ]
    with multiprocessing.Pool(arguments.processes) as pool:
        found = dict(zip(jobs, pool.map(measure, jobs, chunksize=1), strict=True))
    results: dict[str, dict[str, dict[str, list[FleetResult]]]] = {}
    for job, result in found.items():
        family = results.setdefault(job.workload, {}).setdefault(job.family, {})
        family.setdefault(job.scaler.name, []).append(result)
    arguments.out.mkdir(parents=True, exist_ok=True)
    draw(results, arguments.out / "autoscaling.png")
    (arguments.out / "autoscaling.md").write_text(page(results))


if __name__ == "__main__":
    main()
