"""Two servers behind one variant: hedged and not while one is slow at random, and balanced by what
was observed beside in turns while one is four times as fast.

    python -m loadtests.remote.tails

Callers ask as soon as they are answered, through the executor itself. Both ways of a comparison
take turns of some seconds, so that whatever else the machine does meets both.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from unittest.mock import patch

import grpc
import numpy as np
from loadtests.peers.environment import described, environment, stolen, stolen_since
from loadtests.peers.peer import ROOT
from loadtests.peers.processes import end_tidily
from loadtests.remote.far import KINDS, MODEL, Far
from loadtests.remote.pace import Pace
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from gearshift.core.catalog import Model, ServiceClass, Signature, TensorSpec, Variant
from gearshift.executors.remote import RemoteExecutor, pool
from gearshift.executors.remote.hosted import Hosted
from gearshift.ports import REMOTE, Worker

ROUNDS, SECONDS = 10, 3.0
"""Turns of each way, and how long one is."""

STEADY, AT_RANDOM = Pace(0.01), Pace(0.01, share=0.03, slow=0.25)
FAST, SLOW = Pace(0.01), Pace(0.04)
EXCHANGED_FOR = 6.0
WATCHED_EVERY = 0.25

ROWS = {"x": np.ones((1, 3), np.float32)}
SIGNATURE = Signature((TensorSpec("x", "FP32", (3,)),), (TensorSpec("y", "FP32", (1,)),))


@dataclass
class Way:
    """Seconds of each run, by turn; runs of each server, in all turns."""

    turns: list[list[float]] = field(default_factory=list)
    runs: list[int] = field(default_factory=lambda: [0, 0])
    hedged: int = 0


class Behind:
    """Two servers, and an executor for each way, which learns by its own runs only."""

    def __init__(self, folder: Path, paces: Sequence[Pace], slots: int) -> None:
        self.fars = [
            Far(folder / f"far-{number}", pace, KINDS["gearshift"])
            for number, pace in enumerate(paces)
        ]
        path = folder / MODEL / "far" / "remote.toml"
        path.parent.mkdir(parents=True)
        servers = json.dumps([far.address for far in self.fars])
        path.write_text(f"servers = {servers}\nslots = {slots}\n")
        self.variant = Variant(
            name="far",
            version=1,
            executor="triton",
            accuracy=0.9,
            source="declared",
            artifact=str(path),
        )
        self.model = Model(
            name=MODEL,
            metric="top1",
            max_batch_size=8,
            signature=SIGNATURE,
            classes={"any": ServiceClass("any")},
            default_class="any",
            variants=(self.variant,),
        )
        self._folder = folder

    def __enter__(self) -> Behind:
        for far in self.fars:
            far.start()
        return self

    def __exit__(self, *_: object) -> None:
        for far in self.fars:
            far.close()

    @contextmanager
    def executor(self) -> Iterator[RemoteExecutor]:
        made = RemoteExecutor(self._folder / "state")
        try:
            made.load(self.model, self.variant)
            yield made
        finally:
            made.close()

    def pool(self, executor: RemoteExecutor) -> pool.Pool:
        (loaded,) = executor._loaded.values()
        return loaded.pool

    async def counts(self) -> list[int]:
        """Runs of each server so far."""
        found = []
        for far in self.fars:
            async with grpc.aio.insecure_channel(far.address) as channel:
                stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
                told = await stub.ModelStatistics(pb.ModelStatisticsRequest(name=MODEL))
                found.append(sum(each.execution_count for each in told.model_stats))
        return found

    async def turn(
        self, executor: RemoteExecutor, callers: int, seconds: float = SECONDS
    ) -> list[float]:
        """Seconds of each run."""
        took: list[float] = []
        end = time.monotonic() + seconds

        async def call(worker: Worker) -> None:
            while (begun := time.monotonic()) < end:
                answer = await executor.run(worker, self.model, self.variant, ROWS, 10.0)
                took.append(time.monotonic() - begun)
                assert answer["y"].tolist() == [[3.0]]

        await asyncio.gather(*(call(Worker(number, REMOTE)) for number in range(callers)))
        return took


async def compared(
    behind: Behind,
    callers: int,
    rounds: int,
    ways: dict[str, Callable[[], AbstractContextManager[object]]],
) -> dict[str, Way]:
    """Each way in turns; `ways` says what is other in it."""
    found = {name: Way() for name in ways}
    with ExitStack() as stack:
        executors = {name: stack.enter_context(behind.executor()) for name in ways}
        for number in range(rounds + 1):
            for name, changed in ways.items():
                before = await behind.counts()
                with changed():
                    took = await behind.turn(executors[name], callers)
                if number:  # In the first they learn what is usual.
                    found[name].turns.append(took)
                    after = await behind.counts()
                    found[name].runs = [
                        known + now - then
                        for known, then, now in zip(found[name].runs, before, after, strict=True)
                    ]
            print(f"{number} of {rounds}", flush=True)
        for name, way in found.items():
            way.hedged = behind.pool(executors[name]).hedged
    return found


def in_turns() -> AbstractContextManager[object]:
    """What one would do without having observed anything."""
    numbers = itertools.count()

    def best(self: pool.Pool, tried: Collection[Hosted], kind: Hashable) -> Hosted | None:
        able = [each for each in self.hosted if each.room and each not in tried]
        return able[next(numbers) % len(able)] if able else None

    return patch.object(pool.Pool, "_best", best)


async def exchanged(behind: Behind, callers: int) -> list[tuple[float, float]]:
    """Seconds since the paces of both were exchanged, and the share of the runs since the last look
    that the one got which is fast now."""
    found: list[tuple[float, float]] = []
    with behind.executor() as executor:
        await behind.turn(executor, callers)
        for far, pace in zip(behind.fars, (SLOW, FAST), strict=True):
            far.pace(pace)
        begun = time.monotonic()
        running = asyncio.create_task(behind.turn(executor, callers, EXCHANGED_FOR))
        last = await behind.counts()
        while not running.done():
            await asyncio.sleep(WATCHED_EVERY)
            now = await behind.counts()
            slow, fast = (new - old for old, new in zip(last, now, strict=True))
            if slow + fast and not running.done():
                found.append((time.monotonic() - begun, fast / (slow + fast)))
            last = now
        await running
    return found


async def run(folder: Path, rounds: int) -> dict[str, object]:
    with Behind(folder / "hedged", (STEADY, AT_RANDOM), slots=4) as behind:
        tails = await compared(
            behind,
            2,
            rounds,
            {
                "hedged": nullcontext,
                "not hedged": lambda: patch.object(pool, "SAVED_UP", 0.0),
            },
        )
    with Behind(folder / "balanced", (FAST, SLOW), slots=2) as behind:
        shares = await compared(
            behind, 3, rounds, {"by what was observed": nullcontext, "in turns": in_turns}
        )
        turned = await exchanged(behind, 3)
    return {
        "hedging": {name: asdict(way) for name, way in tails.items()},
        "balancing": {name: asdict(way) for name, way in shares.items()},
        "exchanged": turned,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "remote")
    asked = parser.parse_args()
    end_tidily()
    before = stolen()
    with tempfile.TemporaryDirectory() as folder:
        told = asyncio.run(run(Path(folder), asked.rounds))
    asked.out.mkdir(parents=True, exist_ok=True)
    told |= {
        "seconds": SECONDS,
        "machine": described(environment()),
        "taken": stolen_since(*before),
    }
    (asked.out / "tails.json").write_text(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
