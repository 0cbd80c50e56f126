"""`gearshift plan` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gearshift.cli.commands import app
from planning import KINDS, PROFILES, make_workload, write_inputs

SCHEMA = Path(__file__).parents[2] / "deploy" / "chart" / "values.schema.json"
QUICK = ("--seeds", "1", "--requests", "1000")
WORKLOAD = make_workload({"fraud": 500, "tumor": 4}, 6, {"fraud": 0.06, "tumor": 0.25})
GOAL = ("--attainment", "0.9")


@pytest.fixture
def plan(tmp_path):
    def run(*options, **files):
        given = write_inputs(tmp_path, files.pop("workload", WORKLOAD), **files)
        return CliRunner().invoke(app, ["plan", *given, *QUICK, *options])

    return run


def test_the_answer_in_tables_and_sentences(plan):
    ran = plan(*GOAL, "--accuracy", "fraud=0.89")
    assert ran.exit_code == 0, ran.stderr
    for text in (
        "The cheapest that holds every goal",
        "fraud/default",
        "All models on one kind",
        "for a thousand answers in time",
        "no scheduler could do with fewer than",
    ):
        assert text in ran.stdout, text
    assert ran.stderr == ""


def test_everything_as_json(plan):
    ran = plan(*GOAL, "--accuracy", "fraud=0.89", "--spare", "1", "--json")
    assert ran.exit_code == 0, ran.stderr
    told = json.loads(ran.stdout)
    answer = told["answer"]
    paid = sum(
        (fleet["pods"] + fleet["spare"]) * {"small": 0.05, "large": 0.19}[fleet["kind"]]
        for fleet in answer["fleets"]
    )
    assert answer["price_per_hour"] == pytest.approx(paid)
    held = [model for fleet in answer["fleets"] for model in fleet["models"]]
    assert sorted(held) == ["fraud", "tumor"]
    for fleet in answer["fleets"]:
        assert {goal["standing"] for goal in fleet["goals_hold"]["goals"]} <= {"holds", "unshown"}
        assert fleet["all_pods"]["pods"] == fleet["goals_hold"]["pods"] + 1
        if fleet["one_less_fails"] is not None:
            assert "fails" in {goal["standing"] for goal in fleet["one_less_fails"]["goals"]}
        assert fleet["memory_mb"] <= {"small": 1000, "large": 4000}[fleet["kind"]]
    assert {kind["kind"] for kind in told["kinds"]} == {"small", "large"}
    assert told["requests_per_second"] == pytest.approx(len(WORKLOAD) / 6, rel=0.1)
    assert len(told["files"]["workload"]["sha256"]) == 64
    again = json.loads(plan(*GOAL, "--accuracy", "fraud=0.89", "--spare", "1", "--json").stdout)
    assert again == told


def test_values_for_the_chart_one_release_a_fleet(plan):
    kinds = "name,device,workers,memory_mb,price_per_hour,cpus,gpus\nsmall,cpu,1,1000,0.05,1.5,\n"
    ran = plan(*GOAL, "--spare", "1", "--values", kinds=kinds)
    assert ran.exit_code == 0, ran.stderr
    lines = ran.stdout.splitlines()
    (pods,) = [int(line.split()[1]) for line in lines if line.startswith("replicas:")]
    assert pods > 1
    assert "workers: 1" in lines
    assert lines.count('    cpu: "1.5"') == lines.count("    memory: 1000M") == 2
    assert lines[0] == "# small: fraud, tumor, 1 of them spare"
    gpu = plan(*GOAL, "--values", kinds=kinds.replace("1.5,", "1.5,1"))
    assert gpu.stdout.endswith("gpu:\n  enabled: true\n  count: 1\n")


def test_the_chart_has_these_values(plan):
    if not SCHEMA.exists():
        pytest.skip("the chart is not in this tree")
    known = json.loads(SCHEMA.read_text())["properties"]
    kinds = KINDS.replace("price_per_hour", "price_per_hour,gpus").replace("5\n", "5,1\n")
    kinds = kinds.replace("9\n", "9,1\n")
    told = plan(*GOAL, "--values", kinds=kinds).stdout.splitlines()
    keys = [line.partition(":")[0] for line in told if line[:1].isalpha()]
    assert {"replicas", "workers", "resources", "gpu"} == set(keys)
    assert set(keys) <= set(known)


def test_what_cannot_be_is_said_with_what_would_work(plan):
    ran = plan("--accuracy", "tumor=0.99")
    assert ran.exit_code == 1
    assert "No answer holds every goal." in ran.stdout
    assert "it is 0.9500 at the most" in ran.stdout
    told = json.loads(plan("--accuracy", "tumor=0.99", "--json").stdout)
    assert told["answer"] is None
    assert all("what would work: a goal of 0.95" in kind["cannot"][0] for kind in told["kinds"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--attainment", "99"), "99 % is 0.99"),
        (("--accuracy", "mail=0.9"), "no request is for 'mail'"),
        (("--spare", "-1"), "--spare -1: give a number from 0"),
        (("--load", "0"), "--load 0"),
        (("--noise", "nan"), "--noise nan"),
        (("--json", "--values"), "give --json or --values, not both"),
        (("--prometheus", "http://localhost:1"), "give either --workload or --prometheus"),
    ],
)
def test_mistakes_in_options(plan, options, told):
    ran = plan(*options)
    assert ran.exit_code == 1
    assert told in ran.stderr.replace("\n", " ")
    assert ran.stdout == ""


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"kinds": KINDS.replace("small,cpu", "small,tpu")}, "no profile is for the device 'tpu'"),
        ({"kinds": KINDS.replace(",0.05", ",x")}, "kinds.csv: line 2, column price_per_hour: 'x'"),
        (
            {
                "kinds": KINDS.replace("hour", "hour,hardware")
                .replace("05", "05,a")
                .replace("19", "19,")
            },
            "column hardware: 'a' names profiles in a state dir",
        ),
        ({"profiles": PROFILES.replace(",300", ",-3")}, "line 2, column memory_mb: '-3' is not"),
        ({"profiles": PROFILES.replace("fraud", "mail")}, "'fraud' has no profile"),
    ],
)
def test_mistakes_in_files(plan, files, told):
    ran = plan(**files)
    assert ran.exit_code == 1
    assert told in ran.stderr.replace("\n", " ")
    assert ran.stdout == ""


def test_prometheus_needs_a_repository_and_times(tmp_path):
    files = write_inputs(tmp_path, WORKLOAD)

    def ran(*options):
        done = CliRunner().invoke(app, ["plan", *files[:2], *options])
        assert done.exit_code == 1
        return done.stderr.replace("\n", " ")

    url = ("--prometheus", "http://localhost:1")
    assert "with --prometheus give the --repository" in ran(*files[2:4], *url)
    assert "--window 5: is not a time; write a number and one of s, m, h" in ran(
        *url, "--window", "5"
    )
    assert "--over 0d: is not a time" in ran(*url, "--over", "0d")
    assert "not both or neither" in ran()


def test_help_teaches():
    told = CliRunner().invoke(app, ["plan", "--help"]).stdout
    assert "docs/capacity.md" in told
    assert len(told.split()) > 200
