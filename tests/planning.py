"""Small inputs for plans: pods, requests and the files that a person would write."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from builders import make_catalog, make_model
from gearshift.core.catalog import Catalog
from gearshift.core.profile import LatencyPoint, Profile, Profiles
from gearshift.simulate.planning.goals import Goal, Measure
from gearshift.simulate.planning.kinds import Kind
from gearshift.simulate.planning.pod import Pod
from gearshift.simulate.planning.traffic import Recorded
from gearshift.simulate.table import SourceFile
from gearshift.simulate.workload_file import Workload

KINDS = """\
name,device,workers,memory_mb,price_per_hour
small,cpu,1,1000,0.05
large,cpu,4,4000,0.19
"""
PROFILES = """\
model,variant,accuracy,device,batch,p50_ms,p99_ms,memory_mb
fraud,large,0.9,cpu,1,4,5,300
fraud,large,0.9,cpu,8,16,20,
fraud,small,0.8,cpu,1,2,2.4,50
fraud,small,0.8,cpu,8,4,4.8,
tumor,only,0.95,cpu,1,30,33,200
"""

Variants = Mapping[str, Mapping[str, tuple[float, float, float]]]
"""By model and variant: accuracy, seconds a batch, seconds a row."""

MODELS: Variants = {
    "fraud": {"large": (0.9, 0.004, 0.002), "small": (0.8, 0.0015, 0.0005)},
    "tumor": {"only": (0.95, 0.02, 0.01)},
}


def make_kind(name: str = "small", workers: int = 1, price: float = 0.05, **options) -> Kind:
    given = {"devices": ("cpu",), "memory": 1000.0, "cpus": float(workers), **options}
    return Kind(name=name, workers=workers, price=price, **given)


def make_pod(
    kind: Kind,
    variants: Variants = MODELS,
    memory: Mapping[tuple[str, str], float] | None = None,
    max_batch: int = 8,
) -> Pod:
    catalog: Catalog = make_catalog(
        *(
            make_model(
                model,
                {v: accuracy for v, (accuracy, _, _) in found.items()},
                max_batch_size=max_batch,
            )
            for model, found in variants.items()
        )
    )
    profiles = []
    for model in catalog.models.values():
        for variant in model.variants:
            _, fixed, row = variants[model.name][variant.name]
            points = [
                LatencyPoint(rows, fixed + row * rows, 1.1 * (fixed + row * rows))
                for rows in (1, max_batch)
            ]
            profiles += [Profile(variant, device, points, max_batch) for device in kind.devices]
    workers = dict(enumerate(device for device in kind.devices for _ in range(kind.workers)))
    return Pod(kind, catalog, Profiles(catalog.models, profiles), workers, memory or {}, 100.0)


def make_workload(
    rates: Mapping[str, float],
    seconds: float,
    budgets: Mapping[str, float],
    floors: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Workload:
    """Poisson arrivals; `rates` (a second), `budgets` (seconds) and `floors` by model."""
    random = np.random.default_rng(seed)
    found = sorted(
        (float(at), model)
        for model, rate in rates.items()
        for at in random.random(random.poisson(rate * seconds)) * seconds
    )
    models = [model for _, model in found]
    return Workload(
        source=SourceFile("workload.csv", "0" * 64),
        lines=range(2, len(found) + 2),
        arrivals=np.array([at for at, _ in found]),
        models=models,
        budgets=np.array([budgets[model] for model in models]),
        floors=np.array([(floors or {}).get(model, -math.inf) for model in models]),
        classes=["default"] * len(found),
    )


def make_traffic(
    rates: Mapping[str, float],
    seconds: float = 20.0,
    budgets: Mapping[str, float] | None = None,
    **options,
) -> Recorded:
    asked = {"fraud": 0.02, "tumor": 0.25, **(budgets or {})}
    return Recorded(make_workload(rates, seconds, asked, **options), 1.0)


def attainment(least: float, model: str = "fraud", service_class: str | None = "default") -> Goal:
    return Goal(Measure.ATTAINMENT, model, service_class, least)


def write_inputs(
    folder: Path,
    workload: Workload,
    kinds: str = KINDS,
    profiles: str = PROFILES,
) -> Sequence[str]:
    """The three files, and the options that name them."""
    (folder / "kinds.csv").write_text(kinds)
    (folder / "profiles.csv").write_text(profiles)
    rows = zip(
        workload.arrivals,
        workload.models,
        workload.budgets,
        workload.floors,
        workload.classes,
        strict=True,
    )
    lines = [
        f"{at * 1e3},{model},{budget * 1e3},{'' if floor == -math.inf else floor},{name}"
        for at, model, budget, floor, name in rows
    ]
    header = "arrival_ms,model,budget_ms,min_accuracy,service_class"
    (folder / "workload.csv").write_text("\n".join([header, *lines]) + "\n")
    return [
        *("--kinds", str(folder / "kinds.csv")),
        *("--profiles", str(folder / "profiles.csv")),
        *("--workload", str(folder / "workload.csv")),
    ]
