"""The plan as values of the Helm chart: one release for each fleet."""

from __future__ import annotations

from gearshift.simulate.planning.answer import Answer
from gearshift.simulate.planning.fleet import Fleet


def values(answer: Answer) -> str:
    """YAML, one document a fleet, each for a release of its own."""
    return "---\n".join(_document(fleet) for fleet in answer.plan.fleets)


def _document(fleet: Fleet) -> str:
    kind = fleet.pod.kind
    spare = f", {fleet.spare} of them spare" if fleet.spare else ""
    lines = [
        f"# {kind.name}: {', '.join(fleet.pod.catalog.models)}{spare}",
        *(f"# not needed here: {'/'.join(variant)}" for variant in fleet.idle),
        *(f"# has no room here: {'/'.join(variant)}" for variant in fleet.no_room),
        f"replicas: {fleet.pods + fleet.spare}",
        f"workers: {kind.workers}",
        "resources:",
    ]
    for part in ("requests", "limits"):
        lines += [
            f"  {part}:",
            f'    cpu: "{kind.cpus:g}"',
            f"    memory: {kind.memory:.0f}M",
        ]
    if kind.gpus:
        lines += ["gpu:", "  enabled: true", f"  count: {kind.gpus}"]
    return "\n".join(lines) + "\n"
