"""Executors that go wrong, and workers that are processes of their own."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence

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


def ending(name: str, **plan: object) -> Fault:
    """A run that ends the process."""

    def mend(scene: Scene) -> str:
        scene.plan()
        return scene.ended()

    return Fault(
        name=name,
        strike=lambda scene: scene.plan({"model": "sums", "count": 1, **plan}),
        mend=mend,
        seconds=0.5,
        seen=("UNAVAILABLE",),
        same=False,
        normal_within=30.0,
    )


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
        counted='gearshift_reloads_total{model="sums",result="failed"}',
    )


def leak(scene: Scene) -> str:
    return f"{scene.plan()}resident memory {resident(scene.pid) / 1e6:.0f} MB afterwards"


FAULTS = (
    of("every run throws", "throw"),
    of("every run of the most accurate variant throws", "throw", "slow"),
    of("the same, callers leave the choice to the server", "throw", "slow", seen=(), kinds=FREE),
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
    of("answers with a row too many, one variant", "shape", "slow", seen=(), kinds=FREE),
    of("answers of another datatype", "dtype"),
    of("answers of another datatype, one variant", "dtype", "slow", seen=(), kinds=FREE),
    of("an output is missing", "missing"),
    of("an output is missing, one variant", "missing", "quick"),
    of("NaN in one row of each batch", "nan", "slow", seen=(), kinds=FREE),
    of("NaN in every row, pinned", "nan", "quick", amount=1.0, kinds=PINNED, counted=OPENED),
    of("infinity in every row", "infinity", amount=1.0),
    of("infinity in every row, one variant", "infinity", "slow", amount=1.0, seen=(), kinds=FREE),
    of("one run hangs for ever", "hang", "slow", count=1, counted=LOST),
    of("every run of one variant hangs", "hang", "slow", counted=LOST),
    of("every run of the model hangs", "hang", counted=SECOND_CHANCE),
    of("the hung variant is pinned", "hang", "quick", count=2, kinds=PINNED, counted=LOST),
    of("every run takes ten times as long", "slow", amount=10.0, counted="", seen=()),
    of("one variant takes ten times as long", "slow", "slow", amount=10.0, counted="", seen=()),
    of("out of memory at every run", "memory"),
    of("out of memory at runs of one variant", "memory", "slow", seen=(), kinds=FREE),
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
    """A signal to a worker process, or to all."""

    def strike(scene: Scene) -> str:
        children = scene.children()
        if len(children) != WORKERS:
            raise RuntimeError(f"there are {len(children)} worker processes, expected {WORKERS}")
        for pid in children if every else children[:1]:
            scene.signal(number, pid)
        return ""

    return Fault(name=name, strike=strike, mend=replaced, counted=LOST, seen=NO_OTHER, seconds=0.0)


WORKERS = 2


def replaced(scene: Scene) -> str:
    """Wait for another process in each lost one's place."""
    deadline = time.monotonic() + REPLACED_WITHIN
    lost = lambda: sum(  # noqa: E731
        value for name, value in scene.metrics().items() if name.startswith(LOST)
    )
    before = lost()
    while len(scene.children()) != WORKERS or (not before and not lost()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{len(scene.children())} worker processes, expected {WORKERS}")
        time.sleep(0.05)
    return "replaced"


ISOLATED = (
    to_worker("a worker process crashes (SIGSEGV)", signal.SIGSEGV),
    to_worker("a worker process is killed (SIGKILL)", signal.SIGKILL),
    to_worker("a worker process hangs (SIGSTOP)", signal.SIGSTOP),
    to_worker("a worker process is told to end (SIGTERM)", signal.SIGTERM),
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


def restarted(scene: Scene) -> str:
    return scene.ended()


PROCESSES = (
    Fault(
        name="one of two serving processes crashes (SIGSEGV)",
        strike=signalled(signal.SIGSEGV),
        mend=both_there,
        seconds=0.2,
        seen=("UNAVAILABLE",),
        normal_within=20.0,
    ),
    Fault(
        name="one of two serving processes is killed (SIGKILL)",
        strike=signalled(signal.SIGKILL),
        mend=both_there,
        seconds=0.2,
        seen=("UNAVAILABLE",),
        normal_within=20.0,
    ),
    Fault(
        name="one of two serving processes is frozen for 2 s",
        strike=signalled(signal.SIGSTOP),
        mend=signalled(signal.SIGCONT),
    ),
    Fault(
        name="one of two serving processes is told to end (SIGTERM)",
        strike=signalled(signal.SIGTERM),
        mend=both_there,
        seconds=0.2,
        seen=("UNAVAILABLE",),
        normal_within=20.0,
    ),
    Fault(
        name="two serving processes: the parent is killed (SIGKILL), then started again",
        strike=lambda scene: scene.signal(signal.SIGKILL),
        mend=restarted,
        seconds=0.2,
        seen=("UNAVAILABLE",),
        same=False,
        normal_within=30.0,
    ),
)

GROUPS = (
    Group("executors", lambda: Scene(faulty=True, environment=QUICK_TO_HANG), FAULTS),
    Group(
        "worker processes",
        lambda: Scene("--set", "worker_isolation=process", "--set", "hung_after_seconds=1"),
        ISOLATED,
    ),
    Group("two processes", lambda: Scene("--processes", "2"), PROCESSES),
)
