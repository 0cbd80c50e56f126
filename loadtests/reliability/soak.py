"""An hour at 80 % of what a server can do, with everything going on at once: does anything grow?

    python -m loadtests.reliability.soak --seconds 3600

A real server's capacity is measured with callers who ask as soon as they are answered; then stock
gRPC clients that know the right answers send 80 % of it (exponential gaps). All the time its
executors go wrong for a moment, its models are loaded anew, callers cancel, connections leave with
requests under way, and /metrics is scraped. Memory is what the whole process tree holds
(proportional set size), once a second.

Held against each other are the medians of the first and of the last sixth of the run, after a tenth
of it for settling: ten minutes of an hour. Memory may grow by less than 2 %, descriptors and
threads by none that stay, attainment may fall by two points. Lost, as in the table of faults: no
request.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import grpc
from loadtests.peers.environment import described, environment, stolen, stolen_since
from loadtests.peers.peer import ROOT
from loadtests.peers.processes import end_tidily
from loadtests.reliability.callers import Callers, Kind, message
from loadtests.reliability.endings import Ending
from loadtests.reliability.faults import clients
from loadtests.reliability.faults.executors import ExecutorsScene
from loadtests.reliability.faults.scene import Scene
from loadtests.reliability.growth import Looked, Verdict, minutes, verdict
from loadtests.reliability.reloads import held
from tritonclient.grpc import service_pb2_grpc

SHARE = 0.8
BUDGET = 0.5
MEASURED = 8.0
CALLERS = 8
LOOK_EVERY = 1.0
EVERY = {"fault": 7.0, "reload": 11.0, "cancel": 3.0, "leave": 5.0, "scrape": 2.0}
"""Seconds between two of a kind, on average."""

FAULTS = (
    {"kind": "throw", "variant": "slow", "count": 3},
    {"kind": "nan", "variant": "quick", "count": 2},
    {"kind": "shape", "count": 1},
    {"kind": "missing", "variant": "slow", "count": 1},
    {"kind": "hang", "variant": "slow", "count": 1},
    {"kind": "slow", "amount": 5.0, "count": 5},
    {"kind": "lost", "variant": "quick", "count": 1},
    {"kind": "memory", "count": 1},
)


async def capacity(scene: Scene) -> float:
    """Answers a second."""
    request = message(Kind(1), 1.0, 10.0)
    count = 0
    async with scene.channel() as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        end = time.monotonic() + MEASURED

        async def caller() -> None:
            nonlocal count
            while time.monotonic() < end:
                with suppress(grpc.aio.AioRpcError):
                    await stub.ModelInfer(request, timeout=60)
                    count += 1

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return count / MEASURED


class Trouble:
    """What goes on beside the load; `done` counts it."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self._scene = scene
        self._chance = random.Random(seed)
        self.done = dict.fromkeys(EVERY, 0)
        self.failed: list[str] = []

    async def keep_on(self, what: str, until: float) -> None:
        while True:
            pause = self._chance.expovariate(1.0 / EVERY[what])
            if time.monotonic() + pause > until:
                return
            await asyncio.sleep(pause)
            try:
                await getattr(self, what)()
                self.done[what] += 1
            except Exception as error:  # noqa: BLE001 - told at the end; the run goes on
                self.failed.append(f"{what}: {type(error).__name__}: {error}"[:300])

    async def fault(self) -> None:
        fault = {"model": "sums", **self._chance.choice(FAULTS)}
        self._scene.plan(fault)
        await asyncio.sleep(2.0)
        self._scene.plan()

    async def reload(self) -> None:
        said = await asyncio.to_thread(self._scene.load_changed, self.done["reload"])
        if said != "OK" and "on purpose" not in said:
            raise RuntimeError(said)

    async def cancel(self) -> None:
        await clients.cancelling(self._scene, 20)

    async def leave(self) -> None:
        await clients.leaving(self._scene, 2)

    async def scrape(self) -> None:
        await asyncio.to_thread(self._scene.metrics)


async def run(
    scene: Scene, seconds: float, rate: float, seed: int
) -> tuple[list[Looked], list[Ending], Trouble]:
    """Looks once a second, how all requests ended, and what went on beside."""
    callers = Callers(scene.channel, rate, BUDGET)
    asking = asyncio.create_task(callers.run(seed))
    trouble = Trouble(scene, seed)
    begun = time.monotonic()
    going = [asyncio.create_task(trouble.keep_on(each, begun + seconds)) for each in EVERY]
    looks: list[Looked] = []
    while (at := time.monotonic() - begun) < seconds and scene.tree.alive:
        looks.append(await asyncio.to_thread(look, scene, at))
        await asyncio.sleep(max(0.0, LOOK_EVERY - (time.monotonic() - begun - at)))
    callers.stop.set()
    await asking
    await asyncio.gather(*going)
    trouble.failed += [f"no ending: {each}" for each in callers.unanswered]
    ended = [
        Ending(e.sent - begun, e.ended - begun, e.status, e.in_time, e.wrong)
        for e in callers.endings
    ]
    return looks, ended, trouble


