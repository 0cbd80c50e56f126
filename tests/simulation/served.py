"""What is served in a simulation: models, and prices that stand in for the planner's."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from random import Random
from typing import Any

from builders import make_variant
from gearshift.core.catalog import Cascade, Catalog, Late, Model, ServiceClass
from simulation.executors import SIGNATURE
from simulation.scenario import MAX_BATCH, MS, VARIANTS

CASCADE = Cascade(
    name="pair", first="small", then="large", threshold=0.8, escalated=1 / 7, accuracy=0.92
)


def models() -> tuple[Model, ...]:
    classes = (
        ServiceClass("default", budget=2.0),
        ServiceClass("realtime", budget=30 * MS, weight=2.0),
        ServiceClass("archive", budget=60 * MS, late=Late.SERVE),
        ServiceClass("critical", budget=0.3, floor=0.85),
    )
    found = []
    for name, cascades in (("a", ()), ("b", (CASCADE,))):
        variants = [make_variant(v, n, VARIANTS[v]) for n, v in enumerate(VARIANTS, start=1)]
        found.append(
            Model(
                name=name,
                metric="average_precision",
                max_batch_size=MAX_BATCH,
                signature=SIGNATURE,
                classes={each.name: each for each in classes},
                default_class="default",
                variants=tuple(variants),
                cascades=cascades,
            )
        )
    return tuple(found)


class Prices:
    """In the planner's place: no prices, or wild ones, which may cost accuracy and no promise."""

    def __init__(self, wild: bool, random: Random) -> None:
        self._wild = wild
        self._random = random

    def steps(self, outlook: object) -> Generator[None, None, Mapping[str, float]]:
        yield
        wild = (0.0, 0.01, 3.0, 1e9, -1.0, math.nan, math.inf)
        return {"cpu": self._random.choice(wild)} if self._wild else {}


def load_all(executor: Any, catalog: Catalog) -> None:
    for model in catalog.models.values():
        for variant in model.variants:
            executor.load(model, variant)
