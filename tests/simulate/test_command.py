"""`gearshift simulate` as a person types it."""

import json

import pytest
from typer.testing import CliRunner

from gearshift.cli.commands import app
from gearshift.simulate.policies import POLICIES
from simulating import PROFILES, WORKLOAD, write_files

WORKERS = ("--workers", "cpu=1,gpu=1")
FIELDS = {
    *("policy", "requests", "served", "late", "shed", "infeasible", "expired", "attainment"),
    *("mean_served_accuracy", "effective_accuracy", "decision_us", "admit_us", "utilisation"),
    *("utilisation_per_device", "per_model", "per_class", "variants", "seed", "speed_up"),
    *("noise", "workers", "files", "plan_ms"),
}


@pytest.fixture
def simulate(tmp_path):
    files = write_files(tmp_path)

    def run(*options, files=files):
        return CliRunner().invoke(app, ["simulate", *files, *WORKERS, *options])

    return run


def left(folder):
    """What lies in the folder beside the inputs, hidden files too."""
    return {path.name for path in folder.iterdir()} - {"profiles.csv", "workload.csv"}


def test_a_summary_and_everything_as_json(simulate, tmp_path):
    ran = simulate("--json", str(tmp_path / "result.json"), "--noise", "0.05", "--seed", "7")
    assert ran.exit_code == 0, ran.stderr
    for text in ("gearshift on workload.csv", "fraud", "realtime", "workers busy", "written:"):
        assert text in ran.stdout
    told = json.loads((tmp_path / "result.json").read_text())
    assert told.keys() >= FIELDS
    assert (told["policy"], told["requests"], told["seed"], told["noise"]) == (
        "gearshift",
        3,
        7,
        0.05,
    )
    assert told["workers"] == {"cpu": 1, "gpu": 1}
    assert told["per_model"]["tumor"]["attainment"] == 1.0
    assert told["per_class"].keys() == {"critical", "default", "realtime"}
    assert told["per_model_class"].keys() == {"fraud/default", "fraud/realtime", "tumor/critical"}
    assert {"p50", "p99"} <= told["decision_us"].keys()
    assert told["files"]["workload"]["name"] == "workload.csv"
    assert len(told["files"]["profiles"]["sha256"]) == 64
    assert left(tmp_path) == {"result.json"}


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_every_policy_by_name(simulate, name):
    ran = simulate("--policy", name, "--bound")
    assert ran.exit_code == 0, ran.stderr
    assert f"{name} on workload.csv" in ran.stdout
    assert "no policy can exceed" in ran.stdout


def test_the_on_time_bonus_is_the_cores_and_said_in_the_page(simulate, tmp_path):
    options = ("--on-time-bonus", "2", "--compare", "--policy", "gearshift", "--no-bound")
    ran = simulate(*options, "--out", str(tmp_path))
    assert ran.exit_code == 0, ran.stderr
    pages = [path.read_text() for path in tmp_path.glob("*.md")]
    assert len(pages) == 1
    assert "--on-time-bonus 2" in pages[0]
    assert simulate("--on-time-bonus", "-1").exit_code == 1


def test_the_bound_is_in_the_json(simulate, tmp_path):
    path = tmp_path / "result.json"
    simulate("--json", str(path), "--bound", "--bound-step", "20")
    told = json.loads(path.read_text())
    assert told["bound"]["effective_accuracy"] >= told["effective_accuracy"]
    assert told["bound"]["step"] == 0.02


def test_compare_writes_a_page_and_a_picture(simulate, tmp_path):
    out = tmp_path / "new" / "results"
    ran = simulate(
        *("--compare", "--out", str(out), "--seeds", "2", "--noise", "0.05"),
        *("--speed-up", "1", "--speed-up", "4", "--json", str(tmp_path / "all.json")),
    )
    assert ran.exit_code == 0, ran.stderr
    page = (out / "simulate-workload.md").read_text()
    for text in ("| upper bound |", "| slackfit |", "1x | 4x", "simulate-workload.png", "seeds 2"):
        assert text in page
    assert str(tmp_path) not in page
    assert (out / "simulate-workload.png").read_bytes().startswith(b"\x89PNG")
    assert left(out) == {"simulate-workload.md", "simulate-workload.png"}
    told = json.loads((tmp_path / "all.json").read_text())
    assert len(told["results"]) == 2 * 2 * len(POLICIES)
    assert [bound["speed_up"] for bound in told["bounds"]] == [1.0, 4.0]


