"""Where the server's time goes: a flame graph, and the shares of its parts.

    pip install py-spy
    python -m loadtests.flame --out docs/results

Asks the tiny model of the peers' benchmark with 64 callers while py-spy looks at the server's
main thread, where everything but the longer runs happens. `--service` takes another checkout's
`service` folder, to see what was there before.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import threading
from collections import Counter
from pathlib import Path

from loadtests.peers.driver import Client
from loadtests.peers.environment import described, environment
from loadtests.peers.peer import ROOT, Place, start
from loadtests.peers.plain import GEARSHIFT
from loadtests.peers.throughput import build_client

CALLERS = 64
SECONDS, LOOKED = 26.0, 12
SAMPLES = 100
"""A second."""

PARTS = (
    ("gearshift/http2", "HTTP/2"),
    ("gearshift/rpc", "gRPC and codec"),
    ("gearshift/engine", "engine"),
    ("gearshift/core", "scheduler"),
    ("gearshift/telemetry", "telemetry"),
    ("gearshift/executors", "executor and ONNX Runtime"),
    ("grpc", "grpcio"),
)
"""By what the innermost frame that one of them owns is in; the first that fits."""

REST = "event loop and system calls"
MAIN = "Runner.run (asyncio"


def shares(raw: str) -> dict[str, float]:
    """Of the main thread's samples in py-spy's raw format, the share of each part."""
    counted: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, number = line.rpartition(" ")
        if MAIN in stack and "uvicorn" not in stack:
            counted[part_of(stack.split(";"))] += int(number)
    total = sum(counted.values())
    return {part: count / total for part, count in counted.most_common()}


def part_of(frames: list[str]) -> str:
    for frame in reversed(frames):
        for where, part in PARTS:
            if f"({where}" in frame:
                return part
    return REST


def record(pid: int, kind: str, path: Path) -> None:
    command = ("py-spy", "record", "--nonblocking", "--pid", str(pid), "--format", kind)
    timing = ("--rate", str(SAMPLES), "--duration", str(LOOKED), "--output", str(path))
    subprocess.run((*command, *timing), check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "peers")
    parser.add_argument("--service", type=Path, default=ROOT / "service")
    parser.add_argument("--name", default="front-door")
    arguments = parser.parse_args()
    if shutil.which("py-spy") is None:
        raise SystemExit("py-spy is not installed: pip install py-spy")
    os.environ["PYTHONPATH"] = str(arguments.service)
    place = Place.at(arguments.build)
    client = Client(build_client(arguments.build / "client"))
    GEARSHIFT.prepare(place)
    running = start(GEARSHIFT, place)
    told = []
    try:
        pid = running.tree.members()[0]
        files = place.models["tiny"]
        asking = threading.Thread(
            target=lambda: told.append(client.closed(running.port, files, CALLERS, SECONDS))
        )
        asking.start()
        with tempfile.TemporaryDirectory() as folder:
            raw = Path(folder) / "raw"
            record(pid, "raw", raw)
            record(pid, "flamegraph", arguments.out / f"{arguments.name}.svg")
            found = shares(raw.read_text())
        asking.join()
    finally:
        running.tree.end()
    rows = "\n".join(f"| {part} | {100 * share:.0f} % |" for part, share in found.items())
    (arguments.out / f"{arguments.name}.md").write_text(
        "# Where the server's time goes\n\n"
        f"Made by `python -m loadtests.flame --out docs/results` on {described(environment())}."
        f" {CALLERS} callers ask the tiny model as fast as they are answered, while py-spy looks"
        f" at the server {SAMPLES} times a second; with it looking on, it answered"
        f" {told[0].only.right / told[0].seconds:,.0f} requests a second. Shares of the main"
        f" thread's samples, by the innermost part of the server in the stack.\n\n"
        f"[Flame graph]({arguments.name}.svg) (open it in a browser)\n\n"
        f"| part | share |\n| --- | ---: |\n{rows}\n"
    )


if __name__ == "__main__":
    main()
