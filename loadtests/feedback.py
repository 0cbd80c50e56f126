"""Ten million answers and their labels through the feedback store, killed again and again.

    python -m loadtests.feedback --out docs/results

A process records answers and reports labels for some of them, as a server does; this one kills it
(SIGKILL) at random moments, starts it again where it was, and in the end looks for every label that
was acknowledged. On the way it weighs the process and its database.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from loadtests.peers.environment import command_line, described, environment

from gearshift.core.catalog import Catalog, Model, ServiceClass, Signature, TensorSpec, Variant
from gearshift.core.reports import Report, Ruling
from gearshift.feedback import Book, Learner, Readings, Recorder, Reporting, Store
from gearshift.feedback.store import key_of
from gearshift.ports import Batch, Row

CLASSES = 10
TOGETHER = 20_000
"""Answers between two messages of reports."""
BATCH = 32
SEED = 7
PATIENCE = 600.0
"""Seconds after which a writer is taken for hung."""


def catalog() -> Catalog:
    """One model with ten classes and three variants."""
    variants = tuple(
        Variant(
            name=f"v{number}",
            version=number,
            executor="none",
            accuracy=0.95 - number / 100,
            source="declared",
            artifact="",
            artifact_sha256=f"{number:064}",
        )
        for number in range(3)
    )
    model = Model(
        name="load",
        metric="top1",
        max_batch_size=BATCH,
        signature=Signature(
            (TensorSpec("x", "FP32", (1,)),), (TensorSpec("y", "FP32", (CLASSES,)),)
        ),
        classes={"c": ServiceClass("c")},
        default_class="c",
        variants=variants,
    )
    return Catalog(1, {model.name: model})


def request_id(life: int, number: int) -> bytes:
    """No two requests have the same, also those of a writer that was killed."""
    return b"request-%03d-%012d" % (life, number)


class Writer:
    """Stands for a server: records answers from `first` on, reports a label for every `nth`."""

    def __init__(self, url: str, rows: int, nth: int, life: int) -> None:
        served = catalog()
        self._life = life
        self._model = served.models["load"]
        self._nth = nth
        readings, book = Readings(served), Book()
        self.store = Store(url, rows, 30)
        self.recorder = Recorder(self.store, readings, book)
        self._reporting = Reporting(
            served, self.store, self.recorder, readings, book, elsewhere=False
        )
        self.learner = Learner(served, self.store, readings, book, lambda model, used: None)
        self._rng = np.random.default_rng(SEED)

    async def write(self, first: int, end: int) -> None:
        self.recorder.start()
        self.learner.start()
        for start in range(first, end, TOGETHER):
            self._answer(start, start + TOGETHER)
            while not await asyncio.to_thread(self.recorder.flush, 5.0):
                pass
            numbers = range(start, start + TOGETHER, self._nth)
            told = [Report("load", request_id(self._life, n), (n % CLASSES,)) for n in numbers]
            results = await self._reporting.report(told)
            fine = {Ruling.COUNTED, Ruling.DUPLICATE}
            if not {result.ruling for result in results} <= fine:
                raise SystemExit(f"{start}: {next(r for r in results if r.ruling not in fine)}")
            print("acknowledged", start, flush=True)
        self.learner.close(10)
        self.recorder.close(10)

    def _answer(self, start: int, end: int) -> None:
        for first in range(start, end, BATCH):
            outputs = self._rng.random((BATCH, CLASSES), np.float32) * 0.5
            right = self._rng.random(BATCH) < 0.93
            numbers = np.arange(first, first + BATCH)
            outputs[np.arange(BATCH), np.where(right, numbers, numbers + 1) % CLASSES] = 0.9
            requests = [Row(request_id(self._life, first + at), "c", at, 1) for at in range(BATCH)]
            variant = self._model.variants[first // BATCH % 3]
            self.recorder.answered(Batch(self._model, variant, "", {}, {"y": outputs}, requests))


@dataclass
class Seen:
    """What this process saw of the writers. `acknowledged`: whose life, and the first number of a
    part that it said was acknowledged."""

    acknowledged: list[tuple[int, int]] = field(default_factory=list)
    kills: int = 0
    rss: int = 0
    database: int = 0
    log: int = 0
    lines: list[str] = field(default_factory=list)

    def weigh(self, pid: int, file: Path) -> None:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return
        for line in status.splitlines():
            if line.startswith("VmRSS"):
                self.rss = max(self.rss, int(line.split()[1]) * 1024)
        for name in ("", "-journal"):
            path = file.with_name(file.name + name)
            size = path.stat().st_size if path.exists() else 0
            if name:
                self.log = max(self.log, size)
            else:
                self.database = max(self.database, size)


def drive(arguments: argparse.Namespace, folder: Path) -> Seen:
    """Start the writer, kill it at random moments, and start it again."""
    seen = Seen()
    file = folder / "feedback.sqlite3"
    rng = random.Random(SEED)
    part = arguments.answers // 10
    reached, begun = 0, time.monotonic()
    shown = part
    while reached < arguments.answers:
        last = reached + part + rng.randrange(part // 2)
        with writer_process(arguments, file, reached, seen.kills) as (process, acknowledged):
            for start in acknowledged:
                reached = start + TOGETHER
                seen.acknowledged.append((seen.kills, start))
                seen.weigh(process.pid, file)
                if reached >= shown:
                    seen.lines.append(table_row(seen, shown, part, time.monotonic() - begun))
                    print(seen.lines[-1], flush=True)
                    seen.rss = seen.database = seen.log = 0
                    begun, shown = time.monotonic(), shown + part
                if last <= reached < arguments.answers:
                    # In the middle of something: recording, deleting, counting.
                    time.sleep(rng.random() * 0.3)
                    process.send_signal(signal.SIGKILL)
                    seen.kills += 1
                    break
    return seen


@contextmanager
def writer_process(
    arguments: argparse.Namespace, file: Path, first: int, life: int
) -> Iterator[tuple[subprocess.Popen[str], Iterator[int]]]:
    """The writer, and the first number of each part that it says is acknowledged."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "loadtests.feedback", "--writes", str(file)),
            *("--first", str(first), "--answers", str(arguments.answers)),
            *("--rows", str(arguments.rows), "--nth", str(arguments.nth), "--life", str(life)),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None

    def acknowledged(lines: Iterable[str]) -> Iterator[int]:
        # Else it is a line of the log.
        for line in lines:
            if line.startswith("acknowledged "):
                yield int(line.split()[1])

    hung = threading.Timer(PATIENCE, process.kill)
    hung.start()
    try:
        yield process, acknowledged(process.stdout)
        if process.wait(PATIENCE) not in (0, -signal.SIGKILL):
            raise SystemExit("the writer failed")
    finally:
        hung.cancel()
        process.kill()
        process.stdout.close()
        process.wait()


