"""What a rendered Deployment says about the life of its pods."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

CONTAINER = "gearshift"


@dataclass(frozen=True, slots=True)
class Probe:
    """A gRPC probe: which health service, how often (s), for how long (s), and how many results in
    a row decide. The defaults are those of Kubernetes."""

    service: str = ""
    period: float = 10.0
    timeout: float = 1.0
    failures: int = 3
    successes: int = 1
    delay: float = 0.0


_FIELDS: Mapping[str, tuple[str, Any]] = {
    "periodSeconds": ("period", float),
    "timeoutSeconds": ("timeout", float),
    "failureThreshold": ("failures", int),
    "successThreshold": ("successes", int),
    "initialDelaySeconds": ("delay", float),
}


@dataclass(frozen=True, slots=True)
class Template:
    """One container of a pod. `grace` (s) is from the deletion to SIGKILL, `pre_stop` the command
    that runs before SIGTERM."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    startup: Probe
    readiness: Probe
    liveness: Probe
    pre_stop: tuple[str, ...]
    grace: float


@dataclass(frozen=True, slots=True)
class Deployment:
    """How many pods there should be, and how many more or fewer during an update."""

    replicas: int
    surge: int
    unavailable: int
    min_ready: float
    template: Template


def read(text: str) -> Deployment:
    """The Deployment among rendered manifests. ValueError, KeyError if it is not there or says
    less than this needs."""
    found = [each for each in yaml.safe_load_all(text) if each and each["kind"] == "Deployment"]
    if len(found) != 1:
        raise ValueError(f"{len(found)} Deployments among the manifests, one is needed")
    spec = found[0]["spec"]
    pod = spec["template"]["spec"]
    (container,) = (each for each in pod["containers"] if each["name"] == CONTAINER)
    update = spec.get("strategy", {}).get("rollingUpdate", {})
    replicas = spec.get("replicas", 1)
    return Deployment(
        replicas=replicas,
        # Shares are rounded in favour of serving.
        surge=_count(update.get("maxSurge", "25%"), replicas, math.ceil),
        unavailable=_count(update.get("maxUnavailable", "25%"), replicas, math.floor),
        min_ready=float(spec.get("minReadySeconds", 0)),
        template=Template(
            arguments=tuple(container["args"]),
            # Values that Kubernetes takes from elsewhere (valueFrom) are for who runs this to set.
            environment={e["name"]: e["value"] for e in container["env"] if "value" in e},
            startup=_probe(container["startupProbe"]),
            readiness=_probe(container["readinessProbe"]),
            liveness=_probe(container["livenessProbe"]),
            pre_stop=tuple(container["lifecycle"]["preStop"]["exec"]["command"]),
            grace=float(pod.get("terminationGracePeriodSeconds", 30)),
        ),
    )


def _probe(told: Mapping[str, Any]) -> Probe:
    said = {field: kind(told[key]) for key, (field, kind) in _FIELDS.items() if key in told}
    return Probe(told["grpc"].get("service", ""), **said)


def _count(told: int | str, replicas: int, rounded: Any) -> int:
    if isinstance(told, int):
        return told
    return int(rounded(int(told.removesuffix("%")) * replicas / 100))
