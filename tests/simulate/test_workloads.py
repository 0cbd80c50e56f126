"""The workload generators: what they promise of rate, burstiness, swing and crowd."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

from gearshift.simulate.scenario import load_scenario

LOADTESTS = Path(__file__).parents[2] / "loadtests"


@pytest.fixture(scope="module")
def loadtests():
    """The two modules, which are scripts and not a package."""
    sys.path.insert(0, str(LOADTESTS))
    try:
        import arrivals
        import workloads

        yield arrivals, workloads
    finally:
        sys.path.remove(str(LOADTESTS))


def draw(arrivals, duration=2000.0, seed=1):
    return arrivals.draw(duration, np.random.default_rng(seed))


@pytest.mark.parametrize("cv2", [0.25, 1.0, 4.0])
def test_rate_and_burstiness_are_those_asked_for(loadtests, cv2):
    moments = draw(loadtests[0].Arrivals(rate=20, cv2=cv2))
    gaps = np.diff(moments)
    assert len(moments) / 2000 == pytest.approx(20, rel=0.05)
    assert gaps.var() / gaps.mean() ** 2 == pytest.approx(cv2, rel=0.1)
    assert (gaps >= 0).all()
    assert 0 <= moments[0] <= moments[-1] <= 2000


def test_the_rate_swings_as_asked(loadtests):
    moments = draw(loadtests[0].Arrivals(rate=20, swing=0.5, period=2000.0))
    # Over half a sine the mean is 2/pi of its height.
    assert (moments < 1000).sum() == pytest.approx(20_000 * (1 + 0.5 * 2 / np.pi), rel=0.03)
    assert len(moments) == pytest.approx(40_000, rel=0.03)


def test_a_flash_crowd_comes_and_goes(loadtests):
    flash = loadtests[0].Flash(start=500, length=100, factor=5)
    moments = draw(loadtests[0].Arrivals(rate=20, cv2=2.0, flash=flash))
    inside = ((moments >= 500) & (moments < 600)).sum()
    assert inside == pytest.approx(10_000, rel=0.1)
    assert len(moments) - inside == pytest.approx(38_000, rel=0.05)


def test_a_seed_is_a_file(loadtests, tmp_path):
    _, workloads = loadtests
    first = workloads.write_workload("two-core-hard", tmp_path, 0)
    again = workloads.write_workload("two-core-hard", tmp_path / "again", 0)
    other = workloads.write_workload("two-core-hard", tmp_path, 5)
    assert first.read_bytes() == again.read_bytes()
    assert (first.name, other.name) == ("two-core-hard.csv", "two-core-hard-seed5.csv")
    assert first.read_bytes() != other.read_bytes()


def test_the_committed_profiles_are_those_of_the_latency_models(loadtests, tmp_path):
    _, workloads = loadtests
    for path in workloads.write_profiles(tmp_path):
        assert path.read_text() == (LOADTESTS / "profiles" / path.name).read_text()


def test_the_cluster_is_nine_applications_with_46_variants():
    with (LOADTESTS / "profiles" / "cluster.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len({row["model"] for row in rows}) == 9
    assert len({(row["model"], row["variant"]) for row in rows}) == 46
    assert all(80 <= float(row["accuracy"]) <= 100 for row in rows)
    assert {row["batch"] for row in rows} == {"1", "2", "4", "8", "16"}


@pytest.mark.parametrize("name", ["two-core-hard", "two-core-medical"])
def test_a_generated_workload_fits_its_profiles(loadtests, tmp_path, name):
    path = loadtests[1].write_workload(name, tmp_path, 0)
    scenario = load_scenario(LOADTESTS / "profiles" / "two-core.csv", path, "cpu=2")
    assert len(scenario.workload) > 10_000
    budgets = dict(zip(scenario.workload.models, scenario.workload.budgets, strict=True))
    assert budgets["fraud"] == pytest.approx(0.010)
