"""docs/results/fleet.md: what callers saw while pods came and went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from loadtests.fleet.fleet import PROPAGATION
from loadtests.fleet.manifest import Template
from loadtests.fleet.runs import Seen
from loadtests.peers.environment import command_line, described, environment


@dataclass(frozen=True, slots=True)
class Story:
    """The three runs, and the pods that they were made with; `rate` in requests a second."""

    template: Template
    rate: float
    replaced: Seen
    updated: Seen
    killed: Seen


def lines(story: Story, lost: str) -> Iterator[str]:
    pod, replaced, updated, killed = story.template, story.replaced, story.updated, story.killed
    budget = replaced.callers[0].budget
    yield "# A fleet while its pods come and go\n"
    yield (
        f"Made by `{command_line('loadtests.fleet')}` on {described(environment())}. {lost} of the"
        " cores' time went to others. Pods are plain processes on addresses of their own, driven by"
        " the Deployment that `helm template deploy/chart` renders: its probes, its preStop hook,"
        " SIGTERM, its grace period, its maxSurge and maxUnavailable, in the order in which a"
        " kubelet and a Deployment controller go. Their headless name is answered by a DNS server"
        f" that follows {PROPAGATION:g} s behind; Envoy 1.40 runs"
        " [deploy/envoy/envoy.yaml](../../deploy/envoy/envoy.yaml) with only ports and names"
        f" changed. The manifest's times: readiness every {pod.readiness.period:g} s, preStop"
        f" {pod.pre_stop[-1]} s, grace {pod.grace:g} s. All of it, the callers and Envoy share the"
        " cores; each pod has one worker and the model `fraud`.\n"
    )
    yield (
        f"Every request has a gRPC deadline of {1e3 * budget:g} ms and one try (but for those that"
        " gRPC or Envoy make where a request was never taken). Arrivals are Poisson.\n"
    )
    yield (
        f"## Two replicas behind Envoy, {replaced.seconds:.0f} s, one deleted and replaced\n\n"
        f"{story.rate:g} requests a second.\n"
    )
    yield from _callers(replaced)
    yield from _pods(replaced)
    yield (
        "\nSpread while both serve, before and after: "
        + "; ".join(_spread(each) for each in replaced.spreads)
        + f". The most that a replica is away from an even share is"
        f" {100 * replaced.unevenness:.1f} %.\n"
    )
    yield f"## A rolling update of three replicas, {updated.seconds:.0f} s\n"
    yield from _callers(updated)
    yield from _pods(updated)
    yield (
        "\nA gRPC channel asks the DNS again only when it loses a connection: it stays with a pod"
        " until SIGTERM, preStop or not, and goes elsewhere at the server's GOAWAY.\n"
    )
    yield "## One of two replicas is killed (signal 9)\n"
    yield from _callers(killed)
    retries = {name: killed.envoy.get(f"upstream_rq_{name}", 0) for name in RETRIES}
    told = ", ".join(f"`upstream_rq_{name}` {count}" for name, count in retries.items())
    yield (
        "\nEnvoy asks the other one again for whatever had no answer yet; over a channel without a"
        f" retry policy, what was under way on that pod ends with UNAVAILABLE. Envoy: {told}. The"
        f" kubelet started it again ({killed.restarts} restart).\n"
    )


RETRIES = ("retry", "retry_success", "retry_overflow")


def _callers(seen: Seen) -> Iterator[str]:
    yield (
        "| callers | requests | answered | in time, % | other endings | p50, ms | p99, ms |\n"
        "| --- | ---: | ---: | ---: | --- | ---: | ---: |"
    )
    for each in seen.callers:
        others = Counter(each.statuses)
        answered = others.pop("OK", 0)
        told = ", ".join(f"{status} {count}" for status, count in sorted(others.items())) or "none"
        yield (
            f"| {each.title} | {len(each.ended):,} | {answered:,} | {100 * each.attainment:.2f} |"
            f" {told} | {1e3 * each.percentile(0.5):.1f} | {1e3 * each.percentile(0.99):.1f} |"
        )


def _pods(seen: Seen) -> Iterator[str]:
    yield "\n| pod | served | other outcomes | its life (s) |\n| --- | ---: | --- | --- |"
    for name, counted in seen.counted.items():
        others = {outcome: n for outcome, n in counted.items() if n and outcome != "served"}
        told = ", ".join(f"{outcome} {n}" for outcome, n in others.items()) or "none"
        life = ", ".join(f"{what} {at:.1f}" for at, what in seen.lives[name])
        yield f"| {name} | {counted['served']:,} | {told} | {life} |"
    total = seen.total
    yield (
        f"\nThe pods counted {total['served']:,} answers (those after a pod's last scrape are"
        " missing)."
    )


def _spread(counts: object) -> str:
    assert isinstance(counts, dict)
    return " and ".join(f"{count:,}" for count in counts.values())
