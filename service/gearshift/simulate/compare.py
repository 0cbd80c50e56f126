"""Several policies on the same scenario, loads and seeds, beside the bound."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gearshift.simulate.bounds.result import Bound
from gearshift.simulate.extra import need
from gearshift.simulate.policies import find_policy
from gearshift.simulate.policies.resident import find_resident
from gearshift.simulate.result import Result
from gearshift.simulate.runner import run
from gearshift.simulate.scenario import Scenario

OnProgress = Callable[[str, float, float], None]
"""Called with what is running, how many runs are done (and of the present one a part), and
how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Results in the order in which they were asked for; bounds by speed-up, if any."""

    results: tuple[Result, ...]
    bounds: Mapping[float, Bound]

    def to_json(self) -> dict[str, Any]:
        return {
            "results": [result.to_json() for result in self.results],
            "bounds": [{"speed_up": up, **asdict(bound)} for up, bound in self.bounds.items()],
        }


def compare(
    scenario: Scenario,
    policies: Sequence[str],
    *,
    speed_ups: Sequence[float],
    seeds: Sequence[int],
    noise: float,
    bound_step: float | None,
    on_progress: OnProgress,
    on_time_bonus: float = 0.0,
) -> Comparison:
    """Every policy at every load with every seed; `bound_step` (seconds) adds the bound, and
    `on_time_bonus` is the core's setting.

    Raises ConfigurationInvalid at once for an unknown policy or a missing package.
    """
    memory = scenario.memory
    factories = {
        name: find_policy(name, on_time_bonus)
        if memory is None
        else find_resident(name, on_time_bonus, memory)
        for name in policies
    }
    if bound_step is not None:
        need("scipy", "the bound")
    runs = len(speed_ups) * (len(policies) * len(seeds) + (bound_step is not None))
    done = 0
    results = []
    bounds = {}
    for speed_up in speed_ups:
        for name, factory in factories.items():
            for seed in seeds:

                def tell(
                    part: int, whole: int, what: str = f"{name} at {speed_up:g}x", done: int = done
                ) -> None:
                    on_progress(what, done + part / whole, runs)

                policy = factory(scenario.catalog, scenario.profiles, scenario.workers)
                results.append(
                    run(
                        scenario,
                        policy,
                        name,
                        speed_up=speed_up,
                        noise=noise,
                        seed=seed,
                        on_progress=tell,
                    )
                )
                done += 1
        if bound_step is not None:
            from gearshift.simulate.bounds import resident, time_expanded

            bound = time_expanded if memory is None else resident
            on_progress(f"bound at {speed_up:g}x", done, runs)
            bounds[speed_up] = bound.upper_bound(scenario, speed_up=speed_up, step=bound_step)
            done += 1
    on_progress("", done, runs)
    return Comparison(results=tuple(results), bounds=bounds)