def test_compare_can_be_told_which(simulate, tmp_path):
    ran = simulate(
        *("--compare", "--no-bound", "--out", str(tmp_path)),
        *("--policy", "fastest", "--policy", "slackfit"),
    )
    assert ran.exit_code == 0, ran.stderr
    page = (tmp_path / "simulate-workload.md").read_text()
    assert "upper bound |" not in page
    assert "| gearshift |" not in page
    assert "--policy fastest --policy slackfit" in page


def test_a_mistake_in_a_file_is_told_and_leaves_nothing_behind(simulate, tmp_path):
    (tmp_path / "result.json").write_text("old")
    files = write_files(tmp_path, PROFILES, WORKLOAD.replace("0,fraud,50,85,", "0,fraud,x,85,"))
    for options in ((), ("--compare", "--out", str(tmp_path / "out"))):
        ran = simulate("--json", str(tmp_path / "result.json"), *options, files=files)
        assert ran.exit_code == 1
        assert "workload.csv: line 3, column budget_ms: 'x' is not a finite number" in ran.stderr
        assert (ran.stdout, (tmp_path / "result.json").read_text()) == ("", "old")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--policy", "best"), "there is no such policy; choose one of gearshift"),
        (("--speed-up", "0"), "--speed-up 0: give a number from 0.001"),
        (("--speed-up", "nan"), "--speed-up nan"),
        (("--noise", "-1"), "--noise -1: give a number from 0"),
        (("--seed", "-1"), "--seed -1"),
        (("--seeds", "0"), "--seeds 0"),
        (("--bound-step", "0"), "--bound-step 0"),
        (("--speed-up", "1", "--speed-up", "2"), "--speed-up: more than one needs --compare"),
        (("--policy", "infaas", "--policy", "fastest"), "--policy: more than one needs --compare"),
        (("--seeds", "2"), "--seeds: more than one needs --compare"),
        (("--compare", "--speed-up", "2", "--speed-up", "2"), "the same value twice"),
        (("--workers", "cpu=1"), "no worker of --workers cpu=1 is able to run 'tumor'"),
        (("--json", "/nowhere/at/all.json"), "there is no folder /nowhere/at"),
        (("--json", "/"), "is a folder"),
        (("--compare", "--out", "/dev/null/x"), "--out /dev/null/x: cannot be made"),
    ],
)
def test_mistakes_in_options(simulate, options, told):
    ran = simulate(*options)
    assert ran.exit_code == 1
    assert ran.stderr.startswith("gearshift: ")
    assert told in ran.stderr.replace("\n", " ")
    assert ran.stdout == ""


def test_a_file_that_cannot_be_written_after_all_changes_nothing(simulate, tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    path.write_text("old")

    def full(self, content):
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    ran = simulate("--json", str(path))
    assert ran.exit_code == 1
    assert "No space left on device; nothing was changed" in ran.stderr
    assert path.read_text() == "old"
    assert left(tmp_path) == {"result.json"}


def test_without_the_extra_the_core_still_runs(simulate, monkeypatch):
    monkeypatch.setattr("gearshift.simulate.extra.find_spec", lambda module: None)
    assert simulate().exit_code == 0
    for options, told in (
        (("--bound",), "the bound needs SciPy"),
        (("--policy", "proteus"), "the policy proteus needs SciPy"),
        (("--compare",), "--compare needs Matplotlib"),
    ):
        ran = simulate(*options)
        assert (ran.exit_code, told in ran.stderr) == (1, True)
        assert "pip install 'gearshift[simulate]'" in ran.stderr


def test_help_teaches():
    told = CliRunner().invoke(app, ["simulate", "--help"]).stdout
    assert "--workload" in told
    assert "virtual time" in told
    assert len(told.split()) > 150
