"""Does the scheduler choose cascades by itself where load makes the best variant too dear, and
what does it gain?

    python -m loadtests.cascade_load --out docs/results

In virtual time, with the scheduler as served: two cores and the express worker, traffic for
`garment` at rising load, with the shipped cascades and without them, the same arrivals, service
times and pictures (as far as those matter: which ones the first variant is not sure of).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from loadtests.arrivals import Arrivals
from loadtests.peers.environment import command_line
from loadtests.peers.peer import ROOT

from gearshift.core.cascade import gain
from gearshift.core.catalog import Cascade, Catalog, Model, ServiceClass, Signature, Variant
from gearshift.core.profile import LatencyPoint, Profile, Profiles
from gearshift.ports import EXPRESS, SHORT, Stage
from gearshift.simulate.policies.gearshift import Gearshift
from gearshift.simulate.result import Result
from gearshift.simulate.runner import run
from gearshift.simulate.scenario import Scenario
from gearshift.simulate.table import SourceFile
from gearshift.simulate.workload_file import Workload

MODEL, BEST = "garment", "teacher-int8"
MILLISECONDS: Mapping[str, tuple[float, float]] = {
    # Of a batch of 1 and of 64: docs/results/garment.md.
    "teacher-int8": (6.68, 450.0),
    "pruned": (0.858, 57.0),
    "pruned-int8": (0.820, 53.0),
    "student": (0.146, 5.13),
    "student-int8": (0.162, 5.05),
    "mini": (0.0972, 2.2),
    "tiny": (0.0566, 0.446),
    "nano": (0.0588, 0.255),
}
BATCHES = (1, 2, 4, 8, 16, 32, 64)
TAIL = 1.15
"""The p99 as a multiple of the p50."""
NOISE = 0.05
SEEDS = (0, 1)
LOADS = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 40.0, 80.0)
"""Times of what keeps two workers busy with the best variant."""
SECONDS = 8.0
TRAFFIC: Mapping[str, Mapping[float, float]] = {
    # By budget in seconds, its share of the requests.
    "50 ms": {0.05: 1.0},
    "5 ms": {0.005: 1.0},
    "half 5 ms, half 50 ms": {0.005: 0.5, 0.05: 0.5},
}


def garment(cascades: bool) -> tuple[Model, list[Profile]]:
    """The model with its cards' accuracies, and its gears where the server places them."""
    folder = ROOT / "model_repo" / MODEL
    variants = [
        Variant(
            name=name,
            version=number,
            executor="simulated",
            accuracy=json.loads((folder / name / "card.json").read_text())["accuracy"]["value"],
            source="measured",
            artifact="",
        )
        for number, name in enumerate(MILLISECONDS, start=1)
    ]
    told = [json.loads(path.read_text()) for path in sorted(folder.glob("*/cascade.json"))]
    model = Model(
        name=MODEL,
        metric="top1",
        max_batch_size=64,
        signature=Signature((), ()),
        classes={"default": ServiceClass("default")},
        default_class="default",
        variants=tuple(sorted(variants, key=lambda variant: -variant.accuracy)),
        cascades=tuple(
            Cascade(
                name=each["cascade"],
                first=each["first"],
                then=each["then"],
                threshold=each["threshold"],
                escalated=each["escalated"],
                accuracy=each["accuracy"]["value"],
            )
            for each in told
            if cascades
        ),
    )
    profiles = []
    for variant in model.variants:
        one, many = MILLISECONDS[variant.name]
        row = (many - one) / 63
        times = {batch: (one + row * (batch - 1)) / 1e3 for batch in BATCHES}
        points = [LatencyPoint(batch, p50, TAIL * p50) for batch, p50 in times.items()]
        short = max((batch for batch, p50 in times.items() if p50 <= SHORT), default=0)
        if short:
            profiles.append(Profile(variant, EXPRESS, points, short))
        if short < model.max_batch_size:
            profiles.append(Profile(variant, "cpu", points, model.max_batch_size))
    return model, profiles


def scenario(traffic: str, load: float, seed: int, cascades: bool) -> Scenario:
    random = np.random.default_rng(seed)
    rate = load * 2 / (MILLISECONDS[BEST][0] / 1e3)
    arrivals = Arrivals(rate=rate).draw(SECONDS, random)
    shares = TRAFFIC[traffic]
    budgets = random.choice(list(shares), len(arrivals), p=list(shares.values()))
    model, profiles = garment(cascades)
    workers = {0: EXPRESS, 1: "cpu", 2: "cpu"}
    source = SourceFile("", "")
    workload = Workload(
        source=source,
        lines=range(len(arrivals)),
        arrivals=arrivals,
        models=[MODEL] * len(arrivals),
        budgets=budgets,
        floors=np.full(len(arrivals), -np.inf),
        classes=["default"] * len(arrivals),
    )
    declared = ServiceClass("default", budget=min(shares))
    model = replace(model, classes={"default": declared})
    models = {MODEL: model}
    return Scenario(
        Catalog(1, models), Profiles(models, profiles), workload, workers, {"workload": source}
    )


@dataclass(frozen=True, slots=True)
class Found:
    """`accuracy` of the answers in time, with a fallback counted as what it is: the answer to a
    row of which the first variant is not sure. The server states it with the first variant's
    accuracy, which is that of all rows. Shares of the answers: `cascaded` went through a cascade,
    `fallback` got the first answer for want of time."""

    attainment: float
    accuracy: float
    cascaded: float
    fallback: float
    most: str


