"""What a decision costs, from 10 to 100,000 waiting tickets, 2 to 200 variants, 1 to 1,000 workers.

    python loadtests/decision_cost.py --out docs/results

Drives the core itself in virtual time, at a standing queue: a run ends, the freed worker is
given its next batch (this is timed), and as many tickets come in as left. Prices are planned
every 100 ms of virtual time, as on the server, and that is not timed: it is off the way of a
request.
"""

from __future__ import annotations

import argparse
import gc
import math
import os
import platform
import random
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path
from time import perf_counter_ns

from gearshift.core import room
from gearshift.core.catalog import Catalog, Model, ServiceClass, Signature, TensorSpec, Variant
from gearshift.core.decisions import Dispatch, Refused
from gearshift.core.prices import PLAN_EVERY, Planner
from gearshift.core.profile import LatencyPoint, Profile, Profiles
from gearshift.core.request import Ticket
from gearshift.core.scheduler import Scheduler

VARIANTS_A_MODEL = 5
MAX_BATCH = 32
SIGNATURE = Signature(
    inputs=(TensorSpec("x", "FP32", (1,)),), outputs=(TensorSpec("y", "FP32", (1,)),)
)

TICKETS = (10, 100, 1_000, 10_000, 100_000)
VARIANTS = (2, 10, 50, 200)
WORKERS = (1, 2, 10, 40, 100, 1_000)
AT = {"tickets": 1_000, "variants": 10, "workers": 2}
"""Where the other two axes stand while one is walked along."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds a dispatch, and for one admission."""

    tickets: int
    variants: int
    workers: int
    p50: float
    p99: float
    admit_p50: float


def catalog_of(variants: int) -> tuple[Catalog, Profiles]:
    """Models of up to five variants; each next one costs 0.6 of the one before it."""
    models: dict[str, Model] = {}
    profiles: list[Profile] = []
    for number in range(math.ceil(variants / VARIANTS_A_MODEL)):
        count = min(VARIANTS_A_MODEL, variants - number * VARIANTS_A_MODEL)
        made = tuple(
            Variant(
                name=f"v{step}",
                version=step + 1,
                executor="none",
                accuracy=0.95 - 0.03 * step,
                source="declared",
                artifact="",
            )
            for step in range(count)
        )
        name = f"m{number}"
        models[name] = Model(
            name=name,
            metric="top1",
            max_batch_size=MAX_BATCH,
            signature=SIGNATURE,
            classes={"default": ServiceClass(name="default")},
            default_class="default",
            variants=made,
        )
        for step, variant in enumerate(made):
            scale = 0.6**step * (1.0 + 0.1 * number)
            points = [
                LatencyPoint(batch, p50, 1.12 * p50)
                for batch in (1, 2, 4, 8, 16, 32)
                for p50 in (scale * (0.004 + 0.002 * batch),)
            ]
            profiles.append(Profile(variant, "cpu", points, MAX_BATCH))
    return Catalog(generation=1, models=models), Profiles(models, profiles)


