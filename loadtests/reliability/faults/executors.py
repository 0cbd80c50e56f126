"""Executors that go wrong, and workers that are processes of their own."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence

from loadtests.peers.processes import cpu_ticks, read_stat
from loadtests.reliability.callers import EVERYBODY, FREE, Kind
from loadtests.reliability.faults.fault import Act, Fault, Group
from loadtests.reliability.faults.scene import Scene
from loadtests.reliability.hostile import resident

SECOND_CHANCE = "gearshift_second_chances_total"
OPENED = "gearshift_breaker_opened_total"
LOST = "gearshift_workers_lost_total"
NO_OTHER = ("INTERNAL", "UNAVAILABLE")
"""What callers hear who leave the server no other variant: of the run, or of the breaker."""

MIB = 2**20
POISON = 500.0
"""An input that a variant cannot stand; one caller in a thousand sends it."""

PINNED = (Kind(900, pinned="quick"), Kind(100, model="other"))
QUICK_TO_HANG = {"GEARSHIFT_HUNG_AFTER_SECONDS": "1"}
REPLACED_WITHIN = 8.0


def of(
    name: str,
    kind: str,
    variant: str = "",
    *,
    counted: str = SECOND_CHANCE,
    seen: Sequence[str] = NO_OTHER,
    kinds: Sequence[Kind] = EVERYBODY,
    normal_within: float = 10.0,
    **more: object,
) -> Fault:
    """Runs of `sums`, of all its variants or one, go wrong for a while."""
    plan = {"kind": kind, "model": "sums", "variant": variant, **more}
    return Fault(
        name=name,
        strike=lambda scene: scene.plan(plan),
        mend=lambda scene: scene.plan(),
        counted=counted,
        seen=seen,
        kinds=kinds,
        normal_within=normal_within,
    )


def restarted(scene: Scene) -> str:
    return scene.ended()


def started_again(name: str, strike: Act, seconds: float = 0.0, mend: Act = restarted) -> Fault:
    """One that ends the server, which is started again."""
    return Fault(
        name=name,
        strike=strike,
        mend=mend,
        seconds=seconds,
        seen=("UNAVAILABLE",),
        same=False,
        normal_within=30.0,
    )


def ending(name: str, **plan: object) -> Fault:
    """A run that ends the process."""
    planned = {"model": "sums", "count": 1, **plan}

    def mend(scene: Scene) -> str:
        scene.plan()
        return scene.ended()

    return started_again(name, lambda scene: scene.plan(planned), 0.5, mend)


def at_load(name: str, kind: str) -> Fault:
    def strike(scene: Scene) -> str:
        scene.plan({"kind": kind, "model": "sums", "moment": "load"})
        said = scene.load_changed(1)
        scene.plan()
        if not said.startswith("FAILED_PRECONDITION"):
            raise RuntimeError(f"the load was answered {said!r} instead of FAILED_PRECONDITION")
        return said

    def mend(scene: Scene) -> str:
        return f"then: {scene.load_changed(2)}"

    return Fault(
        name=name,
        strike=strike,
        mend=mend,
        seconds=0.5,
        counted="gearshift_reloads_total",
    )


def leak(scene: Scene) -> str:
    return f"{scene.plan()}resident memory {resident(scene.pid) / 1e6:.0f} MB afterwards"


FAULTS = (
    of("every run throws", "throw"),
    of("every run of the most accurate variant throws", "throw", "slow"),
    of(
        "the same, callers leave the choice to the server",
        "throw",
        "slow",
        seen=("INTERNAL",),
        kinds=FREE,
    ),
    of(
        "every run of the variant that callers pin throws",
        "throw",
        "quick",
        kinds=PINNED,
        counted=OPENED,
    ),
    of("a quarter of all runs throws", "throw", probability=0.25),
    of(
        "one value in the inputs makes every variant throw",
        "throw",
        poison=POISON,
        counted="",
    ),
    of("answers with a row too many", "shape"),
    of("answers with a row too many, one variant", "shape", "slow", seen=("INTERNAL",), kinds=FREE),
    of("answers of another datatype", "dtype"),
    of("answers of another datatype, one variant", "dtype", "slow", seen=("INTERNAL",), kinds=FREE),
    of("an output is missing", "missing"),
    of("an output is missing, one variant", "missing", "quick"),
    of("NaN in one row of each batch", "nan", "slow", seen=("INTERNAL",), kinds=FREE),
    of("NaN in every row, pinned", "nan", "quick", amount=1.0, kinds=PINNED, counted=OPENED),
    of("infinity in every row", "infinity", amount=1.0),
    of(
        "infinity in every row, one variant",
        "infinity",
        "slow",
        amount=1.0,
        seen=("INTERNAL",),
        kinds=FREE,
    ),
    of("one run hangs for ever", "hang", "slow", count=1, counted=LOST),
    of("every run of one variant hangs", "hang", "slow", counted=LOST),
    of("every run of the model hangs", "hang", counted=LOST),
    of("the hung variant is pinned", "hang", "quick", count=2, kinds=PINNED, counted=LOST),
    Fault(
        name="a run on the loop hangs for 2 s (the express worker of another model)",
        strike=lambda scene: scene.plan({"kind": "hang", "model": "other", "variant": "quick"}),
        mend=lambda scene: scene.plan(),
        kinds=(Kind(900), Kind(100, pinned="quick", model="other")),
    ),
    of("every run takes ten times as long", "slow", amount=10.0, counted="", seen=()),
    of("one variant takes ten times as long", "slow", "slow", amount=10.0, counted="", seen=()),
    of("out of memory at every run", "memory"),
    of("out of memory at runs of one variant", "memory", "slow", seen=("INTERNAL",), kinds=FREE),
    of("the worker is lost, five times", "lost", "slow", count=5, counted=LOST),
    Fault(
        name="every run leaks a megabyte",
        strike=lambda scene: scene.plan({"kind": "leak", "model": "sums", "amount": MIB}),
        mend=leak,
    ),
    at_load("out of memory at a load", "memory"),
    at_load("a load throws", "throw"),
    ending("a run crashes the process (SIGSEGV), workers are threads", kind="crash"),
    ending("a run ends the process with status 3, workers are threads", kind="exit", amount=3),
)


def to_worker(name: str, number: signal.Signals, every: bool = False) -> Fault:
    """A signal to a worker process, or to all; another must take the place of each that is lost."""
    before: list[int] = []

    def strike(scene: Scene) -> str:
        # The one that has done the most first: another may be there for measuring only.
        before[:] = sorted(scene.children(), key=lambda pid: -cpu_ticks(read_stat(pid)))
        if len(before) < WORKERS:
            raise RuntimeError(f"there are {len(before)} worker processes, expected {WORKERS}")
        for pid in before if every else before[:1]:
            scene.signal(number, pid)
        return ""

    def replaced(scene: Scene) -> str:
        deadline = time.monotonic() + REPLACED_WITHIN
        while before[0] in (now := scene.children()) or len(now) != len(before):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(now)} worker processes, expected {len(before)}")
            time.sleep(0.05)
        return "replaced"

    return Fault(name=name, strike=strike, mend=replaced, counted=LOST, seen=NO_OTHER, seconds=0.0)


WORKERS = 2
"""At least: new variants are measured by one of their own."""


ISOLATED = (
    to_worker("a worker process crashes (SIGSEGV)", signal.SIGSEGV),
    to_worker("a worker process is killed (SIGKILL)", signal.SIGKILL),
    to_worker("a worker process hangs (SIGSTOP)", signal.SIGSTOP),
    to_worker("all worker processes are killed at once", signal.SIGKILL, every=True),
)


def signalled(number: signal.Signals) -> Act:
    def act(scene: Scene) -> str:
        return scene.signal(number, scene.children()[0])

    return act


def both_there(scene: Scene) -> str:
    deadline = time.monotonic() + 20.0
    while len(scene.children()) != WORKERS:
        if time.monotonic() > deadline:
            raise RuntimeError("the serving process that ended has no successor")
        time.sleep(0.05)
    return "another serving process in its place"


def one_of_two(name: str, number: signal.Signals) -> Fault:
    """A serving process ends by this signal, and another takes its place."""
    return Fault(
        name=name,
        strike=signalled(number),
        mend=both_there,
        seconds=0.2,
        seen=("UNAVAILABLE",),
        normal_within=20.0,
    )


PROCESSES = (
    one_of_two("one of two serving processes crashes (SIGSEGV)", signal.SIGSEGV),
    one_of_two("one of two serving processes is killed (SIGKILL)", signal.SIGKILL),
    Fault(
        name="one of two serving processes is frozen for 2 s",
        strike=signalled(signal.SIGSTOP),
        mend=signalled(signal.SIGCONT),
    ),
    one_of_two("one of two serving processes is told to end (SIGTERM)", signal.SIGTERM),
    started_again(
        "two serving processes: the parent is killed (SIGKILL), then started again",
        lambda scene: scene.signal(signal.SIGKILL),
        0.2,
    ),
)


class ExecutorsScene(Scene):
    """Its executors do what a plan says."""

    def __init__(self) -> None:
        self._generation = 100
        super().__init__(faulty=True, environment=QUICK_TO_HANG)

    def afresh(self) -> None:
        """Breakers remember: one that has opened before waits longer. They do not of another
        generation."""
        self._generation += 1
        self.load_changed(self._generation)


GROUPS = (
    Group("executors", ExecutorsScene, FAULTS),
    Group(
        "worker processes",
        lambda: Scene("--set", "worker_isolation=process", "--set", "hung_after_seconds=1"),
        ISOLATED,
    ),
    Group("two processes", lambda: Scene("--processes", "2"), PROCESSES),
)
