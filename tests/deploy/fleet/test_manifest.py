"""What is read from a rendered Deployment."""

from __future__ import annotations

import pytest
import yaml
from loadtests.fleet import manifest, runs
from loadtests.fleet.manifest import Probe

PROBE = {"grpc": {"port": 8001}}
CONTAINER = {
    "name": "gearshift",
    "args": ["serve"],
    "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {}}],
    "startupProbe": {**PROBE, "periodSeconds": 2, "failureThreshold": 300},
    "readinessProbe": PROBE,
    "livenessProbe": {"grpc": {"port": 8001, "service": "live"}, "timeoutSeconds": 5},
    "lifecycle": {"preStop": {"exec": {"command": ["sleep", "15"]}}},
}


def text(containers=(CONTAINER,), **spec) -> str:
    pod = {"containers": list(containers), "terminationGracePeriodSeconds": 55}
    deployment = {"kind": "Deployment", "spec": {**spec, "template": {"spec": pod}}}
    return yaml.safe_dump_all([{"kind": "Service"}, deployment])


def test_probes_hooks_and_times_are_read_and_the_rest_is_as_kubernetes_has_it():
    found = manifest.read(text(replicas=3))
    pod = found.template
    assert (found.replicas, found.min_ready, pod.grace) == (3, 0, 55)
    assert pod.startup == Probe(period=2, failures=300)
    assert pod.readiness == Probe("", 10, 1, 3, 1, 0)
    assert pod.liveness == Probe("live", timeout=5)
    assert (pod.arguments, pod.environment) == (("serve",), {"A": "1"})
    assert pod.pre_stop == ("sleep", "15")


@pytest.mark.parametrize(
    ("replicas", "told", "surge", "unavailable"),
    [
        (3, {}, 1, 0),
        (8, {}, 2, 2),
        (4, {"maxSurge": "30%", "maxUnavailable": "30%"}, 2, 1),
        (4, {"maxSurge": 0, "maxUnavailable": 2}, 0, 2),
    ],
)
def test_shares_are_rounded_in_favour_of_serving(replicas, told, surge, unavailable):
    strategy = {"rollingUpdate": told} if told else {}
    found = manifest.read(text(replicas=replicas, strategy=strategy))
    assert (found.surge, found.unavailable) == (surge, unavailable)


def test_a_manifest_that_says_too_little_is_an_error():
    with pytest.raises(ValueError, match="0 Deployments"):
        manifest.read("kind: Service\n")
    with pytest.raises(KeyError, match="startupProbe"):
        manifest.read(text([{**CONTAINER} | {"startupProbe": None}]).replace("startupProbe", "no"))


def test_the_charts_pods_leave_the_balancers_before_they_are_told_to_end():
    """And have their whole drain before they are killed."""
    pod = manifest.read(runs.rendered(2)).template
    assert pod.liveness.service == "live"
    assert pod.readiness.service == pod.startup.service == ""
    sleep, drain = float(pod.pre_stop[-1]), float(pod.environment["GEARSHIFT_DRAIN_SECONDS"])
    assert pod.grace > sleep + drain
