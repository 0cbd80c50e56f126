"""The example of routing: who is told what, and what a real Alertmanager holds back."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from loadtests.oncall.stack import DEPLOY, OnCall, alerting

from tools import tool

CONFIG = DEPLOY / "alertmanager" / "alertmanager.yml"
WITHIN = 20.0
CLASS = {"model": "m", "service_class": "c"}
VARIANT = {"model": "m", "variant": "v"}


def amtool(*words: str) -> str:
    done = subprocess.run(
        [tool("amtool"), *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_amtool_and_promtool_take_the_examples() -> None:
    assert "SUCCESS" in amtool("check-config", str(CONFIG))
    said = subprocess.run(
        [tool("promtool"), "check", "config", str(DEPLOY / "prometheus" / "prometheus.yml")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    assert "3 rule files found" in said.stdout


@pytest.mark.parametrize(
    ("severity", "receiver"), [("page", "pager"), ("ticket", "tickets"), ("info", "news")]
)
def test_routes_go_by_severity(severity: str, receiver: str) -> None:
    amtool(
        *("config", "routes", "test", f"--config.file={CONFIG}"),
        *(f"--verify.receivers={receiver}", "alertname=GearshiftX", f"severity={severity}"),
    )


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OnCall, str]]:
    with alerting(tmp_path_factory.mktemp("alertmanager")) as running:
        yield running


def test_a_page_holds_back_what_it_explains_and_nothing_else(
    alertmanager: tuple[OnCall, str],
) -> None:
    on_call, url = alertmanager
    told = [
        ("GearshiftAttainmentBurnFast", "page", CLASS),
        ("GearshiftVariantFailing", "ticket", VARIANT),
        ("GearshiftAttainmentBurnSlow", "ticket", {**CLASS, "service_class": "d"}),
        ("GearshiftShedding", "ticket", {**CLASS, "model": "other"}),
        ("GearshiftVariantBelowFloors", "ticket", VARIANT),
        ("GearshiftVariantFallen", "ticket", {**VARIANT, "variant": "w"}),
        ("GearshiftDown", "page", {}),
        ("GearshiftDrainStuck", "ticket", {"instance": "a"}),
        ("GearshiftFeedbackFailing", "ticket", {"what": "answers"}),
        ("GearshiftCanaryWithdrawn", "info", VARIANT),
    ]
    held_back = [
        ("GearshiftAttainmentBurnSlow", "ticket", CLASS),
        ("GearshiftShedding", "ticket", CLASS),
        ("GearshiftVariantFallen", "ticket", VARIANT),
        ("GearshiftTargetDown", "ticket", {"instance": "a"}),
        ("GearshiftNotReady", "ticket", {"instance": "b"}),
        ("GearshiftJournalDropped", "ticket", {}),
    ]
    alerts = [
        {"labels": {"alertname": name, "severity": severity, **labels}, "annotations": {}}
        for name, severity, labels in (*told, *held_back)
    ]
    request = urllib.request.Request(
        f"{url}/api/v2/alerts",
        json.dumps(alerts).encode(),
        {"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=10).close()
    end = time.monotonic() + WITHIN
    while len(on_call.arrived) < len(told) and time.monotonic() < end:
        time.sleep(0.1)
    receivers = {"page": "pager", "ticket": "tickets", "info": "news"}
    expected = {
        (name, receivers[severity], *sorted(labels.items())) for name, severity, labels in told
    }
    arrived = {
        (
            each.name,
            each.receiver,
            *sorted((k, v) for k, v in each.labels.items() if k not in ("alertname", "severity")),
        )
        for each in on_call.arrived
    }
    assert arrived == expected
    with urllib.request.urlopen(f"{url}/api/v2/alerts", timeout=10) as response:
        now = json.load(response)
    kept = sorted(a["labels"]["alertname"] for a in now if a["status"]["inhibitedBy"])
    assert kept == sorted(name for name, _, _ in held_back)


def test_messages_name_the_page_to_read() -> None:
    template = Path(CONFIG.with_name("gearshift.tmpl")).read_text()
    assert re.search(r'template "gearshift.docs" \}\}\{\{ .Annotations.runbook_url', template)