def look(scene: Scene, at: float) -> Looked:
    tree = [held(pid) for pid in scene.tree.members()]
    return Looked(
        at=at,
        megabytes=scene.tree.memory_bytes() / 1e6,
        descriptors=sum(each.descriptors for each in tree),
        threads=sum(each.threads for each in tree),
    )


def page(
    seconds: float, rate: float, most: float, found: Verdict, trouble: Trouble, head: str
) -> str:
    """In Markdown."""
    rows = "\n".join(
        f"| {name} | {before:{form}} | {after:{form}} | {verdict} |"
        for name, before, after, form, verdict in found.rows()
    )
    done = ", ".join(f"{count:,} x {what}" for what, count in trouble.done.items())
    statuses = ", ".join(f"{status} ({count:,})" for status, count in found.statuses.items())
    return (
        f"## A soak of {seconds / 60:.0f} minutes\n\n"
        + " ".join((__doc__ or "").split("3600\n", 1)[1].split())
        + f"\n\n{head}\n\n"
        f"Capacity {most:.0f} answers a second; sent: {rate:.0f} a second, {found.asked:,} in all,"
        f" with budgets of {1e3 * BUDGET:.0f} ms. Beside them: {done}.\n\n"
        f"Answers: {statuses}. Lost or wrong: **{'; '.join(found.lost) or 'nothing'}**. Failed of"
        f" what went on beside: {'; '.join(trouble.failed[:5]) or 'nothing'}.\n\n"
        "| | first settled sixth | last sixth | |\n| --- | ---: | ---: | --- |\n"
        f"{rows}\n\nAttainment by minute, %:"
        f" {' '.join(f'{100 * share:.0f}' for share in found.attainment_by_minute)}\n"
        "\n![Memory, descriptors, threads and attainment over time](../pictures/soak.png)\n"
    )


def picture(looks: Sequence[Looked], by_minute: Sequence[float], out: Path) -> None:
    """Memory, descriptors and threads, and attainment, over time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (memory, counts, shares) = pyplot.subplots(
        3, 1, sharex=True, figsize=(8, 6), layout="constrained"
    )
    at = [each.at / 60 for each in looks]
    memory.plot(at, [each.megabytes for each in looks], color="#1f77b4", linewidth=1)
    memory.set_ylabel("memory, MB")
    counts.plot(at, [each.descriptors for each in looks], label="descriptors", linewidth=1)
    counts.plot(at, [each.threads for each in looks], label="threads", linewidth=1)
    counts.set_ylabel("count")
    counts.legend(loc="lower right", ncols=2, frameon=False)
    middles = [minute + 0.5 for minute in range(len(by_minute))]
    shares.plot(middles, [100 * share for share in by_minute], marker=".", linewidth=1)
    shares.set_ylabel("in time, %")
    shares.set_xlabel("minutes")
    shares.set_ylim(top=102)
    for each in (memory, counts, shares):
        each.set_ylim(bottom=0)
        each.grid(alpha=0.3)
        each.spines[["top", "right"]].set_visible(False)
    figure.suptitle("A server at 80 % of its capacity, with faults, reloads and rude callers")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)


def main() -> int:
    end_tidily()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3_600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "reliability")
    parser.add_argument("--picture", type=Path, help="where to draw it, as docs/pictures/soak.png")
    asked = parser.parse_args()
    before = stolen()
    scene = ExecutorsScene()
    try:
        most = asyncio.run(capacity(scene))
        rate = SHARE * most
        looks, endings, trouble = asyncio.run(run(scene, asked.seconds, rate, asked.seed))
        lived = scene.tree.alive
    finally:
        scene.close()
    found = verdict(looks, endings, asked.seconds)
    head = (
        f"Made by `make soak` ({asked.seconds:g} s) on {described(environment())}; callers and"
        f" server share the cores, of which the host took {stolen_since(*before)}."
    )
    asked.out.mkdir(parents=True, exist_ok=True)
    told = {
        "seconds": asked.seconds,
        "capacity": most,
        "verdict": asdict(found),
        "done": trouble.done,
        "failed": trouble.failed,
        "looks": [asdict(each) for each in looks],
    }
    (asked.out / "soak.json").write_text(json.dumps(told) + "\n")
    text = page(asked.seconds, rate, most, found, trouble, head)
    (asked.out / "soak.md").write_text(text)
    if asked.picture:
        picture(looks, minutes(endings, asked.seconds), asked.picture)
    print(text)
    if not lived:
        print("the server ended before the run did")
    return 0 if lived and found.sound and not trouble.failed else 1


if __name__ == "__main__":
    sys.exit(main())
