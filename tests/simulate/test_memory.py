"""Simulations in which devices do not hold everything."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from gearshift.cli.commands import app
from gearshift.core.residency import Memory, Place
from gearshift.simulate.bounds import resident, time_expanded
from gearshift.simulate.policies.resident import RESIDENT, find_resident
from gearshift.simulate.policy import ContractBroken
from gearshift.simulate.runner import run
from gearshift.simulate.shelves import Shelves
from simulating import make_scenario, run_policy, scenarios, write_files

SIZED = """\
model,variant,accuracy,device,batch,p50_ms,p99_ms,memory_mb
fraud,large,90,cpu,1,40,44,700
fraud,large,90,cpu,8,160,170,700
fraud,small,80,cpu,1,1,1.2,100
fraud,small,80,cpu,8,2,2.4,100
tumor,large,95,cpu,1,30,33,800
tumor,small,85,cpu,1,3,3.3,200
"""
# Tumor is asked for first, and then fraud; there is room for the large variant of one of them.
WORKLOAD = "arrival_ms,model,budget_ms,min_accuracy\n" + "".join(
    [
        *(f"{500 * n},tumor,300,\n" for n in range(120)),
        *(f"{60000 + 500 * n},fraud,300,\n" for n in range(160)),
    ]
)


@pytest.fixture
def simulate(tmp_path):
    def ran(*options, profiles=SIZED, workload=WORKLOAD):
        files = write_files(tmp_path, profiles, workload)
        return CliRunner().invoke(app, ["simulate", *files, "--workers", "cpu=1", *options])

    return ran


def told(simulate, path, *options):
    ran = simulate("--json", str(path), *options)
    assert ran.exit_code == 0, ran.stderr
    return json.loads(path.read_text())


def test_what_is_asked_for_is_loaded_as_demand_moves(simulate, tmp_path):
    found = told(simulate, tmp_path / "r.json", "--memory", "cpu=1100", "--bound")
    assert found["attainment"] == 1.0
    assert found["loading"]["loads"] >= 1
    assert found["variants"]["tumor"]["large"] > 110
    assert found["variants"]["fraud"]["large"] > 100
    assert found["bound"]["effective_accuracy"] >= found["effective_accuracy"]


def test_what_is_loaded_once_and_for_all_does_worse(simulate, tmp_path):
    best = told(simulate, tmp_path / "r.json", "--memory", "cpu=1100")["effective_accuracy"]
    for name in sorted(set(RESIDENT) - {"gearshift"}):
        options = ("--memory", "cpu=1100", "--policy", name)
        other = told(simulate, tmp_path / "r.json", *options)
        assert other["loading"]["loads"] == 0
        assert other["effective_accuracy"] < best, name


def test_slow_loading_costs(simulate, tmp_path):
    quick = told(simulate, tmp_path / "r.json", "--memory", "cpu=1100", "--loading", "10000")
    slow = told(simulate, tmp_path / "r.json", "--memory", "cpu=1100", "--loading", "50")
    assert slow["effective_accuracy"] < quick["effective_accuracy"]
    assert slow["attainment"] == 1.0


def test_compare_writes_a_page_of_its_own(simulate, tmp_path):
    options = ("--compare", "--bound-step", "250", "--out", str(tmp_path / "out"))
    ran = simulate("--memory", "cpu=1100", *options)
    assert ran.exit_code == 0, ran.stderr
    page = (tmp_path / "out" / "simulate-workload-memory.md").read_text()
    for text in (
        *("--memory cpu=1100 --loading 1000 --bound-step 250", "1100 MB on cpu"),
        *("| accurate-first |", "| upper bound |", "Variants loaded while", "loaded in part"),
    ):
        assert text in page
    assert "infaas" not in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--memory", "tpu=5"), "there are no workers of 'tpu'; there are: cpu"),
        (("--memory", "cpu=0"), "give megabytes above 0"),
        (("--memory", "cpu=much"), "give megabytes above 0"),
        (("--memory", "cpu"), "write for example gpu=16000"),
        (("--memory", "cpu=1100", "--loading", "0"), "--loading 0"),
        (("--memory", "cpu=1100", "--policy", "slackfit"), "with --memory choose one of gearshift"),
        (("--policy", "accurate-first"), "there is no such policy"),
    ],
)
def test_mistakes_are_told(simulate, options, message):
    ran = simulate(*options)
    assert ran.exit_code == 1
    assert message in ran.stderr


def test_a_variant_without_a_size_is_told(simulate):
    ran = simulate("--memory", "cpu=1100", profiles=SIZED.replace("3.3,200", "3.3,"))
    assert ran.exit_code == 1
    assert "variant 'small' of model 'tumor' has none" in ran.stderr


# --- the judge ----------------------------------------------------------------------------

LARGE, SMALL = Place("m", "large", "cpu"), Place("m", "small", "cpu")
MEMORY = Memory(
    limits={"cpu": 10.0},
    sizes={("m", "large"): 8.0, ("m", "small"): 4.0},
    seconds={("m", "large"): 2.0, ("m", "small"): 1.0},
)


def test_memory_is_judged():
    with pytest.raises(ContractBroken, match="which has 10"):
        Shelves(MEMORY, [LARGE, SMALL])
    shelves = Shelves(MEMORY, [LARGE])
    with pytest.raises(ContractBroken, match="which has 10"):
        shelves.load(SMALL, 0.0)


def test_loading_takes_its_time_one_after_the_other():
    shelves = Shelves(replace(MEMORY, limits={"cpu": 20.0}), [])
    shelves.load(LARGE, 0.0)
    with pytest.raises(ContractBroken, match="loads something else"):
        shelves.load(SMALL, 0.5)
    assert shelves.done(1.9) == []
    assert shelves.done(2.0) == [LARGE]
    assert (shelves.loads, shelves.seconds) == (1, 2.0)


ONE = {"m": {"large": (0.9, 0.0, 1.0), "small": (0.5, 0.0, 0.25)}}
AT_ONCE = [(0.0, "m", 9.0, -math.inf)]


def limited(scenario, limit, seconds=1.0):
    """The scenario with so much memory on each device, where the first variants of a model are the
    larger ones."""
    sizes = {
        (model.name, variant.name): float(len(model.variants) - number)
        for model in scenario.catalog.models.values()
        for number, variant in enumerate(model.variants)
    }
    memory = Memory(
        limits=dict.fromkeys(scenario.counts, limit),
        sizes=sizes,
        seconds=dict.fromkeys(sizes, seconds),
    )
    return replace(scenario, memory=memory)


def test_what_is_not_loaded_must_not_run():
    scenario = limited(make_scenario(ONE, AT_ONCE), 1.0)
    policy = find_resident("smallest-first", 0.0, scenario.memory)(
        scenario.catalog, scenario.profiles, scenario.workers
    )
    policy._residency.resident.add(LARGE)
    policy._tell(["m"], 0.0)
    with pytest.raises(ContractBroken, match="is not loaded, but"):
        run(scenario, policy, "wrong")


def test_a_policy_that_holds_everything_is_no_policy_for_this():
    with pytest.raises(ContractBroken, match="does not say what it loads"):
        run_policy(limited(make_scenario(ONE, AT_ONCE), 1.0), "gearshift")


# --- the bound ----------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(scenarios(most_requests=6), st.integers(1, 6), st.sampled_from([0.2, 3.0]))
def test_nobody_passes_the_bound(scenario, limit, seconds):
    scenario = limited(scenario, float(limit), seconds)
    bound = resident.upper_bound(scenario, step=1.0).effective_accuracy
    everything = time_expanded.upper_bound(replace(scenario, memory=None), step=1.0)
    assert bound <= everything.effective_accuracy + 1e-6
    for name in RESIDENT:
        policy = find_resident(name, 0.0, scenario.memory)(
            scenario.catalog, scenario.profiles, scenario.workers
        )
        reached = run(scenario, policy, name)
        assert reached.total.effective_accuracy <= bound + 1e-6, name


def test_the_bound_knows_what_does_not_fit():
    requests = AT_ONCE * 2
    for limit, expected in ((2.0, 0.9), (1.0, 0.5), (0.5, 0.0)):
        scenario = limited(make_scenario(ONE, requests), limit)
        bound = resident.upper_bound(scenario, step=9.5).effective_accuracy
        assert bound == pytest.approx(expected)


def test_the_bound_knows_that_two_do_not_fit_at_once():
    """Two models, each of which would have to be loaded for one step; loading takes for ever."""
    two = {name: {"only": (0.9, 0.0, 0.1)} for name in "ab"}
    requests = [(0.0, name, 0.4, -math.inf) for name in "ab"]
    scenario = limited(make_scenario(two, requests, workers=["cpu"] * 2), 1.0, seconds=1e9)
    bound = resident.upper_bound(scenario, step=1.0).effective_accuracy
    assert bound == pytest.approx(0.45)
