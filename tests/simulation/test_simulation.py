"""The whole server in virtual time: no seed breaks a promise, and a bug put in is found.

`make simulate-faults` does the same with ten thousand seeds and every mutation.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from simulation.check import Failure, Shown, check, found_after, problems_of
from simulation.mutations import MUTATIONS
from simulation.parts import append, done
from simulation.scenario import Ask, Drain, draw
from simulation.shrinking import shrunk
from simulation.world import run

ROOT = Path(__file__).parents[2]
BY_NAME = {mutation.name: mutation for mutation in MUTATIONS}
DIGESTS = """
from simulation.scenario import draw
from simulation.world import run
print(*(run(draw(seed)).history.digest for seed in range(100, 103)))
"""


def test_no_seed_breaks_a_promise():
    shown = check(range(30))
    assert not shown.failures, shown.failures
    # It was really asked, answered, disturbed.
    assert shown.endings["OK"] > 100
    assert len(shown.endings) > 10
    assert len(shown.faults) > 3


def test_the_same_seed_is_the_same_run_to_the_byte_in_any_process():
    told = set()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", DIGESTS],
            env={
                **os.environ,
                "PYTHONHASHSEED": seed,
                "PYTHONPATH": f"{ROOT / 'service'}:{ROOT / 'tests'}:{ROOT}",
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        told.add(done.stdout)
    assert len(told) == 1
    assert len(set(told.pop().split())) == 3


@pytest.mark.parametrize(
    "name",
    [
        "an answer is given twice",
        "the neighbour's rows",
        "the floor is forgotten in the queue",
        "a worker is given a second run",
        "the bytes of a request are held for ever",
    ],
)
def test_a_bug_put_in_on_purpose_is_found(name):
    found = found_after(BY_NAME[name], range(20))
    assert found is not None


def test_a_failing_scenario_is_made_small():
    mutation = BY_NAME["the neighbour's rows"]
    with mutation.in_force():
        seed = next(seed for seed in range(20) if "own_rows" in problems_of(draw(seed)))
        small = shrunk(draw(seed), lambda each: "own_rows" in problems_of(each))
    assert len(small.steps) <= 8
    assert sum(isinstance(step, Ask) for step in small.steps) >= 2
    assert not problems_of(small)


def test_a_drain_in_the_middle_loses_nobody():
    scenario = draw(3)
    middle = Drain(at=scenario.ends / 2)
    steps = sorted([*scenario.steps, middle], key=lambda step: step.at)
    outcome = run(replace(scenario, steps=tuple(steps)))
    assert outcome.history.drained_at == pytest.approx(middle.at)
    assert all(heard.endings for heard in outcome.history.heard.values())


def test_what_was_run_is_known_again(tmp_path):
    file, first, second = tmp_path / "parts.jsonl", range(2), range(2, 4)
    shown = check(first)
    append(file, first, shown, "old")
    failed = Shown(runs=2, failures=[Failure(3, {"in_time": ["late"]})])
    append(file, second, failed, "old")
    assert done(file, (first, second), "old") == {first: (shown, "old"), second: (failed, "old")}
    # What failed is run again with other code; what was not asked for is left out.
    assert done(file, (first, second), "new") == {first: (shown, "old")}
    assert not done(file, (second,), "new")
