"""The rules as Prometheus judges them, each alert with its page, each name on a server's page."""

from __future__ import annotations

import functools
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import yaml

from builders import make_catalog, make_model
from gearshift.access import AccessMetrics, AuditLog, Tls
from gearshift.core.catalog import Standing
from gearshift.core.drift import Shift
from gearshift.core.limits import COUNTED, REASONS, Usage
from gearshift.core.profile import LatencyPoint, Profile
from gearshift.core.reload import Reloaded, Result
from gearshift.drift import DriftCollector
from gearshift.drift.watch import Drift
from gearshift.errors import Outcome
from gearshift.feedback import Book, FeedbackCollector, Readings
from gearshift.telemetry import (
    Fleet,
    GenerationsCollector,
    Life,
    LimitCollector,
    Past,
    PrometheusTelemetry,
    ReloadsCollector,
    merged,
)
from gearshift.telemetry.ledger import ENDED
from gearshift.telemetry.turned_away import TurnedAway
from tools import tool

ROOT = Path(__file__).parents[3]
RULES = ROOT / "deploy" / "chart" / "files" / "rules"
RUNBOOKS = ROOT / "docs" / "runbooks"
CASES = sorted(Path(__file__).parent.glob("*.test.yml"))
SEVERITIES = {"page", "ticket", "info"}

NOT_YET = {"gearshift_load_deficit_sum", "gearshift_load_deficit_count"}
"""Named in the decision record, made by the part that scales."""


def loaded() -> list[dict]:
    """Every rule of both files."""
    files = [yaml.safe_load(file.read_text()) for file in sorted(RULES.glob("*.yml"))]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


RECORDED = [rule for rule in loaded() if "record" in rule]
ALERTS = [rule for rule in loaded() if "alert" in rule]
NAMES = [rule["alert"] for rule in ALERTS]


