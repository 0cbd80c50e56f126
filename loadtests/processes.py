"""One serving process beside as many as there are cores: throughput, latency, cost, memory.

    python -m loadtests.processes --out docs/results

All servers are up at once and asked in turns (by the client of `loadtests.peers`), so that a change
of the machine's speed meets all alike: closed loops over several connections and over one, then a
short deadline beside long runs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from loadtests.arrivals import Arrivals
from loadtests.peers.driver import Client, Run
from loadtests.peers.environment import (
    command_line,
    described,
    environment,
    stolen,
    stolen_since,
)
from loadtests.peers.models import BIG, MID, MODELS
from loadtests.peers.peer import ROOT, Launch, Peer, Place, Running, start
from loadtests.peers.plain import CORES, write_repository
from loadtests.peers.processes import end_tidily
from loadtests.peers.throughput import build_client, write_plan

LOOPS = ((1, 1), (8, 8), (64, 16), (64, 1))
"""Callers, and the connections that they share."""
SECONDS = 1.5
WARM_UP = 1.0
BESIDE = {MID: (60.0, 0.020), BIG: (8.0, 0.400)}
"""Requests a second for each core pair, and their deadline in seconds: the short one first."""
BESIDE_SECONDS = 8.0


def served(processes: int) -> Peer:
    repository = f"processes-{processes}"

    def launch(place: Place, port: int) -> Launch:
        return Launch(
            (
                *(sys.executable, "-m", "gearshift", "serve", "--processes", str(processes)),
                *("--grpc-port", str(port), "--http-port", "0", "--log-level", "warning"),
                *("--repository", str(place.folder / repository)),
                *("--state-dir", str(place.folder / f"{repository}-state")),
            ),
            {"PYTHONPATH": str(ROOT / "service")},
        )

    return Peer(
        repository,
        f"{processes} process" + ("es" if processes > 1 else ""),
        lambda place: write_repository(repository, place, place.models),
        launch,
    )


class Cell:
    """One model, one number of callers, one server: a figure of each round."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.p50s: list[float] = []
        self.p99s: list[float] = []
        self.cpu: list[float] = []

    def add(self, run: Run, cpu_seconds: float) -> None:
        only = run.only
        if only.failed or only.wrong:
            raise SystemExit(f"{only.failed} failed and {only.wrong} wrong answers")
        self.rates.append(only.right / run.seconds)
        self.p50s.append(only.p50_ms)
        self.p99s.append(only.p99_ms)
        self.cpu.append(1e6 * cpu_seconds / max(only.sent, 1))

    def row(self) -> str:
        least, most = min(self.rates), max(self.rates)
        middle = map(statistics.median, (self.rates, self.p50s, self.p99s, self.cpu))
        rate, p50, p99, cpu = middle
        return f"{rate:,.0f} ({least:,.0f} to {most:,.0f}) | {p50:.2f} | {p99:.2f} | {cpu:,.0f}"


Cells = Mapping[tuple[str, int, int, str], Cell]


def measured(
    client: Client, servers: list[Running], place: Place, rounds: int, seconds: float
) -> Cells:
    cells: dict[tuple[str, int, int, str], Cell] = defaultdict(Cell)
    for number in range(rounds):
        for model in MODELS:
            files = place.models[model.name]
            for callers, connections in LOOPS:
                # Every round in the other order.
                for each in servers[:: 1 if number % 2 == 0 else -1]:
                    before = each.tree.cpu_seconds()
                    run = client.closed(each.port, files, callers, seconds, connections)
                    cell = cells[model.name, callers, connections, each.peer.title]
                    cell.add(run, each.tree.cpu_seconds() - before)
                    print(number, model.name, callers, each.peer.title, cell.rates[-1], flush=True)
    return cells


def beside(
    client: Client, servers: list[Running], place: Place, rounds: int, seconds: float
) -> Mapping[tuple[str, str], list[float]]:
    """Percent in time, by server and model, of each round."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    plan = place.folder / "processes-plan.txt"
    asked = [(place.models[model.name], deadline) for model, (_, deadline) in BESIDE.items()]
    for number in range(rounds):
        rng = np.random.default_rng(number)
        rates = [rate * CORES / 2 for rate, _ in BESIDE.values()]
        write_plan(plan, [Arrivals(rate=rate).draw(seconds, rng).tolist() for rate in rates])
        for each in servers[:: 1 if number % 2 == 0 else -1]:
            run = client.open(each.port, plan, asked)
            for name, outcome in run.kinds.items():
                found[each.peer.title, name].append(100 * outcome.in_time / max(outcome.sent, 1))
            print(number, each.peer.title, {n: found[t, n] for t, n in found}, flush=True)
    return found


def page(
    cells: Cells,
    in_time: Mapping[tuple[str, str], Sequence[float]],
    memory: Mapping[str, float],
    rounds: int,
    lost: str,
) -> Iterator[str]:
    yield "# One serving process, or several\n"
    yield (
        f"Made by `{command_line('loadtests.processes')}` (median of {rounds} rounds, least to most"
        f" in brackets) on {described(environment())}. {lost} of the cores' time went to others."
        " Client and servers share the cores. All servers are up at once, every round in another"
        " order. The models are those of [peers](peers.md). Each process has its cores and workers"
        " to itself.\n"
    )
    yield (
        "| model | callers | connections | server | requests/s | p50, ms | p99, ms"
        " | server CPU, us/request |"
    )
    yield "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |"
    for (model, callers, connections, title), cell in cells.items():
        yield f"| {model} | {callers} | {connections} | {title} | {cell.row()} |"
    told = " and ".join(
        f"{rate * CORES / 2:g} requests a second for {model.name} with {1e3 * deadline:g} ms"
        for model, (rate, deadline) in BESIDE.items()
    )
    yield f"\n## A short deadline beside long runs\n\nPoisson arrivals, {told}. In time:\n"
    yield "| server | model | median of the rounds (least to most), % |\n| --- | --- | ---: |"
    for (title, name), shares in in_time.items():
        yield (
            f"| {title} | {name} | {statistics.median(shares):.1f}"
            f" ({min(shares):.1f} to {max(shares):.1f}) |"
        )
    yield "\n## Memory\n\n| server | MB (PSS) after all that |\n| --- | ---: |"
    for title, megabytes in memory.items():
        yield f"| {title} | {megabytes:,.0f} |"
    yield ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument(
        "--processes", type=int, nargs="+", default=sorted({1, CORES}), help="which to compare"
    )
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "peers")
    arguments = parser.parse_args()
    end_tidily()
    place = Place.at(arguments.folder)
    client = Client(build_client(arguments.folder / "client"))
    before = stolen()
    servers: list[Running] = []
    try:
        for count in arguments.processes:
            peer = served(count)
            peer.prepare(place)
            servers.append(start(peer, place))
        for each in servers:
            for model in MODELS:
                client.closed(each.port, place.models[model.name], 8, WARM_UP)
        cells = measured(client, servers, place, arguments.rounds, arguments.seconds)
        in_time = beside(
            client, servers, place, arguments.rounds, BESIDE_SECONDS * arguments.seconds / SECONDS
        )
        memory = {each.peer.title: each.tree.memory_bytes() / 1e6 for each in servers}
    finally:
        for each in servers:
            each.tree.end()
    lines = page(cells, in_time, memory, arguments.rounds, stolen_since(*before))
    (arguments.out / "processes.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
