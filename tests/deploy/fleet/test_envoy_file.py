"""deploy/envoy/envoy.yaml, judged by Envoy itself."""

from __future__ import annotations

import subprocess

import yaml
from loadtests.fleet.names import NAME
from loadtests.fleet.proxy import CONFIGURATION, configured
from loadtests.fleet.runs import rendered

from tools import tool


def judged(file: str) -> str:
    done = subprocess.run(
        (tool("envoy"), "--mode", "validate", "--config-path", file, "--log-level", "warning"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    return told


def test_the_file_is_valid_and_nothing_in_it_is_deprecated():
    told = judged(str(CONFIGURATION))
    assert "Deprecated" not in told
    assert "[warning]" not in told, told


def test_what_the_benchmark_changes_is_valid_too(tmp_path):
    file = tmp_path / "envoy.yaml"
    file.write_text(yaml.safe_dump(configured(1, 2, 3, 4)))
    judged(str(file))


def test_it_asks_for_the_headless_service_of_the_chart():
    services = [each for each in yaml.safe_load_all(rendered(2)) if each["kind"] == "Service"]
    (headless,) = (each for each in services if each["spec"].get("clusterIP") == "None")
    name, namespace = headless["metadata"]["name"], headless["metadata"]["namespace"]
    assert f"{name}.{namespace}.svc.cluster.local" == NAME
    assert "8001" in {str(port["port"]) for port in headless["spec"]["ports"]}
