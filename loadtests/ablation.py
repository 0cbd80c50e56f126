"""What each ingredient of the scheduler is worth: the same workloads without it.

    python loadtests/ablation.py --workloads build/workloads --out docs/results

Each ingredient is taken out by replacing the one function or constant that makes it, in a
process of its own. The workloads are those of `loadtests/workloads.py`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gearshift.core import columns, prices, profile, scheduler, scoring, selector, strand
from gearshift.core.gears import flat_scores
from gearshift.core.guard import Guard
from gearshift.simulate.policies.gearshift import Gearshift
from gearshift.simulate.runner import run
from gearshift.simulate.scenario import load_scenario

PROFILES = Path(__file__).parent / "profiles"
CLUSTER = "cpu=20,gpu-a=10,gpu-b=10"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    title: str
    workload: str
    profiles: str
    workers: str
    load: float
    noise: float = 0.05


CASES = (
    Case(title="cluster 2x", workload="cluster", profiles="cluster", workers=CLUSTER, load=2),
    Case(title="cluster 4x", workload="cluster", profiles="cluster", workers=CLUSTER, load=4),
    Case(title="cluster 6x", workload="cluster", profiles="cluster", workers=CLUSTER, load=6),
    Case(
        title="cluster 4x, CV 20 %",
        workload="cluster",
        profiles="cluster",
        workers=CLUSTER,
        load=4,
        noise=0.2,
    ),
    Case(
        title="two cores, hard 1x",
        workload="two-core-hard",
        profiles="two-core",
        workers="cpu=2",
        load=1,
    ),
    Case(
        title="two cores, even with floors 2x",
        workload="two-core-even-floor",
        profiles="two-core",
        workers="cpu=2",
        load=2,
    ),
)


class Unplanned(Gearshift):
    """Nobody sets a price."""

    def plan(self, now: float) -> None:
        self.scheduler.outlook(now)


def no_value_of_waiting() -> None:
    made = selector.gears

    def gears(*arguments):
        found = made(*arguments)
        options = {device: ranked[:1] for device, ranked in found.options.items()}
        bare = {device: [o for _, o in ranked[0]] for device, ranked in options.items()}
        flat = flat_scores(bare, 0.0)
        return replace(found, options=options, needs=(), values=(), full=0.0, enough=0.0, flat=flat)

    selector.gears = gears


def batches_begin_at_the_head() -> None:
    made = selector.best_batches
    selector.best_batches = lambda s, *rest: [c for c in made(s, *rest) if c[2] == s.start]


def no_batch_waits() -> None:
    selector.IMPRECISE = selector.INDIFFERENT = 1e12


def no_guard() -> None:
    selector.guard = lambda *_: Guard()


def best_score_runs() -> None:
    selector.least_harm = lambda candidates, *_, **__: candidates[0][2:]


def no_lag() -> None:
    scoring.lag = scheduler.lag = lambda *_: 0.0


def no_slack_in_plans() -> None:
    strand.Strand.dispatched = lambda *_: None


def half_a_queue_hidden() -> None:
    selector.QUEUE_SHARE = 0.5


def nothing_kept() -> None:
    prices.MOST_KEPT = 0.0


def full_budgets_for_batches() -> None:
    columns.FILLING = 1.0


def nothing_learned() -> None:
    profile.Profile.observe = profile.Profile.settle = lambda *_: False


INGREDIENTS: Mapping[str, Callable[[], None] | type[Gearshift] | None] = {
    "everything": None,
    "without prices (all zero)": Unplanned,
    "without the value of waiting": no_value_of_waiting,
    "batches begin at the head of the queue": batches_begin_at_the_head,
    "no batch ever waits for company": no_batch_waits,
    "without the guard of short budgets": no_guard,
    "the best score runs, whomever it harms": best_score_runs,
    "without the lag of long queues": no_lag,
    "plans do not see how late tickets are served": no_slack_in_plans,
    "plans overlook a queue of half a budget": half_a_queue_hidden,
    "no time kept for chance": nothing_kept,
    "plans fill whole budgets with batching": full_budgets_for_batches,
    "nothing learned about latency": nothing_learned,
}


def measure(job: tuple[str, Case, Path]) -> tuple[float, float, float]:
    """Effective accuracy, and per cent of all requests and of the worst model not in time."""
    name, case, workloads = job
    ingredient = INGREDIENTS[name]
    policy = Gearshift
    if isinstance(ingredient, type):
        policy = ingredient
    elif ingredient is not None:
        ingredient()
    scenario = load_scenario(
        PROFILES / f"{case.profiles}.csv", workloads / f"{case.workload}.csv", case.workers
    )
    made = policy(scenario.catalog, scenario.profiles, scenario.workers)
    told = run(scenario, made, name, speed_up=case.load, noise=case.noise, seed=0)
    worst = min(figures.attainment for figures in told.per_model.values())
    return told.total.effective_accuracy, 100 * (1 - told.total.attainment), 100 * (1 - worst)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workloads", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    jobs = [(name, case, arguments.workloads) for name in INGREDIENTS for case in CASES]
    # A process a job: what one takes out must not be missing in the next.
    with multiprocessing.Pool(arguments.processes, maxtasksperchild=1) as pool:
        found = dict(zip(jobs, pool.map(measure, jobs, chunksize=1), strict=True))

    def cell(name: str, case: Case) -> str:
        effective, violations, worst = found[name, case, arguments.workloads]
        whole = found["everything", case, arguments.workloads][0]
        change = "" if name == "everything" else f" ({100 * (effective / whole - 1):+.2f} %)"
        digits = 2 if whole > 1 else 4
        return f"{effective:.{digits}f}{change}, {violations:.2f} / {worst:.2f}"

    lines = [
        "| | " + " | ".join(case.title for case in CASES) + " |",
        "| --- |" + " --- |" * len(CASES),
        *(
            f"| {name} | " + " | ".join(cell(name, case) for case in CASES) + " |"
            for name in INGREDIENTS
        ),
    ]
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "ablation.md").write_text(
        "# What each ingredient of the scheduler is worth\n\n"
        "Made by `python loadtests/ablation.py --workloads build/workloads --out docs/results` in"
        f" virtual time (Python {platform.python_version()}), seed 0, service times with a CV of"
        " 5 % where nothing else is said. A cell: effective accuracy (and its change without the"
        " ingredient), then the per cent of all requests and of the worst model's that were not"
        " answered in time.\n\n" + "\n".join(lines) + "\n"
    )


if __name__ == "__main__":
    main()
