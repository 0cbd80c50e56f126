"""A failing scenario made smaller: the same trouble with fewer steps (delta debugging, Zeller and
Hildebrandt 2002)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from simulation.scenario import Scenario

MOST_TRIES = 200
"""Runs; each takes some tens of milliseconds."""


def shrunk(scenario: Scenario, fails: Callable[[Scenario], bool]) -> Scenario:
    """The smallest scenario found for which `fails` still holds, as it does for this one."""
    tries = 0

    def still(candidate: Scenario) -> bool:
        nonlocal tries
        tries += 1
        return tries <= MOST_TRIES and fails(candidate)

    for fault in scenario.faults:
        fewer = tuple(each for each in scenario.faults if each is not fault)
        candidate = replace(scenario, faults=fewer)
        if still(candidate):
            scenario = candidate
    size = (len(scenario.steps) + 1) // 2
    while size:
        at = 0
        while at < len(scenario.steps):
            candidate = replace(scenario, steps=scenario.steps[:at] + scenario.steps[at + size :])
            if still(candidate):
                scenario = candidate
            else:
                at += size
        size //= 2
    return scenario