def table_row(seen: Seen, answers: int, part: int, seconds: float) -> str:
    return (
        f"| {answers / 1e6:g} million | {part / seconds:,.0f} | {seen.rss / 1e6:.0f}"
        f" | {seen.database / 1e6:.0f} | {seen.log / 1e6:.0f} |"
    )


def missing(store: Store, seen: Seen, nth: int) -> Iterator[int]:
    """Numbers of acknowledged reports whose label is not in the database, or is another."""
    for life, start in seen.acknowledged:
        numbers = {
            key_of("load", request_id(life, n)): n for n in range(start, start + TOGETHER, nth)
        }
        found = store.counted(numbers)
        for key, number in numbers.items():
            if found.get(key) != (number % CLASSES,):
                yield number


def look(file: Path, rows: int) -> str:
    """How long a start needs to find what the variants are worth."""
    writer = Writer(f"sqlite:///{file}", rows, 1, 0)
    begun = time.perf_counter()
    writer.learner.look(0.0)
    took = time.perf_counter() - begun
    writer.store.close()
    return f"{1e3 * took:.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--answers", type=int, default=10_000_000)
    parser.add_argument("--rows", type=int, default=1_000_000, help="that are kept")
    parser.add_argument("--nth", type=int, default=10, help="every so many gets a label")
    parser.add_argument("--writes", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--life", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.writes:
        writer = Writer(
            f"sqlite:///{arguments.writes}", arguments.rows, arguments.nth, arguments.life
        )
        asyncio.run(writer.write(arguments.first, arguments.answers))
        return
    folder = Path(tempfile.mkdtemp(prefix="gearshift-feedback-"))
    try:
        seen = drive(arguments, folder)
        file = folder / "feedback.sqlite3"
        store = Store(f"sqlite:///{file}", arguments.rows, 30)
        lost = sum(1 for _ in missing(store, seen, arguments.nth))
        store.close()
        restart = look(file, arguments.rows)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    labels = len(seen.acknowledged) * TOGETHER // arguments.nth
    page = told(arguments, seen, labels, lost, restart)
    print(page)
    if arguments.out:
        (arguments.out / "feedback.md").write_text(page)
    if lost:
        raise SystemExit(f"{lost} acknowledged labels are missing")


def told(arguments: argparse.Namespace, seen: Seen, labels: int, lost: int, restart: str) -> str:
    return "\n".join(
        [
            "# Feedback: memory, disk, and what a kill costs",
            "",
            f"Made by `{command_line('loadtests.feedback')}` on {described(environment())}. A"
            f" process records {arguments.answers:,} answers in SQLite and reports labels for"
            f" every {arguments.nth}th of them, {TOGETHER // arguments.nth:,} in a message;"
            f" {arguments.rows:,} answers and as many labels are kept. It was killed (SIGKILL)"
            f" {seen.kills} times at random moments and started again. The rate depends on what"
            " else the machine did meanwhile; the sizes do not.",
            "",
            f"**Of {labels:,} acknowledged labels {lost or 'none'} "
            f"{'was' if lost in (0, 1) else 'were'} missing afterwards.** A start that finds this"
            f" database knows what three variants are worth after {restart}.",
            "",
            "| answers so far | answers a second | MB (RSS), most | MB of database"
            " | MB of journal, most |",
            "| ---: | ---: | ---: | ---: | ---: |",
            *seen.lines,
            "",
        ]
    )


if __name__ == "__main__":
    main()
