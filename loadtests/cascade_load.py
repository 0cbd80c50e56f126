"""Does the scheduler choose cascades by itself where load makes the best variant too dear, and
what does it gain?

    python -m loadtests.cascade_load --out docs/results

In virtual time, with the scheduler as served: two cores and the express worker, traffic for
`garment` at rising load, with the shipped cascades and without them, the same arrivals, service
times and pictures (as far as those matter: which ones the first variant is not sure of).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from loadtests.arrivals import Arrivals
from loadtests.peers.peer import ROOT

from gearshift.core.cascade import gain
from gearshift.core.catalog import Cascade, Catalog, Model, ServiceClass, Signature, Variant
from gearshift.core.profile import LatencyPoint, Profile, Profiles
from gearshift.ports import EXPRESS, SHORT
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
SEEDS = (0, 1, 2)
LOADS = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 20.0, 40.0)
"""Times of what keeps two workers busy with the best variant."""
SECONDS = 20.0
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
    """`accuracy` of the answers in time, as the server counts it; `true` is that with each
    fallback counted as what it is: the answer to a row that the first variant is not sure of."""

    attainment: float
    accuracy: float
    true: float
    cascaded: float
    fallback: float
    gears: Mapping[str, float]


def figures(result: Result, model: Model) -> Found:
    answers = dict(result.variants.get(MODEL, {}))
    total = max(1, sum(answers.values()))
    worse = cascaded = fallen = 0.0
    for cascade in model.cascades:
        parts = {stage: answers.get(f"{cascade.name}/{stage}", 0) for stage in ("first", "then")}
        back = answers.get(f"{cascade.name}/fallback", 0)
        real = cascade.accuracy - gain(model, cascade)
        worse += back * (model.by_name(cascade.first).accuracy - real)
        cascaded += sum(parts.values()) + back
        fallen += back
    accuracy = result.total.mean_served_accuracy or 0.0
    return Found(
        attainment=result.total.attainment,
        accuracy=accuracy,
        true=accuracy - worse / total,
        cascaded=cascaded / total,
        fallback=fallen / total,
        gears={name: count / total for name, count in answers.items()},
    )


def measure(job: tuple[str, float, int, bool]) -> Found:
    traffic, load, seed, cascades = job
    made = scenario(traffic, load, seed, cascades)
    policy = Gearshift(made.catalog, made.profiles, made.workers)
    result = run(made, policy, "gearshift", noise=NOISE, seed=seed)
    return figures(result, made.catalog.models[MODEL])
