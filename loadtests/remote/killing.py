"""A pool of two CPU workers and one server behind, which is killed and frozen under load.

    python -m loadtests.remote.killing --far gearshift

What is served, asked and counted stands in `loadtests.remote.page`, with the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import grpc
from loadtests.peers.environment import described, environment, stolen, stolen_since
from loadtests.peers.peer import ROOT
from loadtests.peers.processes import Tree, end_tidily, free_port
from loadtests.reliability import sums_model, witness
from loadtests.remote.callers import Callers
from loadtests.remote.far import KINDS, MODEL, Far, message
from loadtests.remote.judging import HELD_UP, Blow, Judged, judge
from loadtests.remote.pace import Pace
from tritonclient.grpc import service_pb2_grpc

TIMES = 20
RUN = Pace(0.025)
BEFORE, AFTER = 1.0, 3.0
"""Seconds before the blow, and from when it is up to the end."""

DOWN = {"killed": 0.5, "frozen": 2.0}
"""Seconds until it is started again, or goes on: after so long it has been found out."""

STARTS_WITHIN = 240.0

TOML = (
    sums_model.MODEL
    + """
[[variants]]
name = "far"
version = 3
executor = "triton"
accuracy = 0.95
"""
)


@contextmanager
def front(folder: Path, far: Far) -> Iterator[tuple[str, Path]]:
    """Its address, and where the witness writes."""
    sums_model.write(folder / "repository", MODEL)
    (folder / "repository" / MODEL / "model.toml").write_text(TOML)
    remote = folder / "repository" / MODEL / "far" / "remote.toml"
    remote.parent.mkdir()
    remote.write_text(f'servers = ["{far.address}"]\n')
    port, record = free_port(), folder / "admitted"
    tree = Tree(
        (
            *(sys.executable, "-m", witness.MODULE, str(record), "serve", "--workers", "2"),
            *("--grpc-port", str(port), "--http-port", "0", "--log-level", "warning"),
            *("--repository", str(folder / "repository"), "--state-dir", str(folder / "state")),
            "--no-feedback",
        ),
        folder / "front.log",
        {"PYTHONPATH": os.pathsep.join((str(ROOT / "service"), str(ROOT)))},
    )
    address = f"127.0.0.1:{port}"
    try:
        with grpc.insecure_channel(address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            try:
                stub.ModelInfer(message(), timeout=STARTS_WITHIN, wait_for_ready=True)
            except grpc.RpcError as error:
                said = (folder / "front.log").read_text()[-3_000:]
                raise RuntimeError(f"the server in front: {error.code()}; it says {said}") from None
        yield address, record
    finally:
        tree.end()


async def struck(far: Far, how: str) -> tuple[float, float]:
    """When it was struck and when it was up again."""
    at = time.monotonic()
    await asyncio.to_thread(far.kill if how == "killed" else far.freeze)
    await asyncio.sleep(DOWN[how])
    if how == "killed":
        return at, await asyncio.to_thread(far.start)
    up = time.monotonic()
    await asyncio.to_thread(far.thaw)
    return at, up


async def run(folder: Path, kind: str, times: int, hows: Sequence[str]) -> dict[str, list[Judged]]:
    """By how it was struck."""
    far = Far(folder / "far", RUN, KINDS[kind])
    try:
        far.start()
        with front(folder / "front", far) as (address, record):
            callers = Callers(address)
            calling = asyncio.gather(callers.run(), callers.watch())
            blows: dict[str, list[tuple[float, Blow]]] = {how: [] for how in hows}
            sound = dict.fromkeys(blows, 0)
            for turn in range(2 * times):
                for how, each in blows.items():
                    if sound[how] == times:
                        continue
                    begin = time.monotonic()
                    await asyncio.sleep(BEFORE)
                    at, up = await struck(far, how)
                    await asyncio.sleep(AFTER)
                    end = time.monotonic()
                    crashed = not await asyncio.to_thread(far.answers)
                    each.append((begin, Blow(at, up, end, crashed)))
                    if crashed:
                        await asyncio.to_thread(far.kill)
                        await asyncio.to_thread(far.start)
                    sound[how] += callers.late_since(begin) <= HELD_UP
                print(f"{turn + 1}: {sound} of {times}", flush=True)
                if min(sound.values()) == times:
                    break
            callers.stop.set()
            await calling
            admitted = set(record.read_text().split())
    finally:
        far.close()
    return {
        how: [judge(callers.endings, admitted, blow, begin, callers.late) for begin, blow in each]
        for how, each in blows.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--far", choices=KINDS, required=True)
    parser.add_argument("--how", choices=DOWN, help="only so, beside what was found before")
    parser.add_argument("--times", type=int, default=TIMES)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "remote")
    parser.add_argument("--keep", type=Path, help="a new folder for servers and their logs")
    asked = parser.parse_args()
    end_tidily()
    before = stolen()
    with tempfile.TemporaryDirectory() as folder:
        hows = [asked.how] if asked.how else [*DOWN]
        judged = asyncio.run(run(asked.keep or Path(folder), asked.far, asked.times, hows))
    asked.out.mkdir(parents=True, exist_ok=True)
    file = asked.out / f"killing-{asked.far}.json"
    known = json.loads(file.read_text())["blows"] if asked.how and file.exists() else {}
    told = {
        "machine": described(environment()),
        "taken": stolen_since(*before),
        "blows": {
            **known,
            **{how: [asdict(each) for each in all_] for how, all_ in judged.items()},
        },
    }
    file.write_text(json.dumps(told, indent=1))
    bad = 0
    for how, each in judged.items():
        sound = [one for one in each if one.late <= HELD_UP]
        lost = [name for one in sound for name in one.lost]
        slowest = max((one.noticed for one in sound if not one.crashed), default=float("inf"))
        bad += len(lost)
        print(f"{asked.far} {how} {len(sound)} times: {len(lost)} lost, noticed <= {slowest:.2f} s")
        for name in lost:
            print(f"  {name}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
