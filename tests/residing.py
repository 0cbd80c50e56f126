"""Small problems of residency, and any that Hypothesis thinks of."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hypothesis import strategies as st

from builders import make_model
from gearshift.core.catalog import Model, ServiceClass
from gearshift.core.demand import Need, declared
from gearshift.core.profile import LatencyPoint, Profile
from gearshift.core.residency import Memory, Place, Problem

SECONDS = {"large": 0.040, "middle": 0.010, "small": 0.002}
ACCURACIES = {"large": 0.95, "middle": 0.90, "small": 0.80}
DEVICES = {"cpu": 1.0, "gpu": 0.25}
"""How long a row takes there, beside SECONDS."""


def profiles_of(model: Model, devices: Mapping[str, float] = DEVICES) -> tuple[Profile, ...]:
    return tuple(
        Profile(
            variant,
            device,
            [
                LatencyPoint(
                    rows,
                    rows * share * SECONDS[variant.name],
                    1.1 * rows * share * SECONDS[variant.name],
                )
                for rows in (1, 8)
            ],
            8,
        )
        for device, share in devices.items()
        for variant in model.variants
    )


def problem_of(
    models: Mapping[str, Model],
    limits: Mapping[str, float],
    sizes: Mapping[tuple[str, str], float],
    rates: Mapping[Need, float] | None = None,
    resident: frozenset[Place] = frozenset(),
    barred: frozenset[Place] = frozenset(),
    workers: Mapping[str, int] | None = None,
    seconds: float = 1.0,
) -> Problem:
    """Each load takes `seconds`."""
    return Problem(
        demand={**declared(models), **(rates or {})},
        models=models,
        profiles={name: profiles_of(model) for name, model in models.items()},
        workers=workers or {"cpu": 2, "gpu": 1},
        memory=Memory(limits=limits, sizes=sizes, seconds=dict.fromkeys(sizes, seconds)),
        resident=resident,
        barred=barred,
    )


def a_model(name: str, floor: float = 0.0, budget: float = 1.0) -> Model:
    return make_model(name, ACCURACIES, [ServiceClass("default", budget, floor)])


def need(model: str, floor: float = 0.80, budget: float = 1.0) -> Need:
    return Need(model, floor, budget, None, 1.0)


def all_places(problem: Problem) -> list[Place]:
    """Every place that could be loaded."""
    found = {
        place
        for model, profiles in problem.profiles.items()
        for profile in profiles
        if (place := problem.memory.place(model, profile)) is not None
    }
    return sorted(found)


@st.composite
def problems(draw: st.DrawFn, most: int = 3) -> Problem:
    """Up to `most` models with floors and rates, one or both devices limited, and something that is
    loaded already and fits."""
    names = ["a", "b", "c"][: draw(st.integers(1, most))]
    floors = st.sampled_from([0.0, 0.85, 0.92])
    models = {
        name: a_model(name, draw(floors), draw(st.sampled_from([0.005, 0.05, 1.0, math.inf])))
        for name in names
    }
    sizes = {(name, v): draw(st.integers(1, 12)) for name in names for v in ACCURACIES}
    limited = draw(st.sampled_from([("cpu",), ("gpu",), ("cpu", "gpu")]))
    limits = {device: draw(st.integers(1, 30)) for device in limited}
    rates = {
        need(name, draw(st.sampled_from([0.80, 0.90, 0.95]))): draw(st.floats(0.1, 2000))
        for name in names
        if draw(st.booleans())
    }
    bare = problem_of(models, limits, sizes, rates)
    resident: set[Place] = set()
    for place in draw(st.permutations(all_places(bare))):
        used = bare.memory.used([*resident, place])[place.device]
        if draw(st.booleans()) and used <= limits[place.device]:
            resident.add(place)
    return problem_of(models, limits, sizes, rates, frozenset(resident))
