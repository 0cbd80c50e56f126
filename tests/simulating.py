"""Small scenarios for the simulator: in memory, or as the files that a person would write."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from builders import make_catalog, make_model
from gearshift.core.catalog import ServiceClass
from gearshift.core.profile import LatencyPoint, Profile, Profiles
from gearshift.simulate.policies import POLICIES
from gearshift.simulate.result import Result
from gearshift.simulate.runner import run
from gearshift.simulate.scenario import Scenario
from gearshift.simulate.table import SourceFile
from gearshift.simulate.workload_file import Workload

PROFILES = """\
model,variant,accuracy,device,batch,p50_ms,p99_ms
fraud,large,90,cpu,1,4,5
fraud,large,90,cpu,8,16,20
fraud,small,80,cpu,1,1,1.2
fraud,small,80,cpu,8,2,2.4
tumor,only,95,gpu,1,30,33
"""
WORKLOAD = """\
arrival_ms,model,budget_ms,min_accuracy,service_class
0,fraud,50,,realtime
0,fraud,50,85,
2.5,tumor,100,0,critical
"""

Request = tuple[float, str, float, float]
"""Arrival, model, budget and floor; seconds, floor -inf for none."""


def write_files(folder: Path, profiles: str = PROFILES, workload: str = WORKLOAD) -> list[str]:
    """Both files, and the options that name them."""
    (folder / "profiles.csv").write_text(profiles)
    (folder / "workload.csv").write_text(workload)
    return [
        *("--profiles", str(folder / "profiles.csv")),
        *("--workload", str(folder / "workload.csv")),
    ]


def make_scenario(
    models: Mapping[str, Mapping[str, tuple[float, float, float]]],
    requests: Sequence[Request],
    workers: Sequence[str] = ("cpu",),
    max_batch: int = 4,
    slower: Mapping[str, float] | None = None,
    classes: Sequence[str] | None = None,
) -> Scenario:
    """`models` by variant: accuracy, seconds a batch, seconds a row.

    `slower` says how many times slower a device is; without it all are alike.
    """
    names = sorted(set(classes or ()) | {"default"})
    catalog = make_catalog(
        *(
            make_model(
                model,
                {variant: accuracy for variant, (accuracy, _, _) in variants.items()},
                classes=[ServiceClass(name) for name in names],
                max_batch_size=max_batch,
            )
            for model, variants in models.items()
        )
    )
    profiles = []
    for model in catalog.models.values():
        for variant in model.variants:
            _, fixed, per_row = models[model.name][variant.name]
            for device in dict.fromkeys(workers):
                factor = (slower or {}).get(device, 1.0)
                points = []
                for rows in range(1, max_batch + 1):
                    seconds = factor * (fixed + per_row * rows)
                    points.append(LatencyPoint(rows, seconds, seconds))
                profiles.append(Profile(variant, device, points, max_batch))
    ordered = sorted(requests, key=lambda request: request[0])
    arrivals, names_asked, budgets, floors = (
        zip(*ordered, strict=True) if ordered else ((), (), (), ())
    )
    return Scenario(
        catalog=catalog,
        profiles=Profiles(catalog.models, profiles),
        workload=Workload(
            source=SourceFile("workload.csv", "0" * 64),
            lines=range(2, len(ordered) + 2),
            arrivals=np.array(arrivals, float),
            models=list(names_asked),
            budgets=np.array(budgets, float),
            floors=np.array(floors, float),
            classes=list(classes or ["default"] * len(ordered)),
        ),
        workers=dict(enumerate(workers)),
        sources={"workload": SourceFile("workload.csv", "0" * 64)},
    )


def run_policy(scenario: Scenario, name: str, **options) -> Result:
    policy = POLICIES[name](scenario.catalog, scenario.profiles, scenario.workers)
    return run(scenario, policy, name, **options)


MODELS = {
    "a": {"large": (0.95, 2.0, 6.0), "middle": (0.9, 2.0, 2.0), "small": (0.8, 1.0, 0.25)},
    "b": {"large": (0.9, 1.0, 3.0), "small": (0.7, 0.5, 0.5)},
}
"""Seconds as large as the numbers are easy to read."""

REQUESTS = st.tuples(
    st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.5, 5.0, 8.0]),
    st.sampled_from(sorted(MODELS)),
    st.sampled_from([1.25, 2.0, 4.0, 9.0, 30.0]),
    st.sampled_from([-math.inf, 0.85, 0.95]),
)


def scenarios(most_requests: int = 6) -> st.SearchStrategy[Scenario]:
    """A few requests on one to three workers of one or two devices."""
    return st.builds(
        lambda requests, workers: make_scenario(
            MODELS, requests, workers, max_batch=3, slower={"gpu": 0.5}
        ),
        st.lists(REQUESTS, min_size=1, max_size=most_requests),
        st.lists(st.sampled_from(["cpu", "gpu"]), min_size=1, max_size=3),
    )
