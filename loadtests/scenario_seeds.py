"""Both scenarios on several seeds of arrivals and of service times, every class mix.

    python loadtests/scenario_seeds.py --out docs/results

In virtual time. A cell is the worst of the seeds, so that no average hides one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path

from scenarios import TWO_CORE_MIXES
from workloads import write_workload

from gearshift.simulate.bounds.time_expanded import upper_bound
from gearshift.simulate.policies.gearshift import Gearshift
from gearshift.simulate.runner import run
from gearshift.simulate.scenario import load_scenario

PROFILES = Path(__file__).parent / "profiles"
SEEDS = (0, 1, 2)
NOISE = 0.05
TWO_CORE_LOADS = (0.5, 1.0, 2.0, 3.0)
CLUSTER_LOADS = (1.0, 2.0, 3.0, 4.0, 6.0)
ON_TIME_BONUS = 1.0


@dataclass(frozen=True, slots=True)
class Job:
    name: str
    load: float
    seed: int
    bonus: float
    folder: Path


@dataclass(frozen=True, slots=True)
class Found:
    """Per cent, but for `late`: answers that came late."""

    of_bound: float
    violations: float
    in_time: dict[str, float]
    late: int
    dispatched: int


def measure(job: Job) -> Found:
    kind = "cluster" if job.name == "cluster" else "two-core"
    scenario = load_scenario(
        PROFILES / f"{kind}.csv",
        write_workload(job.name, job.folder, job.seed),
        "cpu=20,gpu-a=10,gpu-b=10" if kind == "cluster" else "cpu=2",
    )
    policy = Gearshift(scenario.catalog, scenario.profiles, scenario.workers, job.bonus)
    told = run(scenario, policy, "", speed_up=job.load, noise=NOISE, seed=job.seed)
    bound = upper_bound(scenario, speed_up=job.load, step=0.1).effective_accuracy
    total = told.total
    return Found(
        of_bound=100 * total.effective_accuracy / bound,
        violations=100 * (1 - total.attainment),
        in_time={model: 100 * each.attainment for model, each in told.per_model.items()},
        late=total.late,
        dispatched=total.served + total.late,
    )


def two_core_row(name: str, load: float, found: list[Found]) -> str:
    worst = {model: min(each.in_time[model] for each in found) for model in found[0].in_time}
    others = min((share for model, share in worst.items() if model != "fraud"), default=100.0)
    late = 100 * max(each.late / each.dispatched for each in found)
    return (
        f"| {name.removeprefix('two-core-')} | {load:g}x | {worst['fraud']:.2f} | {others:.2f} |"
        f" {late:.3f} | {min(each.of_bound for each in found):.2f} |"
    )


def cluster_row(load: float, bonus: float, found: list[Found]) -> str:
    return (
        f"| {load:g}x | {bonus:g} | {min(each.of_bound for each in found):.2f} |"
        f" {max(each.violations for each in found):.3f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        asked = [("cluster", load, 0.0) for load in CLUSTER_LOADS]
        asked += [("cluster", load, ON_TIME_BONUS) for load in CLUSTER_LOADS[-2:]]
        asked += [
            (f"two-core-{mix}", load, 0.0) for mix in TWO_CORE_MIXES for load in TWO_CORE_LOADS
        ]
        jobs = [
            Job(what, load, seed, bonus, Path(name) / f"{what}-{load}-{seed}-{bonus}")
            for what, load, bonus in asked
            for seed in SEEDS
        ]
        with multiprocessing.Pool(arguments.processes, maxtasksperchild=1) as pool:
            found = dict(zip(jobs, pool.map(measure, jobs, chunksize=1), strict=True))

    def of(what: str, load: float, bonus: float) -> list[Found]:
        return [
            each
            for job, each in found.items()
            if (job.name, job.load, job.bonus) == (what, load, bonus)
        ]

    clusters = [cluster_row(load, b, of(w, load, b)) for w, load, b in asked if w == "cluster"]
    twos = [two_core_row(w, load, of(w, load, b)) for w, load, b in asked if w != "cluster"]
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "scenario-seeds.md").write_text(
        "# The two scenarios on several seeds\n\n"
        f"Made by `python loadtests/scenario_seeds.py --out docs/results` in virtual time (Python"
        f" {platform.python_version()}); seeds {', '.join(map(str, SEEDS))} of arrivals and of"
        f" service times (CV {100 * NOISE:g} %). Every cell is the worst of the seeds.\n\n"
        "## 40 workers of three kinds, nine applications, 300 ms\n\n"
        "| load | on-time bonus | effective accuracy, % of the bound | not in time, % |\n"
        "| ---: | ---: | ---: | ---: |\n" + "\n".join(clusters) + "\n\n"
        "## Two workers, fraud with 10 ms beside runs of up to 60 ms\n\n"
        "The bound knows nothing of runs that cannot be interrupted: where a class cannot be held"
        " on one worker while the other one stays within fraud's reach, it is out of reach.\n\n"
        "| mix | load | fraud in time, % | least of the other models, % | late, % of the"
        " dispatched | effective accuracy, % of the bound |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: |\n" + "\n".join(twos) + "\n"
    )


if __name__ == "__main__":
    main()