def figures(result: Result, model: Model) -> Found:
    answers = dict(result.variants.get(MODEL, {}))
    total = max(1, sum(answers.values()))
    worse = cascaded = fallen = 0.0
    for cascade in model.cascades:
        back = answers.get(f"{cascade.name}/fallback", 0)
        unsure = cascade.accuracy - gain(model, cascade)
        worse += back * (model.by_name(cascade.first).accuracy - unsure)
        through = [answers.pop(f"{cascade.name}/{stage.value}", 0) for stage in Stage]
        cascaded += sum(through)
        fallen += back
        answers[cascade.name] = sum(through)
    return Found(
        attainment=result.total.attainment,
        accuracy=(result.total.mean_served_accuracy or 0.0) - worse / total,
        cascaded=cascaded / total,
        fallback=fallen / total,
        most=max(answers, key=lambda name: answers[name]),
    )


Job = tuple[str, float, int, bool]
"""Traffic, load, seed, and whether there are cascades."""


def measure(job: Job) -> Found:
    traffic, load, seed, cascades = job
    made = scenario(traffic, load, seed, cascades)
    policy = Gearshift(made.catalog, made.profiles, made.workers)
    result = run(made, policy, "gearshift", noise=NOISE, seed=seed)
    return figures(result, made.catalog.models[MODEL])


# --- the page ---------------------------------------------------------------------------

Cell = Sequence[Found]
"""One for each seed."""


def mean(cell: Cell, name: str) -> float:
    return statistics.fmean(getattr(found, name) for found in cell)


def page(cells: Mapping[tuple[str, float, bool], Cell]) -> Iterator[str]:
    yield "# Cascades under rising load\n"
    yield (
        f"Made by `{command_line('loadtests.cascade_load')}` in virtual time"
        f" (Python {platform.python_version()}): the scheduler as served, two cores and the express"
        f" worker, {SECONDS:g} s of Poisson arrivals for `garment`, service times as in"
        f" [garment.md](garment.md) with a spread of {100 * NOISE:g} %, seeds"
        f" {', '.join(map(str, SEEDS))} (means). Load 1 keeps two workers busy if `{BEST}` answers"
        " everybody. Nothing is pinned: who answers is the scheduler's choice. Which pictures the"
        " first variant is not sure of is drawn with the shares in cascade.json.\n"
    )
    yield (
        "Accuracy is the mean over the answers in time. A fallback counts as an answer to a row"
        " that the first variant is not sure of, which is less than the server states for it.\n"
    )
    yield (
        "Gears whose net worths differ by less than 0.2 % count as equal in prices: losses of some"
        " hundredths of a point, where a cascade is as good as the variant beside it, may be that"
        " (not tested).\n"
    )
    yield "![served accuracy by load](cascade-load.png)"
    for traffic in TRAFFIC:
        yield f"\n## Budgets of {traffic}\n"
        yield (
            "| load | accuracy without | with cascades | points | in time without, % | with, %"
            " | through a cascade, % | fallbacks, % | most answers without | with |"
        )
        yield "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |"
        for load in LOADS:
            without, having = cells[traffic, load, False], cells[traffic, load, True]
            before, after = mean(without, "accuracy"), mean(having, "accuracy")
            points = round(100 * (after - before), 2) + 0.0  # no -0.00
            in_time = [100 * mean(each, "attainment") for each in (without, having)]
            yield (
                f"| {load:g} | {before:.4f} | {after:.4f} | {points:+.2f}"
                f" | {in_time[0]:.2f} | {in_time[1]:.2f}"
                f" | {100 * mean(having, 'cascaded'):.1f} | {100 * mean(having, 'fallback'):.2f}"
                f" | `{without[0].most}` | `{having[0].most}` |"
            )
    yield ""


def draw(cells: Mapping[tuple[str, float, bool], Cell], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(TRAFFIC), sharey=True)
    for axes, traffic in zip(panels, TRAFFIC, strict=True):
        for cascades, colour, label in (
            (True, "#1b6ca8", "with cascades"),
            (False, "#b0562c", "without"),
        ):
            heights = [100 * mean(cells[traffic, load, cascades], "accuracy") for load in LOADS]
            axes.plot(LOADS, heights, marker="o", markersize=4, color=colour, label=label)
        axes.set_xscale("log")
        axes.set_xticks(LOADS, [f"{load:g}" for load in LOADS], fontsize=7)
        axes.minorticks_off()
        axes.set_title(f"budgets of {traffic}", fontsize=10)
        axes.set_xlabel("load")
        axes.grid(color="0.9")
        axes.set_axisbelow(True)
    panels[0].set_ylabel("accuracy of the answers in time, %")
    panels[0].legend(frameon=False, loc="lower left")
    figure.savefig(path, dpi=130, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    jobs: list[Job] = [
        (traffic, load, seed, cascades)
        for traffic in TRAFFIC
        for load in LOADS
        for seed in SEEDS
        for cascades in (False, True)
    ]
    cells: dict[tuple[str, float, bool], list[Found]] = {}
    with multiprocessing.Pool() as pool:
        for job, found in zip(jobs, pool.imap(measure, jobs), strict=True):
            traffic, load, _, cascades = job
            cells.setdefault((traffic, load, cascades), []).append(found)
            print(*job, f"{found.accuracy:.4f} {100 * found.attainment:.2f}", flush=True)
    (arguments.out / "cascade-load.md").write_text("\n".join(page(cells)))
    draw(cells, arguments.out / "cascade-load.png")


if __name__ == "__main__":
    main()
