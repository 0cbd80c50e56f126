"""How much each server answers, how fast, and what it costs: `make bench-peers`.

All servers are up at once and asked in turns, every round in another order, so that a change
of the machine's speed meets all alike. First closed loops of 1, 8 and 64 callers, then Poisson
arrivals with deadlines. `--quick` only shows that everything works.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
from loadtests.arrivals import Arrivals
from loadtests.peers import page
from loadtests.peers.driver import Client, ClientFailed, Run
from loadtests.peers.environment import command_line, environment, stolen, stolen_since
from loadtests.peers.models import MODELS, Files
from loadtests.peers.peer import HERE, ROOT, Absent, Peer, Place, Running, start, still_right
from loadtests.peers.plain import GEARSHIFT, PLAIN_ASYNCIO, PLAIN_SYNC
from loadtests.peers.processes import end_tidily
from loadtests.peers.python_servers import KSERVE, MLSERVER
from loadtests.peers.records import Closed, Open, Results, Server
from loadtests.peers.triton import TRITON

PEERS = (GEARSHIFT, PLAIN_SYNC, PLAIN_ASYNCIO, TRITON, KSERVE, MLSERVER)
CALLERS = (1, 8, 64)
SECONDS = {"tiny": (0.8, 0.8, 0.8), "mid": (0.8, 0.8, 1.0), "big": (0.8, 1.0, 1.8)}
"""Of a closed loop, by callers; what is then in flight is waited for and counted."""
DEADLINES = {"tiny": 0.010, "mid": 0.050, "big": 0.250}
OFFERED_TINY = (500.0, 1000.0, 2000.0, 3000.0, 4500.0, 6000.0)
OFFERED_SHARES = (0.3, 0.6, 0.8, 1.0, 1.3)
"""Of what ONNX Runtime alone computes."""
OPEN_SECONDS = {"tiny": 1.5, "mid": 2.0, "big": 2.5}
HOPELESS = 0.05
"""A server that answers a smaller share in time is not asked at higher rates."""
TRIES = 3
ALONE_BATCHES = {"tiny": (64, 1024, 8192), "mid": (1, 8, 32), "big": (1, 2, 8)}
REAL_TIME = ("chrt", "-f", "50")


def build_client(folder: Path) -> Path:
    subprocess.run(("make", "--quiet", "-C", str(HERE / "client"), f"OUT={folder}"), check=True)
    return folder / "client"


def real_time() -> Sequence[str]:
    """What is put before the client where sending on time matters; nothing where not allowed."""
    try:
        allowed = subprocess.run((*REAL_TIME, "true"), capture_output=True, check=False)
    except FileNotFoundError:
        return ()
    return REAL_TIME if allowed.returncode == 0 else ()


def weigh_all(
    client: Client, peers: Sequence[Peer], place: Place, results: Results, scale: float
) -> list[Peer]:
    """Each alone, so that it shares its pages with no other; those that can take part."""
    present = []
    for peer in peers:
        try:
            peer.prepare(place)
            memory = weighed(client, peer, place, scale)
        except (Absent, ClientFailed) as reason:
            results.servers[peer.name] = Server(peer.title, absent=str(reason))
            print(f"{peer.title}: absent: {reason}", flush=True)
        else:
            results.servers[peer.name] = Server(peer.title, memory)
            print(f"{peer.title}: {memory:,.0f} MB", flush=True)
            present.append(peer)
    return present


def weighed(client: Client, peer: Peer, place: Place, scale: float) -> float:
    """Megabytes, once every model was asked."""
    running = start(peer, place)
    try:
        for files in place.models.values():
            client.closed(running.port, files, 8, 0.5 * scale)
        return running.tree.memory_bytes() / 1e6
    finally:
        running.tree.kill()


def end_all(running: dict[str, Running]) -> None:
    for each in running.values():
        each.tree.end()


def idle_all(running: dict[str, Running], results: Results, seconds: float) -> None:
    """What each uses while nothing is asked."""
    before = {name: each.tree.cpu_seconds() for name, each in running.items()}
    time.sleep(seconds)
    for name, each in running.items():
        idle = 100 * (each.tree.cpu_seconds() - before[name]) / seconds
        results.servers[name] = replace(results.servers[name], idle_percent=idle)


def ceiling(client: Client, place: Place, results: Results, seconds: float) -> None:
    """What the client could ask for if a server cost nothing."""
    files = place.models["tiny"]
    program = place.folder / "client" / "empty_server"
    with subprocess.Popen([program, files.answer], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            for callers in CALLERS:
                run = client.closed(port, files, callers, seconds)
                rate, cost = run.only.right / run.seconds, run.client_cpu / run.only.sent
                results.ceiling[callers] = (rate, 1e6 * cost)
                print(f"client against the empty server, {callers}: {rate:,.0f}/s", flush=True)
        finally:
            server.kill()


def alone(files: Files, seconds: float) -> tuple[float, str]:
    batches = [str(batch) for batch in ALONE_BATCHES[files.model.name]]
    done = subprocess.run(
        (sys.executable, str(HERE / "alone.py"), str(files.artifact), str(seconds), *batches),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    rate, how = json.loads(done.stdout)
    return float(rate), str(how)


def closed(
    client: Client, each: Running, files: Files, callers: int, number: int, seconds: float
) -> Closed:
    before = each.tree.cpu_seconds()
    run = client.closed(each.port, files, callers, seconds)
    outcome = run.only
    cell = Closed(
        server=each.peer.name,
        model=files.model.name,
        callers=callers,
        round=number,
        rate=outcome.right / run.seconds,
        p50_ms=outcome.p50_ms,
        p99_ms=outcome.p99_ms,
        cpu_us=1e6 * (each.tree.cpu_seconds() - before) / max(outcome.sent, 1),
        failed=outcome.failed,
        wrong=outcome.wrong,
    )
    print(
        f"{number} {cell.model:5} {callers:3} {each.peer.name:14} {cell.rate:9,.0f}/s", flush=True
    )
    return cell


def closed_loops(
    client: Client,
    running: dict[str, Running],
    asked: Mapping[str, Files],
    results: Results,
    scale: float,
) -> None:
    order = random.Random(0)
    for number in range(results.rounds):
        for files in asked.values():
            model = files.model
            rate, how = alone(files, 0.35 * scale)
            results.alone.setdefault(model.name, []).append(rate)
            results.alone_how[model.name] = how
            for callers, seconds in zip(CALLERS, SECONDS[model.name], strict=True):
                turns = list(running.values())
                order.shuffle(turns)
                for each in turns:
                    try:
                        results.closed.append(
                            closed(client, each, files, callers, number, scale * seconds)
                        )
                    except ClientFailed as error:
                        print(f"{each.peer.title}, {model.name}, {callers}: {error}", flush=True)


def write_plan(path: Path, moments: Sequence[Sequence[float]]) -> None:
    """What the client sends when: the moments in seconds of each kind, by its number."""
    lines = sorted((round(1e6 * t), kind) for kind, times in enumerate(moments) for t in times)
    path.write_text("".join(f"{at} {kind}\n" for at, kind in lines))


def open_loops(
    client: Client,
    running: dict[str, Running],
    place: Place,
    asked: Mapping[str, Files],
    results: Results,
    scale: float,
) -> None:
    plan = place.folder / "plan.txt"
    for files in asked.values():
        model = files.model
        seconds = scale * OPEN_SECONDS[model.name]
        if model.name == "tiny":
            rates: Sequence[float] = OFFERED_TINY
        else:
            most = float(np.median(results.alone[model.name]))
            rates = [share * most for share in OFFERED_SHARES]
        lost: set[str] = set()
        for seed, rate in enumerate(rates):
            moments = Arrivals(rate=rate).draw(seconds, np.random.default_rng(seed))
            write_plan(plan, [moments.tolist()])
            for name in [name for name in running if name not in lost]:
                cell = opened(client, running, name, place, results, files, plan, rate, seconds)
                if cell is None:
                    continue
                results.open.append(cell)
                if cell.in_time < HOPELESS:
                    # What it would leave undone at higher rates would only disturb the others.
                    lost.add(name)
                settle(running[name])


def opened(
    client: Client,
    running: dict[str, Running],
    name: str,
    place: Place,
    results: Results,
    files: Files,
    plan: Path,
    rate: float,
    seconds: float,
) -> Open | None:
    """None where the server ended each time it was tried: each is counted."""
    deadline = DEADLINES[files.model.name]
    for _ in range(TRIES):
        try:
            run: Run | None = client.open(running[name].port, plan, [(files, deadline)])
        except ClientFailed as error:
            print(f"{name}, {files.model.name}, {rate:.0f}/s: {error}", flush=True)
            run = None
        if run is None or (run.only.right == 0 and not still_right(running[name], place)):
            results.ended[name] = results.ended.get(name, 0) + 1
            running[name].tree.kill()
            running[name] = start(running[name].peer, place)
            continue
        outcome = run.only
        cell = Open(
            server=name,
            model=files.model.name,
            offered=rate,
            deadline_ms=1e3 * deadline,
            answered=outcome.right / seconds,
            in_time=outcome.in_time / max(outcome.sent, 1),
            p50_ms=outcome.p50_ms,
            p99_ms=outcome.p99_ms,
            lag_p99_ms=run.lag_p99_ms,
        )
        print(f"{cell.model:5} {rate:6.0f}/s {name:14} {100 * cell.in_time:5.1f} %", flush=True)
        return cell
    return None


def settle(each: Running, most: float = 20.0) -> None:
    """Waits until the server rests, or has had its chance to: it may work on for nobody."""
    end = time.monotonic() + most
    while time.monotonic() < end:
        before = each.tree.cpu_seconds()
        time.sleep(0.1)
        if each.tree.cpu_seconds() - before <= 0.02:
            return


def chosen(names: Sequence[str]) -> list[Peer]:
    return [peer for peer in PEERS if not names or peer.name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="default: docs/results; quick: build/peers/quick")
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "peers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--servers", nargs="+", default=[], choices=[p.name for p in PEERS])
    parser.add_argument("--models", nargs="+", default=[], choices=[m.name for m in MODELS])
    parser.add_argument("--closed-only", action="store_true", help="no Poisson arrivals")
    parser.add_argument("--quick", action="store_true", help="one short round, to try it")
    arguments = parser.parse_args()
    rounds, scale = (1, 0.3) if arguments.quick else (arguments.rounds, 1.0)
    end_tidily()
    place = Place.at(arguments.build.resolve())
    asked = {name: place.models[name] for name in arguments.models or place.models}
    program = build_client(place.folder / "client")
    client = Client(program)
    results = Results(command_line("loadtests.peers.throughput"), environment(), rounds)
    before = stolen()
    with ExitStack() as stack:
        ceiling(client, place, results, scale)
        peers = weigh_all(client, chosen(arguments.servers), place, results, scale)
        running: dict[str, Running] = {}
        # Whatever runs at the end: some are started anew on the way.
        stack.callback(end_all, running)
        for peer in peers:
            running[peer.name] = start(peer, place)
        closed_loops(client, running, asked, results, scale)
        idle_all(running, results, 2 * scale)
        if not arguments.closed_only:
            open_loops(Client(program, real_time()), running, place, asked, results, scale)
    results.environment["stolen"] = stolen_since(*before)
    results.write(place.folder / "results.json")
    quick, whole = place.folder / "quick", ROOT / "docs" / "results"
    page.write(results, arguments.out or (quick if arguments.quick else whole))


if __name__ == "__main__":
    main()
