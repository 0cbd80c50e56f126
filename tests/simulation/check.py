"""Runs one after the other, and what they have shown together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from simulation.judge import judge
from simulation.mutations import Mutation
from simulation.scenario import Scenario, draw
from simulation.shrinking import shrunk
from simulation.world import Outcome, run

CAME_TO_ITS_END = "comes_to_its_end"
"""The invariant that nothing breaks the server as a whole."""


@dataclass(slots=True)
class Failure:
    """A seed whose run broke an invariant: which, and how."""

    seed: int
    problems: dict[str, list[str]]


@dataclass(slots=True)
class Shown:
    """Sums over many runs. `seconds` are virtual."""

    runs: int = 0
    seconds: float = 0.0
    requests: int = 0
    batches: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    troubles: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        history = outcome.history
        self.runs += 1
        self.seconds += outcome.seconds
        self.requests += len(history.heard)
        self.batches += len(history.runs)
        for heard in history.heard.values():
            self.endings.update(heard.endings)
            if heard.ask.wrong:
                self.troubles["requests with a mistake"] += 1
        self.faults.update({kind.value: times for kind, times in outcome.struck.items()})
        self.troubles.update(type(step).__name__ for step in outcome.scenario.steps)

    def merge(self, other: Shown) -> None:
        self.runs += other.runs
        self.seconds += other.seconds
        self.requests += other.requests
        self.batches += other.batches
        self.endings += other.endings
        self.faults += other.faults
        self.troubles += other.troubles
        self.failures += other.failures


def judged(scenario: Scenario) -> tuple[Outcome | None, dict[str, list[str]]]:
    """Its run, and what is wrong with it; None if the server did not live to its end, or if on a
    loop where time passes only when there is a timer something waits for ever."""
    try:
        outcome = run(scenario)
    except Exception as error:  # noqa: BLE001 - whatever broke, it is what is looked for
        return None, {CAME_TO_ITS_END: [repr(error)]}
    return outcome, judge(outcome)


def problems_of(scenario: Scenario) -> dict[str, list[str]]:
    """What is wrong with the run of this scenario."""
    return judged(scenario)[1]


def check(seeds: Iterable[int]) -> Shown:
    """Run these seeds and judge each."""
    shown = Shown()
    for seed in seeds:
        outcome, problems = judged(draw(seed))
        if outcome is not None:
            shown.add(outcome)
        if problems:
            shown.failures.append(Failure(seed, problems))
    return shown


def smallest(seed: int) -> tuple[Scenario, dict[str, list[str]]]:
    """The smallest scenario found that breaks an invariant that this seed breaks."""
    scenario = draw(seed)
    broken = set(problems_of(scenario))
    if not broken:
        return scenario, {}
    small = shrunk(scenario, lambda candidate: bool(broken & set(problems_of(candidate))))
    return small, problems_of(small)


def found_after(mutation: Mutation, seeds: Iterable[int]) -> tuple[int, str] | None:
    """After how many seeds the mutation is found, and by which invariants; None if it is not."""
    with mutation.in_force():
        for count, seed in enumerate(seeds, start=1):
            problems = problems_of(draw(seed))
            if problems:
                return count, ", ".join(problems)
    return None
