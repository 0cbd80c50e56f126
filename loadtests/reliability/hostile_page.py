"""The page of `loadtests.reliability.hostile`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loadtests.peers.environment import command_line, described, environment
from loadtests.reliability.well_behaved import EVERY, WITHIN


@dataclass(frozen=True, slots=True)
class Row:
    """One attack and what came of it. Memory in MB, times in seconds."""

    name: str
    injected: str
    seen: dict[str, int]
    asked: int
    lost: int
    p99_ms: float
    connections: int
    memory: float
    until_normal: float
    left: str


def line(row: Row) -> str:
    seen = "; ".join(f"{text} ({count:,})" for text, count in row.seen.items()) or "nothing"
    return (
        f"| {row.name}: {row.injected} | {seen} | {row.lost} of {row.asked} | {row.p99_ms:.0f}"
        f" | {row.memory:.0f} | {row.until_normal:.1f} |"
    )


def page(told: dict[str, Any], rows: Sequence[Row]) -> str:
    settings = ", ".join(f"{name} = {value}" for name, value in told["limits"].items())
    table = "\n".join(line(row) for row in rows)
    return (
        "# Hostile peers\n\n"
        f"Made by `{command_line('loadtests.reliability.hostile')}` on {described(environment())}."
        " Each attack comes from another address than the one well-behaved client beside it, who"
        f" asks every {1e3 * EVERY:g} ms with a budget of {1e3 * WITHIN:g} ms; attackers, client"
        f" and server share the cores, the attackers at the lowest priority. Lost: answers that the"
        " well-behaved client did not get in time. Until normal: seconds after the attack until"
        f" the server keeps nothing of it. Settings: {settings}.\n\n"
        f"The server takes {told['base_mb']:.0f} MB when nobody attacks, and took"
        f" {told['peak_mb']:.0f} MB at most; the [bound](../limits.md) for these settings is"
        f" {told['base_mb'] + told['bound_mb']:.0f} MB.\n\n"
        "| attack | what the attacker saw | lost | p99 of the others, ms | memory, MB"
        " | until normal, s |\n| --- | --- | ---: | ---: | ---: | ---: |\n" + table + "\n\n"
        "No quotas are set here. Sound requests without end fill the queue (`max_queue`), and"
        " whoever asks while it is full is refused: that is what [quotas](../quotas.md) are for,"
        " whose effect stands under overload and fairness.\n"
    )
