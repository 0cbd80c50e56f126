"""A plan for what a real Prometheus has recorded of a repository that is really loaded."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gearshift.cli.commands import app
from onnx_models import TWO_VARIANTS, row_sum
from tools import tool

WITHIN = 60.0
"""Seconds that Prometheus may take to start."""

STEP = 60
HOURS = 4
KINDS = "name,device,workers,memory_mb,price_per_hour\nsmall,cpu,1,2000,0.05\n"
OTHER = "name,device,workers,memory_mb,price_per_hour,hardware\nfar,cpu,1,2000,0.05,0123456789ab\n"
MODEL = (
    TWO_VARIANTS.replace("classes.default", "classes.realtime")
    .replace('default_class = "default"', 'default_class = "realtime"')
    .replace("budget_ms = 1000", 'budget_ms = 500\n[classes.batch]\nlate = "serve"')
)


def openmetrics(now: int) -> str:
    """Counters that were scraped once a minute: 2 a second, and 20 in one hour; 1 batch a second;
    and outcomes that nobody has to plan for."""
    lines = ["# TYPE gearshift_requests counter"]
    rates = {
        ("realtime", "served"): lambda hour: 20 if hour == 2 else 2,
        ("batch", "late"): lambda hour: 1,
        ("realtime", "infeasible"): lambda hour: 70,
        ("", "invalid"): lambda hour: 90,
    }
    for (service_class, outcome), rate in rates.items():
        total = 0
        for number in range(HOURS * 60):
            at = now - HOURS * 3600 + number * STEP
            labels = f'model="sums",service_class="{service_class}",outcome="{outcome}"'
            lines.append(f"gearshift_requests_total{{{labels}}} {total} {at}")
            total += rate(number // 60) * STEP
    return "\n".join([*lines, "# EOF", ""])


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "metrics.txt").write_text(openmetrics(int(time.time())))
    (folder / "prometheus.yml").write_text("global: {}\n")
    subprocess.run(
        [
            *(tool("promtool"), "tsdb", "create-blocks-from", "openmetrics"),
            *("metrics.txt", "data"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=60,
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                tool("prometheus"),
                "--config.file=prometheus.yml",
                "--storage.tsdb.path=data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + WITHIN
        while True:
            with suppress(OSError), urllib.request.urlopen(f"{url}/-/ready", timeout=5):
                break
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    folder = root / "models" / "sums"
    for name in ("large", "small"):
        (folder / name).mkdir(parents=True)
        row_sum(folder / name / "model.onnx")
    (folder / "model.toml").write_text(MODEL)
    (root / "kinds.csv").write_text(KINDS)
    (root / "other.csv").write_text(OTHER)
    return root


def plan(root: Path, url: str, *options: str, kinds: str = "kinds.csv"):
    return CliRunner().invoke(
        app,
        [
            *("plan", "--prometheus", url, "--repository", str(root / "models")),
            *("--kinds", str(root / kinds), "--state-dir", str(root / "state")),
            *("--over", "4h", "--attainment", "0.9", "--seeds", "1", "--requests", "300"),
            *options,
        ],
    )


def asked(told: dict) -> dict[tuple[str, float | None], float]:
    return {
        (each["service_class"], each["budget_ms"]): each["requests_per_second"]
        for each in told["asking"]
    }


def test_the_busiest_moment_or_a_quieter_one(prometheus: str, repository: Path) -> None:
    ran = plan(repository, prometheus, "--json")
    assert ran.exit_code == 0, ran.stderr
    told = json.loads(ran.stdout)
    # Budgets are those of the classes; the class without one has none.
    assert asked(told) == pytest.approx({("realtime", 500.0): 20.0, ("batch", None): 1.0}, rel=0.02)
    assert "the busiest of" in told["notes"][0]
    (fleet,) = told["answer"]["fleets"]
    assert fleet["models"] == ["sums"]
    # What a loaded variant takes was measured.
    assert fleet["memory_mb"] > 100
    calm = json.loads(plan(repository, prometheus, "--json", "--quantile", "0.5").stdout)
    assert asked(calm) == pytest.approx({("realtime", 500.0): 2.0, ("batch", None): 1.0}, rel=0.02)
    more = json.loads(plan(repository, prometheus, "--json", "--load", "2").stdout)
    assert asked(more)["realtime", 500.0] == pytest.approx(40.0, rel=0.02)


def test_what_prometheus_itself_refuses(prometheus: str, repository: Path) -> None:
    ran = plan(repository, prometheus, "--select", "namespace=prod")
    assert ran.exit_code == 1
    assert "refuses the query (bad_data)" in ran.stderr.replace("\n", " ")
    ran = plan(repository, prometheus, "--select", 'namespace="prod"')
    assert "there was no request in the last 14400 s" in ran.stderr.replace("\n", " ")


def test_profiles_of_other_hardware(prometheus: str, repository: Path) -> None:
    ran = plan(repository, prometheus, kinds="other.csv")
    assert ran.exit_code == 1
    told = ran.stderr.replace("\n", " ")
    assert "0123456789ab has no fitting profile of sums/large on 'cpu'" in told
    assert "copy that folder from a server of kind 'far'" in told
    (here,) = (repository / "state" / "profiles").iterdir()
    here.rename(here.with_name("0123456789ab"))
    ran = plan(repository, prometheus, "--json", kinds="other.csv")
    assert ran.exit_code == 0, ran.stderr
    assert json.loads(ran.stdout)["answer"]["fleets"][0]["kind"] == "far"


def test_a_workload_file_is_served_as_the_repository_says(repository: Path) -> None:
    workload = repository / "workload.csv"
    rows = [f"{at * 10},sums,2000,,{'batch' if at % 2 else ''}" for at in range(200)]
    header = "arrival_ms,model,budget_ms,min_accuracy,service_class"
    workload.write_text("\n".join([header, *rows]) + "\n")

    def ran(*options: str):
        given = [
            *("plan", "--workload", str(workload), "--repository", str(repository / "models")),
            *("--kinds", str(repository / "kinds.csv"), "--attainment", "0.9"),
            *("--state-dir", str(repository / "state"), *options),
        ]
        return CliRunner().invoke(app, given)

    done = ran("--json")
    assert done.exit_code == 0, done.stderr
    found = asked(json.loads(done.stdout))
    # The class's budget is smaller than the request's own.
    assert set(found) == {("realtime", 500.0), ("batch", 2000.0)}
    workload.write_text("\n".join([header, "0,sums,100,,edge"]) + "\n")
    done = ran()
    assert done.exit_code == 1
    assert "workload.csv: line 2, column service_class: model 'sums' has no class 'edge'" in (
        done.stderr.replace("\n", " ")
    )
