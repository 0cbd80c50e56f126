"""SIGTERM at random moments of short runs under load: is every admitted request answered?

    python -m loadtests.reliability.drains --runs 1000

Each run starts a server of its own, on ONNX models that take some milliseconds, with stock
tritonclients that ask without pause over several connections, and ends it at a random moment: most
while it serves, some while it starts. A witness inside the server writes down the id of each
request as it is admitted (`loadtests.reliability.witness`). **Lost** is every admitted id whose
caller did not get the right answer, or, of a request with a budget, DEADLINE_EXCEEDED from the
server (callers set no deadline of their own; theirs would be told by their own library).
UNAVAILABLE for an admitted request is a loss, whatever its text. An answer to a request that was
not seen admitted would mean that the witness does not see everything, and fails the run as well.

It may be ended and goes on where it was, with the same code. A run that has not ended after two
minutes is stuck: it says where, and so does its server.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import json
import os
import random
import re
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc.aio as triton
from loadtests.peers.environment import environment, stolen, stolen_since
from loadtests.peers.peer import ROOT
from loadtests.reliability import sums_model, witness
from tritonclient.grpc import InferInput
from tritonclient.utils import InferenceServerException

MODULE = "loadtests.reliability.drains"

MODES = {
    "one process": (),
    "two processes": ("--processes", "2"),
    "workers in processes": ("--set", "worker_isolation=process"),
}
IN_TURN = [*["one process"] * 8, "two processes", "workers in processes"]

CONNECTIONS = 4
EACH = 4
"""Requests that are under way on each connection."""

WHILE_SERVING = 0.8
"""Seconds after the announcement within which most runs are ended."""

STARTS_SHARE = 0.2
"""Of the runs, those that are ended before, within the time that a start has taken."""

STARTS_WITHIN = 100.0
ENDS_WITHIN = 60.0
STUCK_AFTER = 120.0
ANSWERED_WITHIN = 60.0
"""Seconds after which a client gives up, far beyond every budget."""

AT_A_TIME = 100
"""Runs in one process: what clients leave behind goes with it."""

ASKED_AGAIN_AFTER = 0.01
"""Seconds."""


@dataclass
class Run:
    """One life of a server. Seconds; `moment` from the start or from the announcement on."""

    mode: str
    starting: bool
    moment: float
    code: int = 0
    ready: bool = False
    drain: float = 0.0
    statuses: dict[str, int] = field(default_factory=dict)
    admitted: int = 0
    lost: list[str] = field(default_factory=list)
    twice: int = 0
    unseen: int = 0
    """Answers of requests that the witness has not seen admitted."""
    started: float = 0.0
    stuck: str = ""

    @property
    def as_it_should(self) -> bool:
        """Nothing lost, and the exit code that is documented: 0, or by the signal before it
        serves."""
        codes = (0,) if self.ready else (-signal.SIGTERM, 0)
        bad = self.lost or self.twice or self.unseen or self.stuck
        return not bad and self.code in codes


async def bounded(folder: Path, number: int, chance: random.Random, start: dict[str, float]) -> Run:
    """One run, which is told as stuck if it does not come to an end."""
    task = asyncio.ensure_future(run(folder, number, chance, start))
    done, _ = await asyncio.wait([task], timeout=STUCK_AFTER)
    if done:
        return task.result()
    frames = task.get_stack()
    where = f"at {frames[-1].f_code.co_name}:{frames[-1].f_lineno}" if frames else "nowhere"
    for pid in servers_of(folder / f"run-{number}"):
        os.kill(pid, signal.SIGUSR2)  # It writes down where it is (`witness`).
    await asyncio.sleep(1.0)
    log = (folder / f"run-{number}" / "log").read_text(errors="replace")[-3_000:]
    task.cancel()
    with suppress(BaseException):
        await task
    for pid in servers_of(folder / f"run-{number}"):
        os.kill(pid, signal.SIGKILL)
    mode = IN_TURN[number % len(IN_TURN)]
    return Run(mode, starting=False, moment=0.0, stuck=f"{where}; its log ends: {log}")


def servers_of(place: Path) -> list[int]:
    """Processes that write down what they admit there."""
    found = []
    for each in Path("/proc").iterdir():
        with suppress(OSError):
            if each.name.isdigit() and str(place).encode() in (each / "cmdline").read_bytes():
                found.append(int(each.name))
    return found


async def run(folder: Path, number: int, chance: random.Random, start: dict[str, float]) -> Run:
    mode = IN_TURN[number % len(IN_TURN)]
    starting = chance.random() < STARTS_SHARE and mode in start
    moment = chance.uniform(0.0, start[mode] if starting else WHILE_SERVING)
    told = Run(mode, starting, moment)
    place = folder / f"run-{number}"
    place.mkdir(parents=True)
    record = place / "admitted"
    begun = time.monotonic()
    with (place / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", witness.MODULE, str(record), "serve"),
            *("--grpc-port", "0", "--http-port", "0", "--workers", "2", "--log-level", "error"),
            *("--repository", str(folder / "repository"), "--state-dir", str(folder / "state")),
            *("--feedback-url", f"sqlite:///{place}/feedback.sqlite3", *MODES[mode]),
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    assert process.stdout is not None
    answers: dict[str, str] = {}
    ending = asyncio.Event()
    callers: list[asyncio.Task[None]] = []
    try:
        said = asyncio.ensure_future(process.stdout.readline())
        if starting:
            await asyncio.wait([said], timeout=moment)
            process.send_signal(signal.SIGTERM)
        line = (await asyncio.wait_for(said, STARTS_WITHIN)).decode()
        found = re.search(r"gRPC on (\S+),", line)
        if found is not None:
            told.ready, told.started = True, time.monotonic() - begun
            callers = [
                asyncio.create_task(call(found[1], f"{number}-{n}", n, answers, ending))
                for n in range(CONNECTIONS)
            ]
            if not starting:
                await asyncio.sleep(moment)
                process.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        told.code = await asyncio.wait_for(process.wait(), ENDS_WITHIN)
        told.drain = time.monotonic() - asked
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        ending.set()
        await asyncio.gather(*callers)
    judge(told, answers, record.read_text().split() if record.exists() else [])
    if told.as_it_should:
        shutil.rmtree(place)
    return told


async def call(
    address: str, name: str, seed: int, answers: dict[str, str], ending: asyncio.Event
) -> None:
    """One connection of a stock client, with several requests at a time, until the server is
    gone. How each ended goes into `answers`."""
    own = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 100)]
    client = triton.InferenceServerClient(address, channel_args=own)

    async def ask(lane: int) -> None:
        chance = random.Random(seed * EACH + lane)
        count = 0
        while not ending.is_set():
            count += 1
            request_id = f"{name}-{lane}-{count}"
            value = float(chance.randrange(1, 1000))
            rows = InferInput("x", [1, 3], "FP32")
            rows.set_data_from_numpy(np.full((1, 3), value, np.float32))
            hurried = chance.random() < 0.3
            options: dict[str, Any] = {"service_class": "hurried"} if hurried else {}
            try:
                answer = await client.infer(
                    "sums",
                    [rows],
                    request_id=request_id,
                    parameters=options,
                    client_timeout=ANSWERED_WITHIN,
                )
                right = bool(np.allclose(answer.as_numpy("y"), 3 * value))
                answers[request_id] = "OK" if right else "WRONG"
            except InferenceServerException as error:
                status = str(error.status()).removeprefix("StatusCode.")
                answers[request_id] = status
                await asyncio.sleep(ASKED_AGAIN_AFTER)

    try:
        await asyncio.gather(*(ask(lane) for lane in range(EACH)))
    finally:
        await client.close()


def judge(told: Run, answers: dict[str, str], admitted: Sequence[str]) -> None:
    """Hold what callers got against what was admitted."""
    counted = Counter(admitted)
    settled = ("OK", "DEADLINE_EXCEEDED")
    told.statuses = dict(Counter(answers.values()))
    told.admitted = len(counted)
    told.twice = sum(count - 1 for count in counted.values())
    told.lost = sorted(
        f"{each}: {answers.get(each, 'nothing')}"
        for each in counted
        if answers.get(each) not in settled
    )
    told.unseen = sum(1 for each, how in answers.items() if how == "OK" and each not in counted)


def page(runs: Sequence[Run], taken: str) -> list[str]:
    lines = [
        "# A thousand SIGTERMs" if len(runs) == 1000 else f"# {len(runs)} SIGTERMs",
        "",
        "`make bench-drains`: " + " ".join((__doc__ or "").split("--runs 1000\n", 1)[1].split()),
        "",
        "| server | runs | ended while starting | requests admitted | answered | out of budget |"
        " refused | lost | run twice | longest drain | as documented |",
        "| --- " + "| ---: " * 10 + "|",
    ]
    for mode in MODES:
        mine = [each for each in runs if each.mode == mode]
        if not mine:
            continue
        statuses = sum((Counter(each.statuses) for each in mine), Counter())
        others = sum(n for how, n in statuses.items() if how not in ("OK", "DEADLINE_EXCEEDED"))
        lines.append(
            f"| {mode} | {len(mine)} | {sum(not each.ready for each in mine)}"
            f" | {sum(each.admitted for each in mine)} | {statuses['OK']}"
            f" | {statuses['DEADLINE_EXCEEDED']} | {others}"
            f" | {sum(len(each.lost) for each in mine)} | {sum(each.twice for each in mine)}"
            f" | {max(each.drain for each in mine):.2f} s"
            f" | {sum(each.as_it_should for each in mine)} of {len(mine)} |"
        )
    known = environment()
    machine = ", ".join(f"{name} {known[name]}" for name in ("cpu", "cores", "python", "gearshift"))
    return [*lines, "", f"Machine: {machine}; the host took {taken} of the processor time.", ""]


def known(parts: Path, revision: str) -> dict[int, Run]:
    """By number the runs that this revision of the code has had already."""
    found: dict[int, Run] = {}
    if parts.exists():
        for line in parts.read_text().splitlines():
            told = json.loads(line)
            if told["revision"] == revision:
                found[told["number"]] = Run(**told["run"])
    return found


def keep(parts: Path, revision: str, number: int, told: Run) -> None:
    """Add a run to those that are known."""
    with parts.open("a") as file:
        told_of = {"revision": revision, "number": number, "run": asdict(told)}
        file.write(json.dumps(told_of) + "\n")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "reliability")
    arguments = parser.parse_args()
    folder = arguments.out / "drains"
    parts = arguments.out / "drains.parts.jsonl"
    before = stolen()
    revision = environment()["gearshift"]
    done = known(parts, revision)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    sums_model.write(folder / "repository")
    start: dict[str, float] = {}
    # The first of each kind measures the variants, alone; its run does not count.
    for number in (IN_TURN.index(mode) for mode in MODES):
        first = await run(folder, number, random.Random(arguments.seed), {})
        assert first.as_it_should, first
        start[first.mode] = first.started
    left = [number for number in range(arguments.runs) if number not in done]
    numbers = iter(left[:AT_A_TIME])

    async def in_turn() -> None:
        for number in numbers:
            # Should a client's library keep even this loop from going on: say where, and end.
            faulthandler.dump_traceback_later(2 * STUCK_AFTER, exit=True)
            chance = random.Random(f"{arguments.seed} {number}")
            told = await bounded(folder, number, chance, start)
            done[number] = told
            keep(parts, revision, number, told)
            bad = "" if told.as_it_should else f"  NOT AS IT SHOULD: {told}"
            if bad or len(done) % 20 == 0:
                lost = sum(len(each.lost) for each in done.values())
                print(f"{len(done)} runs, {lost} lost{bad}", flush=True)

    await asyncio.gather(*(in_turn() for _ in range(arguments.at_once)))
    if len(left) > AT_A_TIME:
        os.execv(sys.executable, [sys.executable, "-m", MODULE, *sys.argv[1:]])
    runs = list(done.values())
    (arguments.out / "drains.json").write_text(json.dumps(list(map(asdict, runs)), indent=1))
    lines = page(runs, str(stolen_since(*before)))
    (arguments.out / "drains.md").write_text("\n".join(lines))
    print("\n".join(lines))
    if not all(each.as_it_should for each in runs):
        raise SystemExit(1)


if __name__ == "__main__":
    asyncio.run(main())
