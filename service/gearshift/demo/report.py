"""What the demo prints: a table of what was routed where and why, and what /metrics says."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from prometheus_client.parser import text_string_to_metric_families
from rich.table import Table

from gearshift.core.accuracy import METRICS
from gearshift.demo.traffic import Result, Samples, Scene

OUTCOME_OF = {
    "OK": ("served", "late"),
    "FAILED_PRECONDITION": ("infeasible",),
    "RESOURCE_EXHAUSTED": ("shed",),
    "DEADLINE_EXCEEDED": ("expired", "late", "cancelled"),
}
"""The outcomes that the server may have counted for a status that the client saw. A caller
whose own deadline passes leaves: the server may see it as expired, late or cancelled."""

Played = Sequence[tuple[Scene, Samples, Sequence[Result]]]


def report(played: Played, metric_of: Mapping[str, str]) -> Table:
    """One row per scene, readable in 80 columns; `metric_of` names each model's metric."""
    table = Table(title="What was asked, who answered, and how good the answers were")
    table.add_column("traffic", width=20)
    table.add_column("in time", width=14)
    table.add_column("answered by (why)", width=21)
    table.add_column("accuracy; refused", width=15)
    for scene, samples, results in played:
        answered = [result for result in results if result.status == "OK"]
        in_time = sum(result.latency <= scene.budget for result in answered)
        refused = Counter(result.status for result in results if result.status != "OK")
        table.add_row(
            scene.title,
            f"{in_time} of {len(results)}\n{in_time / len(results):.0%}{_p99(answered)}",
            _answered_by(answered),
            "\n".join(
                [
                    *_accuracy(answered, samples, metric_of[scene.model]),
                    *(f"{_words(status)}: {count}" for status, count in refused.items()),
                ]
            ),
        )
        table.add_section()
    return table


def refusals(played: Played) -> list[str]:
    """One line per status with the first message that came with it."""
    first: dict[str, str] = {}
    for _, _, results in played:
        for result in results:
            if result.status != "OK":
                first.setdefault(result.status, result.message)
    return [f"{status}: {message}" for status, message in first.items()]


def _words(status: str) -> str:
    """FAILED_PRECONDITION as a narrow column shows it."""
    return status.replace("_", " ").lower()


def _p99(answered: Sequence[Result]) -> str:
    if not answered:
        return ""
    latencies = sorted(result.latency for result in answered)
    return f"\np99 {latencies[math.ceil(0.99 * len(latencies)) - 1] * 1e3:.1f} ms"


def _answered_by(answered: Sequence[Result]) -> str:
    counts = Counter((result.variant, result.reason) for result in answered)
    lines = [
        f"{variant} {count / len(answered):.0%} ({reason})"
        for (variant, reason), count in counts.most_common()
    ]
    return "\n".join(lines) or "nobody"


def _accuracy(answered: Sequence[Result], samples: Samples, metric: str) -> list[str]:
    """The model's metric on the answers against the labels, and what the cards promised."""
    if not answered:
        return []
    outputs: list[Sequence[float]] = []
    labels: list[int] = []
    weights: list[float] = []
    promised = 0.0
    for result in answered:
        outputs.extend(result.output.reshape(len(result.chosen), -1).tolist())
        labels.extend(samples.labels[result.chosen].tolist())
        weights.extend(samples.weights[result.chosen].tolist())
        promised += result.accuracy / len(answered)
    measured = METRICS[metric](outputs, labels, weights)
    return [f"labels {measured:.4f}", f"cards  {promised:.4f}"]


def account(played: Played, exposition: str) -> list[str]:
    """What does not add up between the client's counts and the server's; empty if all does."""
    counted: Counter[str] = Counter()
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            if sample.name == "gearshift_requests_total":
                counted[sample.labels["outcome"]] += int(sample.value)
    seen: Counter[str] = Counter()
    sent = 0
    for scene, _, results in played:
        sent += scene.requests
        seen.update(result.status for result in results)
    problems = []
    if sum(seen.values()) != sent:
        problems.append(f"{sent} requests were sent, {sum(seen.values())} came back")
    if sum(counted.values()) != sent:
        problems.append(f"the client sent {sent}, the server counted {sum(counted.values())}")
    unknown = set(seen) - set(OUTCOME_OF)
    if unknown:
        problems.append(f"unexpected statuses: {', '.join(sorted(unknown))}")
    for status in ("FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"):
        told = sum(counted[outcome] for outcome in OUTCOME_OF[status])
        if told != seen[status]:
            problems.append(f"{status}: the client saw {seen[status]}, the server counted {told}")
    if counted["failed"] or counted["invalid"]:
        problems.append(
            f"the server counted {counted['failed']} failed, {counted['invalid']} invalid"
        )
    return problems


def metrics_lines(exposition: str) -> list[str]:
    """The lines of /metrics that tell the trade-off: who answered, and what it cost."""
    wanted = (
        "gearshift_requests_total{",
        "gearshift_served_accuracy",
        "gearshift_accuracy_deficit",
    )
    return [
        line
        for line in exposition.splitlines()
        if line.startswith(wanted) and "_created" not in line and not line.endswith(" 0.0")
    ]