def measure(tickets: int, variants: int, workers: int, decisions: int) -> Cost:
    room.MAX_WAITING = 10**9  # the queue's length is what is asked about
    catalog, profiles = catalog_of(variants)
    scheduler, planner = (
        Scheduler(catalog, profiles, dict.fromkeys(range(workers), "cpu")),
        Planner(),
    )
    rng, names = random.Random(0), list(catalog.models)
    # Budgets that let a queue of this length be served: ten requests a run, 40 ms a run.
    budget = 0.25 + 2.0 * tickets / workers * 0.004
    now, numbers, admits, decided = 0.0, 0, [], []
    ends: list[tuple[float, int, float]] = []

    def top_up() -> None:
        nonlocal numbers
        while scheduler.waiting < tickets:
            numbers += 1
            ticket = Ticket(
                id=numbers,
                model=rng.choice(names),
                service_class="default",
                arrival=now,
                deadline=now + budget * rng.uniform(0.5, 1.5),
                floor=-math.inf,
            )
            begun = perf_counter_ns()
            verdict = scheduler.admit(ticket, now)
            admits.append(perf_counter_ns() - begun)
            if isinstance(verdict, Refused):
                return

    top_up()
    next_plan = 0.0
    while len(decided) < decisions:
        if next_plan <= now:
            scheduler.set_prices(planner.prices(scheduler.outlook(now)))
            next_plan += PLAN_EVERY
        begun = perf_counter_ns()
        found = scheduler.decide(now)
        took = perf_counter_ns() - begun
        started = [action for action in found.actions if isinstance(action, Dispatch)]
        if started:
            decided += [took / len(started)] * len(started)
        for action in started:
            seconds = action.profile.p50(action.rows) * rng.lognormvariate(-0.00125, 0.05)
            heappush(ends, (now + seconds, action.id, seconds))
        top_up()
        upcoming = min(found.wake_at, ends[0][0] if ends else math.inf, next_plan)
        now = max(now, upcoming)
        while ends and ends[0][0] <= now:
            _, run, seconds = heappop(ends)
            scheduler.finished(run, now, seconds)
    decided = sorted(decided[len(decided) // 10 :])
    admits.sort()
    return Cost(
        tickets,
        variants,
        workers,
        decided[len(decided) // 2] / 1e3,
        decided[int(0.99 * len(decided))] / 1e3,
        admits[len(admits) // 2] / 1e3,
    )


def machine(loops: int = 40_000) -> tuple[float, float]:
    """Microseconds at p50 and p99 of the same additions over and over: what differs between
    them is the machine's doing (interrupts, neighbours), not the program's."""
    took = []
    for _ in range(loops):
        begun = perf_counter_ns()
        total = 0
        for number in range(600):
            total += number
        took.append((perf_counter_ns() - begun) / 1e3)
    took.sort()
    return took[len(took) // 2], took[int(0.99 * len(took))]


def walk(decisions: int) -> dict[str, list[Cost]]:
    found: dict[str, list[Cost]] = {}
    for axis, values in (("tickets", TICKETS), ("variants", VARIANTS), ("workers", WORKERS)):
        for value in values:
            gc.collect()
            gc.freeze()
            found.setdefault(axis, []).append(measure(**{**AT, axis: value}, decisions=decisions))
            gc.unfreeze()
            print(axis, found[axis][-1], flush=True)
    return found


def draw(found: dict[str, list[Cost]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    for position, (axis, costs) in enumerate(found.items(), 1):
        axes = figure.add_subplot(1, 3, position)
        x = [getattr(cost, axis) for cost in costs]
        axes.plot(x, [cost.p99 for cost in costs], "o-", color="#c0392b", label="p99")
        axes.plot(x, [cost.p50 for cost in costs], "o-", color="#2471a3", label="p50")
        axes.plot(x, [cost.admit_p50 for cost in costs], "o--", color="0.6", label="admission p50")
        axes.set(xscale="log", yscale="log", ylim=(1, 2000), xlabel=axis, title=f"by {axis}")
        axes.grid(True, which="major", color="0.92")
        if position == 1:
            axes.set_ylabel("microseconds a dispatch")
            axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--decisions", type=int, default=20_000)
    arguments = parser.parse_args()
    before = machine()
    found = walk(arguments.decisions)
    after = machine()
    arguments.out.mkdir(parents=True, exist_ok=True)
    draw(found, arguments.out / "decision-cost.png")
    lines = [
        "| walked | tickets | variants | workers | p50 µs | p99 µs | admission p50 µs |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {axis} | {c.tickets:,} | {c.variants} | {c.workers:,} | {c.p50:.1f} | {c.p99:.1f} |"
            f" {c.admit_p50:.1f} |"
            for axis, costs in found.items()
            for c in costs
        ),
    ]
    (arguments.out / "decision-cost.md").write_text(
        "# What a decision costs\n\n"
        f"Made by `python loadtests/decision_cost.py --out docs/results`"
        f" ({arguments.decisions:,} dispatches a point) on one of {os.cpu_count()} cores,"
        f" {platform.machine()}, Python {platform.python_version()}. A standing queue in virtual"
        " time; the time of `decide` by the dispatches that it made. Variants come in models of"
        " five. Planning every 100 ms is not in it: it is off the way of a request.\n\n"
        "How quiet the machine was: a loop of additions, the same every time, took"
        f" {before[0]:.1f} µs at p50 and {before[1]:.1f} at p99 before the measurement,"
        f" {after[0]:.1f} and {after[1]:.1f} after it. So much of a p99 is not the decision's.\n\n"
        "![decision cost](decision-cost.png)\n\n" + "\n".join(lines) + "\n"
    )


if __name__ == "__main__":
    main()
