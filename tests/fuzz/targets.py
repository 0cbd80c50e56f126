"""All targets by name."""

from __future__ import annotations

from collections.abc import Mapping

from fuzz import control, figures, files, requests, steps, wire
from fuzz.target import Target

TARGETS: Mapping[str, Target] = {
    target.name: target
    for module in (wire, requests, control, files, figures, steps)
    for target in module.TARGETS
}