def promtool(*words: str) -> str:
    """What it says; the test fails with it unless all is well."""
    done = subprocess.run(
        [tool("promtool"), *words], capture_output=True, text=True, timeout=300, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def test_promtool_takes_the_rules() -> None:
    files = [str(RULES / name) for name in ("recording.yml", "alerts.yml")]
    said = promtool("check", "rules", "--lint=all", "--lint-fatal", *files)
    assert f"SUCCESS: {len(ALERTS)} rules" in said
    assert len(ALERTS) >= 20


def test_every_case_fires_or_stays_silent_as_it_says() -> None:
    assert len(CASES) == 6
    with ThreadPoolExecutor(2) as pool:
        for said in pool.map(lambda case: promtool("test", "rules", str(case)), CASES):
            assert "SUCCESS" in said


@functools.cache
def cases() -> list[dict]:
    return [case for file in CASES for case in yaml.safe_load(file.read_text())["tests"]]


@pytest.mark.parametrize("alert", NAMES)
def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(alert: str) -> None:
    firing = re.compile(rf'ALERTS\{{alertname="{alert}", alertstate="firing"')

    def fires(case: dict) -> bool:
        samples = [
            sample["labels"] for part in case["promql_expr_test"] for sample in part["exp_samples"]
        ]
        return any(firing.match(labels) for labels in samples)

    of_it = [case for case in cases() if case["name"].startswith(f"{alert} ")]
    assert any(fires(case) for case in of_it if " fires:" in case["name"])
    silent = [case for case in of_it if " is silent:" in case["name"]]
    assert silent
    assert not any(fires(case) for case in silent)


@pytest.mark.parametrize("rule", ALERTS, ids=NAMES)
def test_an_alert_says_what_is_needed_and_has_its_page(rule: dict) -> None:
    name, told = rule["alert"], rule["annotations"]
    assert rule["labels"]["severity"] in SEVERITIES
    assert told["runbook_url"] == f"docs/runbooks/{name}.md"
    assert "Look first" in told["description"]
    assert len(told["summary"]) > 20
    page = (RUNBOOKS / f"{name}.md").read_text()
    assert page.startswith(f"# {name}\n")
    assert f"Severity: **{rule['labels']['severity']}**" in page
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert headings == [
        "What it means",
        "First look",
        "Likely causes",
        "What to do",
        "When it is over",
        "When it is a false alarm",
    ]


def test_each_page_has_its_alert_and_the_list_has_them_all() -> None:
    pages = {page.stem for page in RUNBOOKS.glob("*.md")} - {"README"}
    assert pages == set(NAMES)
    listed = re.findall(
        r"^\| \[(\w+)\]\(\1\.md\) \| (\w+) \|", (RUNBOOKS / "README.md").read_text(), re.MULTILINE
    )
    assert sorted(listed) == sorted((r["alert"], r["labels"]["severity"]) for r in ALERTS)


@functools.cache
def families() -> dict[str, set[str]]:
    """Names of samples on the page of a server of several processes with everything on, and the
    labels of each."""
    catalog = make_catalog(make_model())
    telemetry = PrometheusTelemetry(catalog)
    book = Book()
    drift = Drift(300, {"x": Shift(0.5, 0.0)}, True)
    reloads = ReloadsCollector()
    reloads.add(Reloaded({"m": Result.LOADED}), 1.0)
    shown = cast(Tls, SimpleNamespace(expiry=2e9))
    for collector in (
        Life(catalog, 30.0),
        FeedbackCollector(book, Readings(catalog)),
        DriftCollector(lambda: {"m": drift}),
        LimitCollector(Usage()),
        TurnedAway(lambda: {"": 0}, lambda: 0),
        AccessMetrics(AuditLog(None), shown),
        reloads,
        GenerationsCollector(lambda: {"m": 1}),
    ):
        telemetry.registry.register(collector)
    variants = catalog.model("m").variants
    telemetry.profiled(Profile(v, "cpu", [LatencyPoint(1, 0.001, 0.002)], 8) for v in variants)
    page = telemetry.exposition()[0]
    found: dict[str, set[str]] = {}
    for family in merged([page], Past(), Fleet(1, 1, 0)):
        # A family without series yet, as that of cascades, still has its line of help.
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found.setdefault(name, set())
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def texts(rule: dict) -> str:
    """All queries of a rule, those in its texts included."""
    return "\n".join([rule["expr"], *rule.get("annotations", {}).values()])


@pytest.mark.parametrize("rule", loaded(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_every_name_in_a_rule_is_on_the_page_of_a_server_or_recorded(rule: dict) -> None:
    known = families()
    recorded = {each["record"] for each in RECORDED}
    expression = texts(rule)
    used = set(re.findall(r"[a-z_]+:gearshift_[a-z0-9_:]+", expression))
    assert used <= recorded | {"service_class:gearshift_attainment:objective_set"}
    raw = set(re.findall(r"(?<![:\w])gearshift_[a-z0-9_]+", expression))
    assert raw - NOT_YET <= set(known)
    # What is set apart by a label must have it, with values that there are.
    for name, matchers in re.findall(r"(?<![:\w])(gearshift_[a-z0-9_]+)\{([^}]*)\}", expression):
        for label, values in re.findall(r"(\w+)[=!]~?[\"']([^\"']*)[\"']", matchers):
            assert label in known[name], f"{name} has no label {label}"
            values_there = {
                "outcome": set(Outcome),
                "ended": set(ENDED),
                "standing": set(Standing),
                "result": set(Result),
                "limit": set(COUNTED) | set(REASONS),
            }.get(label)
            if values_there is not None:
                assert set(values.split("|")) <= values_there


@pytest.mark.parametrize("rule", ALERTS, ids=NAMES)
def test_an_alert_about_a_model_keeps_its_name(rule: dict) -> None:
    """Messages are grouped by it."""
    about = "by (model" in rule["expr"] or "service_class:" in rule["expr"]
    assert ("$labels.model" in rule["annotations"]["summary"]) == about
