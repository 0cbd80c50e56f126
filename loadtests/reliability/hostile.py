"""Hostile peers against a real server with small limits, one kind after the other.

    python -m loadtests.reliability.hostile

Beside each of them one well-behaved client asks on. Written down are what the peers saw, what the
client lost, how much memory the server took at most, and how long it took until nothing of the
attack was left. Fails if memory passed the bound of docs/limits.md, or if the server ended.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import resource
import selectors
import shutil
import socket
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from loadtests.peers.processes import Tree, end_tidily
from loadtests.reliability.attacks import ATTACKS, LARGE, SMALL, Attack
from loadtests.reliability.bound import bound
from loadtests.reliability.hostile_page import Row, line, page
from loadtests.reliability.well_behaved import Good
from onnx import TensorProto, helper, numpy_helper

from gearshift.app.settings import Settings
from gearshift.core.limits import KIB, MIB

ROOT = Path(__file__).parents[2]
LIMITS: dict[str, Any] = {
    "max_connections": 1_000,
    "max_connections_per_peer": 900,
    "max_streams": 100,
    "max_requests": 2_000,
    "max_requests_per_connection": 200,
    "max_queue": 200,
    "max_queue_bytes": 16 * MIB,
    "max_held_bytes": 32 * MIB,
    "max_unread_bytes": 32 * MIB,
    "max_message_bytes": 8 * MIB,
    "max_metadata_bytes": 16 * KIB,
    "max_http_connections": 64,
    "stall_seconds": 3.0,
    "http_seconds": 3.0,
}
NORMAL_WITHIN = 30.0
FROM = "127.0.0.2"
"""Where the attacks come from; the well-behaved client has another address."""

TOLD = re.compile(
    rb"above the limit of [ -~]*?\(setting [a-z_]+\)|HTTP/1\.1 \d{3}|this is not HTTP/2"
    rb"|more than \d+ fields"
)


def repository(folder: Path) -> Path:
    """Two models: one of a small answer, one of 256 KiB a row."""
    for name, width in ((SMALL, 8), (LARGE, 65_536)):
        weights = np.zeros((30, width), np.float32)
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            name,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 30])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", width])],
            [numpy_helper.from_array(weights, "w")],
        )
        place = folder / name / "v" / "model.onnx"
        place.parent.mkdir(parents=True)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(made, place)
        (folder / name / "model.toml").write_text(
            'metric = "top1"\nmax_batch_size = 64\ndefault_class = "d"\n\n[classes.d]\n'
            '\n[[variants]]\nname = "v"\nversion = 1\nexecutor = "onnx"\naccuracy = 1.0\n'
        )
    return folder


# --- the attacker, in a process of its own ------------------------------------------------------


@dataclass
class Peer:
    """One connection of an attack."""

    socket: socket.socket
    pending: bytes
    next_at: float = 0.0
    sent: int = 0


def attacker(orders: Any, seen: Any) -> None:
    """Carry out what comes from the queue `orders`, until that is None; what was seen goes to the
    queue `seen`, as counts by text."""
    os.nice(19)  # it is the server's answer that is asked about, not who gets the processor
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    seen.put({})
    while (order := orders.get()) is not None:
        name, address, seconds = order
        what = next(each for each in ATTACKS if each.name == name)
        seen.put(attack(what, address, seconds))


def attack(what: Attack, address: tuple[str, int], seconds: float) -> dict[str, int]:
    """Keep it up; what was seen, as counts by text."""
    told: Counter[str] = Counter()
    peers: list[Peer] = []
    selector = selectors.DefaultSelector()
    end = time.monotonic() + seconds

    def opened() -> None:
        with suppress(OSError):
            made = socket.create_connection(address, timeout=2, source_address=(FROM, 0))
            if not what.reads:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            made.setblocking(False)
            peer = Peer(made, what.first)
            peers.append(peer)
            if what.reads:
                selector.register(made, selectors.EVENT_READ, peer)
            told["connections"] += 1

    def closed(peer: Peer, how: str) -> None:
        told[how] += 1
        if what.reads:
            selector.unregister(peer.socket)
        peer.socket.close()
        peers.remove(peer)

    while time.monotonic() < end:
        for _ in range(min(20, what.connections - len(peers))):
            opened()
        now = time.monotonic()
        for peer in peers:
            if not peer.pending and now >= peer.next_at:
                peer.pending = what.then(peer.sent)
                peer.sent += 1
                peer.next_at = now + what.pause
            if peer.pending:
                try:
                    size = peer.socket.send(peer.pending)
                    peer.pending = peer.pending[size:]
                except BlockingIOError:
                    pass
                except OSError:
                    closed(peer, "closed")
        for key, _ in selector.select(0.001):
            try:
                came = key.data.socket.recv(262_144)
            except OSError:
                came = b""
            for text in TOLD.findall(came):
                told[text.decode()] += 1
            if not came:
                closed(key.data, "closed")
    for peer in peers:
        peer.socket.close()
    selector.close()
    return dict(told)


# --- the server, from outside -------------------------------------------------------------------


def resident(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    return int(found[1]) * 1_024 if found else 0


def samples(http: str, **headers: str) -> dict[str, float]:
    asked = urllib.request.Request(f"{http}/metrics", headers=headers)
    with urllib.request.urlopen(asked, timeout=20) as page:
        lines = page.read().decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def left_over(http: str) -> str:
    """What of an attack is still kept; "" for nothing."""
    try:
        now = samples(http)
    except OSError as error:
        return f"/metrics: {error}"
    kept = [
        name.removeprefix("gearshift_")
        for name, value in now.items()
        if (name.startswith("gearshift_bytes_held") and value > 0)
        or (name == 'gearshift_connections{port="grpc"}' and value > 1)
    ]
    return ", ".join(kept)


def try_out(
    what: Attack, tree: Tree, grpc: str, http: str, seconds: float, orders: Any, seen: Any
) -> Row:
    good = Good(grpc)
    asking = threading.Thread(target=good.run)
    asking.start()
    (pid,) = tree.members()[:1]
    place = http.removeprefix("http://") if what.http else grpc
    host, port = place.split(":")
    try:
        time.sleep(0.5)
        begun, peak, most = time.monotonic(), 0, 0
        orders.put((what.name, (host, int(port)), seconds))
        while seen.empty() and tree.alive and time.monotonic() < begun + seconds + 60:
            peak = max(peak, resident(pid))
            most = max(most, len(os.listdir(f"/proc/{pid}/fd")))
            time.sleep(0.05)
        told = seen.get(timeout=60)
        ended = time.monotonic()
        left = left_over(http)
        while left and time.monotonic() < ended + NORMAL_WITHIN:
            time.sleep(0.1)
            left = left_over(http)
        normal = time.monotonic() - ended
        time.sleep(0.3)
    finally:
        good.stopped.set()
        asking.join(10)
    answers = good.between(begun, ended)
    in_time = sorted(took for took in answers if took is not None)
    return Row(
        name=what.name,
        injected=what.what,
        seen=dict(sorted(told.items())),
        asked=len(answers),
        lost=len(answers) - len(in_time),
        p99_ms=1e3 * in_time[int(0.99 * len(in_time))] if in_time else float("nan"),
        connections=most,
        memory=peak / 1e6,
        until_normal=normal,
        left=left,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each attack")
    parser.add_argument("--only", default="", help="attacks whose name contains this")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "reliability")
    arguments = parser.parse_args()
    end_tidily()
    folder = Path(tempfile.mkdtemp(prefix="gearshift-hostile-"))
    settings = Settings(**LIMITS)
    most = bound(settings.limits, settings.http_limits)
    options = [part for name, value in LIMITS.items() for part in ("--set", f"{name}={value}")]
    command = (
        *(sys.executable, "-m", "gearshift", "serve", "--grpc-port", "0", "--http-port", "0"),
        *("--repository", str(repository(folder / "models")), "--state-dir", str(folder / "state")),
        *("--no-feedback", *options),
    )
    tree = Tree(command, folder / "serve.log", {})
    context = multiprocessing.get_context("spawn")
    orders, seen = context.Queue(), context.Queue()
    attacking = context.Process(target=attacker, args=(orders, seen), daemon=True)
    attacking.start()
    rows: list[Row] = []
    try:
        grpc, http = addresses(tree)
        good = Good(grpc)
        threading.Timer(3.0, good.stopped.set).start()
        good.run()
        seen.get(timeout=120)
        base = resident(tree.members()[0])
        print(f"base {base / 1e6:.0f} MB, bound {most / 1e6:.0f} MB beyond", flush=True)
        for what in ATTACKS:
            if arguments.only in what.name:
                rows.append(try_out(what, tree, grpc, http, arguments.seconds, orders, seen))
                print(line(rows[-1]), flush=True)
        if not tree.alive:
            raise SystemExit(f"the server ended: {tree.log.read_text()[-2_000:]}")
    finally:
        orders.put(None)
        attacking.join(10)
        tree.end()
        log = (folder / "serve.log").read_text()
        shutil.rmtree(folder, ignore_errors=True)
    peak = max(row.memory for row in rows)
    told = {
        "base_mb": base / 1e6,
        "bound_mb": most / 1e6,
        "peak_mb": peak,
        "limits": LIMITS,
        "rows": [asdict(row) for row in rows],
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "hostile.json").write_text(json.dumps(told, indent=2) + "\n")
    (arguments.out / "hostile.md").write_text(page(told, rows))
    if "Traceback" in log:
        raise SystemExit(
            f"the server's log has a traceback: {log[log.index('Traceback') :][:2_000]}"
        )
    if 1e6 * peak > base + most:
        raise SystemExit(
            f"memory passed the bound: {peak:.0f} MB, {(base + most) / 1e6:.0f} stated"
        )
    left = [row.name for row in rows if row.left]
    if left:
        raise SystemExit(f"something is left {NORMAL_WITHIN:g} s after: {', '.join(left)}")


def addresses(tree: Tree) -> tuple[str, str]:
    """Of gRPC and of HTTP, once the server is ready."""
    ready = re.compile(r"ready: gRPC on (\S+), metrics on (\S+)/metrics")
    deadline = time.monotonic() + 120
    while (found := ready.search(tree.log.read_text())) is None:
        if not tree.alive or time.monotonic() > deadline:
            raise SystemExit(f"the server did not come up: {tree.log.read_text()[-2_000:]}")
        time.sleep(0.05)
    return found[1], found[2]


if __name__ == "__main__":
    main()
