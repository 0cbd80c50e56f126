"""What each server makes of more than it can do: `make bench-peers-load`.

Fraud checks with 10 ms beside medical readings with 250 ms, the latter at 0.5 to 3 times what
the machine can compute. Every cell has a server of its own, so that what one load left undone
does not burden the next. `--quick` only shows that everything works.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from loadtests.peers import overload
from loadtests.peers.driver import OK, Client, ClientFailed, Run
from loadtests.peers.environment import command_line, environment, stolen, stolen_since
from loadtests.peers.overload import Cell, Overload
from loadtests.peers.peer import ROOT, Absent, Peer, Place, start, still_right
from loadtests.peers.plain import GEARSHIFT, GEARSHIFT_VARIANTS, PLAIN_ASYNCIO, PLAIN_SYNC
from loadtests.peers.processes import end_tidily
from loadtests.peers.throughput import alone, build_client, real_time, write_plan
from loadtests.peers.triton import TRITON, TRITON_TUNED

PEERS = (GEARSHIFT, PLAIN_SYNC, PLAIN_ASYNCIO, TRITON, TRITON_TUNED, GEARSHIFT_VARIANTS)
LOADS = (0.5, 1.0, 1.5, 2.0, 3.0)
FRAUD_RATE, FRAUD_BUDGET, MEDICAL_BUDGET = 100.0, 0.010, 0.250
BURST, BURST_SECONDS = 4.0, 0.1
"""In every second the fraud checks come so many times as often for so long."""
CANCELLED, DEADLINE_EXCEEDED = 1, 4
TRIES = 3


def fraud_moments(seconds: float, random: np.random.Generator) -> list[float]:
    """Poisson with a burst at a random place in every second; FRAUD_RATE on average."""
    calm = FRAUD_RATE * (1 - BURST * BURST_SECONDS) / (1 - BURST_SECONDS)
    most = BURST * FRAUD_RATE
    count = random.poisson(most * seconds)
    moments = np.sort(random.random(count) * seconds)
    begins = random.random(int(seconds) + 1) * (1 - BURST_SECONDS)
    second = moments.astype(int)
    within = moments - second - begins[second]
    in_burst = (within >= 0) & (within < BURST_SECONDS)
    kept = in_burst | (random.random(count) < calm / most)
    return [float(moment) for moment in moments[kept]]


def medical_moments(rate: float, seconds: float, random: np.random.Generator) -> list[float]:
    return sorted(float(t) for t in random.random(random.poisson(rate * seconds)) * seconds)


def cell_of(run: Run, server: str, load: float, number: int, seconds: float) -> Cell:
    fraud, medical = run.kinds["tiny"], run.kinds["big"]
    waited = (OK, CANCELLED, DEADLINE_EXCEEDED)
    refused = sum(count for status, count in medical.statuses.items() if status not in waited)
    return Cell(
        server=server,
        load=load,
        round=number,
        medical_offered=medical.sent / seconds,
        medical_in_time=medical.in_time / seconds,
        medical_by_variant=tuple(n / seconds for n in medical.in_time_by_answer),
        medical_refused=refused / max(medical.sent, 1),
        medical_p99_ms=medical.p99_ms,
        fraud_in_time=fraud.in_time / max(fraud.sent, 1),
        fraud_p99_ms=fraud.p99_ms,
        wrong=fraud.wrong + medical.wrong,
        lag_p99_ms=run.lag_p99_ms,
    )


def asked(client: Client, peer: Peer, place: Place, plan: Path, found: Overload) -> Run | None:
    """None where the server ended each time it was tried: each is counted."""
    models = peer.files(place)
    kinds = [(models["tiny"], FRAUD_BUDGET), (models["big"], MEDICAL_BUDGET)]
    for _ in range(TRIES):
        running = start(peer, place)
        try:
            run = client.open(running.port, plan, kinds)
            if any(kind.right for kind in run.kinds.values()) or still_right(running, place):
                return run
            print(f"{peer.title}: answers nobody any more", flush=True)
        except ClientFailed as error:
            print(f"{peer.title}: {error}", flush=True)
        finally:
            running.tree.kill()
        found.ended[peer.name] = found.ended.get(peer.name, 0) + 1
    return None


def measure(client: Client, place: Place, found: Overload, peers: Sequence[Peer]) -> None:
    plan = place.folder / "load-plan.txt"
    ready = []
    for peer in peers:
        found.titles[peer.name] = peer.title
        try:
            peer.prepare(place)
            # gearshift measures its models at its first start.
            start(peer, place).tree.kill()
        except Absent as reason:
            found.absent[peer.name] = str(reason)
            print(f"{peer.title}: absent: {reason}", flush=True)
        else:
            ready.append(peer)
    for number in range(found.rounds):
        for load in LOADS:
            random = np.random.default_rng((number, round(10 * load)))
            fraud = fraud_moments(found.seconds, random)
            medical = medical_moments(load * found.capacity, found.seconds, random)
            write_plan(plan, [fraud, medical])
            for peer in ready:
                run = asked(client, peer, place, plan, found)
                if run is None:
                    continue
                cell = cell_of(run, peer.name, load, number, found.seconds)
                found.cells.append(cell)
                print(
                    f"{load:g}x {peer.name:14} medical {cell.medical_in_time:5.1f}/s in time, fraud"
                    f" {100 * cell.fraud_in_time:5.1f} %, lag {cell.lag_p99_ms:.2f} ms",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="default: docs/results; quick: build/peers/quick")
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "peers")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--servers", nargs="+", default=[], choices=[p.name for p in PEERS])
    parser.add_argument("--quick", action="store_true", help="short cells, to try it")
    arguments = parser.parse_args()
    end_tidily()
    place = Place.at(arguments.build.resolve())
    before, first = stolen(), real_time()
    client = Client(build_client(place.folder / "client"), first)
    capacity, _ = alone(place.models["big"], 0.3 if arguments.quick else 1.5)
    found = Overload(
        command=command_line("loadtests.peers.load"),
        environment=environment(),
        capacity=capacity,
        seconds=2.0 if arguments.quick else 10.0,
        rounds=arguments.rounds,
        real_time=bool(first),
    )
    names = arguments.servers or [peer.name for peer in PEERS]
    measure(client, place, found, [peer for peer in PEERS if peer.name in names])
    found.environment["stolen"] = stolen_since(*before)
    found.write(place.folder / "load-results.json")
    quick, whole = place.folder / "quick", ROOT / "docs" / "results"
    out = arguments.out or (quick if arguments.quick else whole)
    overload.write(found, out, BURST, BURST_SECONDS)


if __name__ == "__main__":
    main()
