"""What the autoscaler asks Prometheus, tried by promtool, and the objects that ask it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts import Manifests, Refused, judged, manifests, render
from tools import tool

BY = {kind: {"autoscaling": {"enabled": True, "by": kind}} for kind in ("keda", "hpa")}


def rules(found: Manifests) -> dict[str, str]:
    (group,) = found.one("PrometheusRule", "gs-gearshift-scaling")["spec"]["groups"]
    return {rule["record"]: rule["expr"] for rule in group["rules"]}


def triggers(found: Manifests) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in found.one("ScaledObject")["spec"]["triggers"]}


@pytest.mark.parametrize("kind", BY)
def test_the_objects_are_valid(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "rendered.yaml"
    file.write_text(render(BY[kind]))
    code, said = judged(file)
    assert code == 0, said


def test_without_it_nothing_scales_and_with_it_nothing_else_says_how_many() -> None:
    assert "replicas" in manifests().deployment
    assert not manifests().of("ScaledObject") + manifests().of("HorizontalPodAutoscaler")
    for values in BY.values():
        assert "replicas" not in manifests(values).deployment


def test_both_ways_ask_the_same() -> None:
    asked = triggers(manifests(BY["keda"]))
    recorded = rules(manifests(BY["hpa"]))
    for name in ("wanted", "emergency"):
        query = asked[name]["metadata"]["query"].strip()
        assert query == recorded[f"gearshift_{name}_pods"].strip()
    (spec,) = [each["spec"] for each in manifests(BY["hpa"]).of("HorizontalPodAutoscaler")]
    names = {metric["external"]["metric"]["name"] for metric in spec["metrics"]}
    assert names == set(recorded)


def test_keda_does_not_take_no_answer_for_no_load() -> None:
    for trigger in triggers(manifests(BY["keda"])).values():
        assert trigger["metadata"]["ignoreNullValues"] == "false"
        assert (trigger["metricType"], trigger["metadata"]["threshold"]) == ("AverageValue", "1")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"by": "cpu"}, "by"),
        ({"minReplicas": 5, "maxReplicas": 4}, "minReplicas 5 is above maxReplicas 4"),
        ({"loadDeficit": 0}, "loadDeficit"),
        ({"fullUtilization": 1.5}, "fullUtilization"),
        ({"treshold": 1}, "treshold"),
    ],
)
def test_values_that_make_no_sense_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused, match=said):
        render({"autoscaling": {"enabled": True, **wrong}})


# --- the queries ------------------------------------------------------------------------

LABELS = 'namespace="ml",pod="gs-gearshift-5d9c-{pod}"'


def series(name: str, values: str, pod: str = "a1", more: str = "") -> dict[str, str]:
    return {"series": f"{name}{{{LABELS.format(pod=pod)}{more}}}", "values": values}


def fleet(
    pods: int = 2, wanted: float = 0.0, deficit: float = 0.0, shed: float = 0.0
) -> list[dict[str, str]]:
    """Pods of two workers. A second and pod: `wanted` worker seconds and ten answers of model `a`
    with this mean load deficit, of all requests the share `shed` refused; model `b` is idle."""
    found = []
    for number in range(pods):
        pod = f"p{number}"
        for device, workers in (("cpu", 2), ("express", 1)):
            found.append(series("gearshift_workers", f"{workers}x20", pod, f',device="{device}"'))
        for model, load in (("a", 1.0), ("b", 0.0)):
            by = f',model="{model}",service_class="c"'
            name = "gearshift_load_deficit"
            answers, served = 150 * load, 150 * load * (1.0 - shed)
            found += [
                series(
                    "gearshift_wanted_worker_seconds_total",
                    f"0+{15 * wanted * load}x20",
                    pod,
                    f',model="{model}"',
                ),
                series(f"{name}_count", f"0+{served}x20", pod, by),
                series(f"{name}_sum", f"0+{served * deficit}x20", pod, by),
                series("gearshift_requests_total", f"0+{served}x20", pod, by + ',outcome="served"'),
                series(
                    "gearshift_requests_total",
                    f"0+{answers - served}x20",
                    pod,
                    by + ',outcome="shed"',
                ),
            ]
    return found


STRANGER = [
    {"series": 'gearshift_workers{namespace="other",pod="gs-gearshift-1-2",device="cpu"}',
     "values": "64x20"},
    {"series": 'gearshift_workers{namespace="ml",pod="gs-gearshift-canary-1-2",device="cpu"}',
     "values": "64x20"},
]  # fmt: skip
"""Pods of another namespace, and of another Deployment whose name begins alike."""

CASES = {
    "idle": (fleet(), 0.0, 0.0),
    # 2.4 workers' time at 80 % are three workers: one pod and a half.
    "content": (fleet(wanted=1.2), 1.5, 0.0),
    "can shrink": (fleet(wanted=1.2, pods=4), 3.0, 0.0),
    # What is wanted would fill four pods, but half of what is accepted is no reason to grow.
    "accepted": (fleet(wanted=3.2, deficit=0.0005), 2.0, 0.0),
    "grows with the deficit": (fleet(wanted=3.2, deficit=0.0015), 3.0, 0.0),
    "grows no farther than wanted": (fleet(wanted=3.2, deficit=0.05), 4.0, 0.0),
    "a deficit that no pod helps against": (fleet(wanted=0.8, deficit=0.05), 1.0, 0.0),
    "sheds a little": (fleet(wanted=0.8, shed=0.0005), 1.0, 1.0),
    "sheds": (fleet(wanted=0.8, shed=0.2), 1.0, 4.0),
    "strangers": (fleet(wanted=1.2, pods=4) + STRANGER, 3.0, 0.0),
}


def promtool(folder: Path, cases: dict[str, tuple[list[dict[str, str]], Any, Any]]) -> str:
    """What `promtool test rules` complains of."""
    (group,) = manifests(BY["hpa"]).one("PrometheusRule", "gs-gearshift-scaling")["spec"]["groups"]
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": [group]}))
    tests = []
    for name, (input_series, wanted, emergency) in cases.items():
        asked = []
        for what, pods in (("wanted", wanted), ("emergency", emergency)):
            labels = '{deployment="gs-gearshift",namespace="ml"}'
            samples = [] if pods is None else [{"labels": labels, "value": pods}]
            # Rounded: the sums of floats need not be exact.
            expression = f"round(gearshift_{what}_pods, 0.000001)"
            asked.append({"expr": expression, "eval_time": "4m", "exp_samples": samples})
        tests.append(
            {
                "name": name,
                "interval": "15s",
                "input_series": input_series,
                "promql_expr_test": asked,
            }
        )
    file = folder / "tests.yml"
    file.write_text(
        json.dumps({"rule_files": ["rules.yml"], "evaluation_interval": "15s", "tests": tests})
    )
    done = subprocess.run(
        [tool("promtool"), "test", "rules", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


def test_the_queries_tell_how_many_pods_there_should_be(tmp_path: Path) -> None:
    said = promtool(tmp_path, CASES)
    assert "SUCCESS" in said, said


def test_without_pods_there_is_no_answer(tmp_path: Path) -> None:
    said = promtool(tmp_path, {"nothing": ([], None, None)})
    assert "SUCCESS" in said, said


def test_promtool_tells_what_is_wrong(tmp_path: Path) -> None:
    assert "FAILED" in promtool(tmp_path, {"wrong": (fleet(wanted=1.2), 17.0, 0.0)})
