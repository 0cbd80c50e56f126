"""The page of what fired when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from loadtests.oncall.faults import Fault, Seen, named
from loadtests.oncall.stack import Arrived
from loadtests.peers.environment import described, environment


def write(found: Sequence[tuple[Fault, Seen]], interval: float, calm: float, path: Path) -> None:
    path.write_text("\n".join(_lines(found, interval, calm)))


def _lines(found: Sequence[tuple[Fault, Seen]], interval: float, calm: float) -> Iterator[str]:
    yield (
        "# Who is told what, when something breaks\n\n"
        "Made by `make bench-oncall` on"
        f" {described(environment())}. Real gearshift servers with faults put in, scraped and"
        f" judged every {interval:g} s by a real Prometheus with the shipped rules as they are, and"
        " routed by a real Alertmanager with the shipped routes (but for the time that it gathers"
        " alerts for one message, 1 s instead of 10 s to 5 min) to a web hook that writes down what"
        f" arrives. Each fault has servers, a Prometheus and {calm:g} s of healthy traffic of its"
        " own; all but the overload ran side by side. The script fails if an alert that is expected"
        " does not come, or if anything else does.\n"
    )
    yield "| fault | what was done | told, after | who | held back | anything else |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for fault, seen in found:
        told = [f"{each.name} {_of(each)}, {after:.0f} s" for after, each in seen.after]
        who = [each.receiver for _, each in seen.after]
        others = sorted(
            {named(each)[0] for _, each in seen.after if named(each) not in fault.expected}
        )
        yield (
            f"| {fault.name} | {fault.done} | {'<br>'.join(told) or 'nothing'}"
            f" | {'<br>'.join(who) or '-'} | {', '.join(seen.held_back) or '-'}"
            f" | {', '.join(others) or 'nothing'}, watched for {fault.watched:g} s |"
        )
    yield (
        "\nHow soon an alert can come: the time that what it says must hold (its `for`), and until"
        " what it reads has moved so far. Short histories make burn rates quick: the mean of the"
        " last hour is that of the minutes that there are. A server that has run well for an hour"
        " must fail altogether for a minute, or one request in fifty for three quarters of an hour,"
        " until 1.44 % of the hour are gone.\n"
    )
    yield "## How the callers' requests ended\n\nBy service class and gRPC status, in all.\n"
    yield "| fault | requests |\n| --- | --- |"
    for fault, seen in found:
        yield f"| {fault.name} | {', '.join(f'{n:,} {s}' for s, n in seen.statuses.items())} |"
    yield "\n## What whoever is on call reads\n"
    for fault, seen in found:
        for _, each in seen.after:
            yield (
                f"**{fault.name}**, {each.severity}: {each.annotations['summary']}\n\n>"
                f" {each.annotations['description']}\n>\n> {each.annotations['runbook_url']}\n"
            )


def _of(alert: Arrived) -> str:
    """What it is about."""
    return "/".join(
        alert.labels[name] for name in ("model", "service_class", "variant") if name in alert.labels
    )
