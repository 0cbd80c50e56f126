"""What happens in one run: drawn from a seed before it begins, and nothing but data.

Each run has only some of the kinds of trouble (swarm testing, Groce et al. 2012): with all of them
at once the rare ones would hide behind the frequent. A scenario may be made smaller by leaving
steps out, and means the same then.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random

from gearshift.core import quota
from gearshift.core.limits import Limits
from gearshift.executors.fault_plan import Fault, Kind
from simulation.doors import TENANTS, TOKENS, small_limits, small_quotas

MS = 0.001
MODELS = ("a", "b")
VARIANTS = {"large": 0.95, "middle": 0.90, "small": 0.80}
"""Accuracies; the versions are 1, 2, 3 in this order."""

CLASSES = ("default", "realtime", "archive", "critical")
MAX_BATCH = 4
MISTAKES = {
    "model": ("NOT_FOUND",),
    "version": ("NOT_FOUND",),
    "version_text": ("INVALID_ARGUMENT",),
    "variant": ("NOT_FOUND",),
    "datatype": ("INVALID_ARGUMENT",),
    "rows": ("INVALID_ARGUMENT",),
    "short": ("INVALID_ARGUMENT",),
    "tensor": ("INVALID_ARGUMENT",),
    "parameter": ("INVALID_ARGUMENT",),
    "class": ("INVALID_ARGUMENT",),
    "budget": ("INVALID_ARGUMENT",),
    "floor": ("INVALID_ARGUMENT",),
    "garbage": ("INVALID_ARGUMENT",),
    "cut": ("INTERNAL",),
    "two": ("INTERNAL",),
    "path": ("UNIMPLEMENTED",),
    "timeout": ("INTERNAL",),
    "encoding": ("UNIMPLEMENTED",),
}
"""What callers do wrong, and what they hear."""

ONLY_UNARY = ("cut", "two", "path", "timeout", "encoding")

FAULTS = (
    *(Kind.THROW, Kind.SHAPE, Kind.DTYPE, Kind.MISSING, Kind.NAN, Kind.MEMORY),
    *(Kind.LOST, Kind.SLOW, Kind.HANG),
)
"""What a run may do."""

OTHER_RPCS = ("ServerReady", "ModelMetadata", "ModelStatistics", "RepositoryIndex", "Explain")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something that happens at `at`, in seconds from the start."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect(Step):
    """A caller connects. `window`: bytes that it takes ahead on a stream; `pays`: seconds until it
    takes more (infinite: never); `piece`: bytes that it sends at a time, 0 for all at once;
    `rude`: it answers no PING. It shows `token`, says that it is `tenant`, and that each request
    was sent `attempts` times before."""

    caller: int
    delay: float = 0.0
    window: int = 65_535
    pays: float = 0.0
    piece: int = 0
    rude: bool = False
    token: str = ""
    tenant: str = ""
    attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask(Step):
    """One inference. `timeout` is a gRPC deadline in seconds; `stream` a number of a
    ModelStreamInfer call of this caller, 0 for a unary call; `leaves` seconds after which the
    caller gives it up; `id_size` characters of its id."""

    caller: int
    number: int
    model: str
    rows: int = 1
    budget_ms: float | None = None
    timeout: float | None = None
    floor: float | None = None
    service_class: str = ""
    variant: str = ""
    wrong: str = ""
    stream: int = 0
    leaves: float | None = None
    zipped: bool = False
    id_size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish(Step):
    """The caller has said all that it will on this ModelStreamInfer call."""

    caller: int
    stream: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Other(Step):
    """A call that is no inference."""

    caller: int
    rpc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HangUp(Step):
    caller: int
    reset: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage(Step):
    """Bytes that are no HTTP/2."""

    caller: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread(Step):
    """The caller reads nothing from its socket for so many seconds."""

    caller: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Leap(Step):
    """The machine stood still for `seconds`; its wall clock was put by `wall` seconds."""

    seconds: float
    wall: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Revise(Step):
    """Accuracies and standings have been learned anew."""

    model: str
    accuracies: dict[str, float]
    withdrawn: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload(Step):
    """Another generation of a model takes the place of the one that is served; with `gone` the
    model is unloaded."""

    model: str
    gone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain(Step):
    """SIGTERM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """`seconds` by variant: what a run is predicted to take, per batch and per row.
    `jitter`: how much longer than predicted a run may take."""

    seed: int
    seconds: dict[str, tuple[float, float]]
    workers: int
    faults: tuple[Fault, ...]
    jitter: float
    shadow_share: float
    drain_within: float
    hung_after: float
    """Seconds after which a run may count as hung."""
    planning: str
    """Whose prices the core goes by: the "real" planner's, "wild" ones, or "none"."""
    limits: Limits
    quotas: quota.Limits | None
    guarded: bool
    """It is asked who calls."""
    reading: float
    """Seconds that it takes to read a frame."""
    steps: tuple[Step, ...] = field(repr=False)

    @property
    def ends(self) -> float:
        return max((step.at for step in self.steps), default=0.0)


def draw(seed: int) -> Scenario:
    """The scenario of this seed."""
    return _Draw(seed).scenario()


class _Draw:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.lasts = self.random.choice((0.3, 1.0, 3.0))
        self.callers = self.random.randint(1, 6)
        self.kinds = {kind for kind in _TROUBLE if self.random.random() < 0.3}
        self.steps: list[Step] = []

    def maybe(self, kind: str, share: float) -> bool:
        return kind in self.kinds and self.random.random() < share

    def moment(self) -> float:
        return self.random.uniform(0.0, self.lasts)

    def scenario(self) -> Scenario:
        random = self.random
        base = random.choice((0.5 * MS, 2 * MS, 5 * MS, 20 * MS))
        seconds = {
            "large": (4 * base, base),
            "middle": (2 * base, base / 2),
            "small": (base / 2, base / 8),
        }
        self._connect()
        self._ask()
        self._disturb()
        return Scenario(
            seed=self.seed,
            seconds=seconds,
            workers=random.choice((1, 1, 2, 3)),
            faults=tuple(self._fault(kind) for kind in FAULTS if kind in self.kinds),
            jitter=random.choice((0.0, 0.1, 0.5)),
            shadow_share=0.2 if "shadows" in self.kinds else 0.0,
            drain_within=random.choice((0.05, 0.5, 5.0)),
            hung_after=random.choice((0.05, 0.5)),
            # The planner costs ten times what all the rest does, and no promise rests on it.
            planning=random.choice(("real", *4 * ("wild",), *5 * ("none",))),
            limits=small_limits(random) if "limits" in self.kinds else Limits(),
            quotas=small_quotas(random) if "quotas" in self.kinds else None,
            guarded="access" in self.kinds,
            reading=random.choice((0.05, 0.3, 1.0)) * MS if "slow_reading" in self.kinds else 0.0,
            steps=tuple(sorted(self.steps, key=lambda step: step.at)),
        )

    def _fault(self, kind: Kind) -> Fault:
        random = self.random
        begin = random.choice((0.0, self.moment()))
        share = random.choice((0.02, 0.1, 0.3, 1.0)) if kind is not Kind.HANG else 0.02
        return Fault(
            kind=kind,
            model=random.choice(("", *MODELS)),
            variant=random.choice(("", "", *VARIANTS)),
            probability=share,
            begin=begin,
            # What hangs on the express worker holds the whole server.
            end=begin + random.choice((0.05, 0.3, 4.0)) if kind is Kind.HANG else self.lasts,
            amount={
                Kind.SLOW: random.choice((1.5, 4.0, 20.0)),
                Kind.NAN: random.choice((0.0, 0.0, 1.0)),
            }.get(kind, 0.0),
        )

    def _connect(self) -> None:
        random = self.random
        for caller in range(self.callers):
            slow = self.maybe("slow_readers", 0.5)
            self.steps.append(
                Connect(
                    at=0.0 if random.random() < 0.7 else self.moment() / 4,
                    caller=caller,
                    delay=random.choice((0.0, 0.2 * MS, 5 * MS)),
                    window=random.choice((1, 40, 300)) if slow else 65_535,
                    pays=random.choice((1 * MS, 0.2, math.inf)) if slow else 0.0,
                    piece=random.choice((3, 17, 50)) if self.maybe("pieces", 0.4) else 0,
                    rude=self.maybe("rude", 0.5),
                    # Most of those who are asked show what lets them in.
                    token=random.choice((*TOKENS, *3 * ("whole",))),
                    tenant=random.choice(TENANTS) if "quotas" in self.kinds else "",
                    attempts=random.choice((1, 3)) if self.maybe("retries", 0.5) else 0,
                )
            )
            if self.maybe("hang_ups", 0.4):
                self.steps.append(
                    HangUp(at=self.moment(), caller=caller, reset=random.random() < 0.5)
                )
            if self.maybe("garbage", 0.3):
                data = random.randbytes(random.randint(1, 60))
                self.steps.append(Garbage(at=self.moment(), caller=caller, data=data))
            if self.maybe("unread", 0.5):
                self.steps.append(
                    Unread(at=self.moment(), caller=caller, seconds=random.choice((0.05, 1.0)))
                )

    def _ask(self) -> None:
        random = self.random
        count = random.choice((10, 30, 60, 150))
        burst, moment = 0, 0.0
        streams: set[tuple[int, int]] = set()
        for number in range(1, count + 1):
            if burst:
                burst -= 1
            else:
                moment = self.moment()
                burst = random.choice((0, 0, 0, 3, 30)) if "bursts" in self.kinds else 0
            ask = self._one(number, moment)
            self.steps.append(ask)
            if ask.stream:
                streams.add((ask.caller, ask.stream))
        for caller, stream in sorted(streams):
            if random.random() < 0.7:
                self.steps.append(Finish(at=self.lasts * 1.01, caller=caller, stream=stream))

    def _one(self, number: int, moment: float) -> Ask:
        random = self.random
        wrong = random.choice(tuple(MISTAKES)) if self.maybe("mistakes", 0.2) else ""
        stream = random.randint(1, 2) if self.maybe("streams", 0.5) else 0
        if wrong in ONLY_UNARY:
            stream = 0
        budget = random.choice((1, 5, 20, 80, 400)) if random.random() < 0.5 else None
        return Ask(
            at=moment,
            caller=random.randrange(self.callers),
            number=number,
            model=random.choice(MODELS),
            rows=random.choice((1, 1, 1, 2, MAX_BATCH)),
            budget_ms=budget,
            timeout=random.choice((5 * MS, 50 * MS, 2.0)) if self.maybe("timeouts", 0.3) else None,
            floor=random.choice((0.85, 0.93, 0.99)) if self.maybe("floors", 0.4) else None,
            service_class=random.choice(CLASSES) if random.random() < 0.7 else "",
            variant=random.choice((*VARIANTS, "pair")) if self.maybe("pins", 0.2) else "",
            wrong=wrong,
            stream=stream,
            leaves=random.choice((0.0, 1 * MS, 10 * MS)) if self.maybe("leaving", 0.3) else None,
            zipped=self.maybe("zipped", 0.3),
            # On a stream an error says whose it is by the id alone.
            id_size=random.choice((3, 200, 40_000)) if self.maybe("ids", 0.3) else 3 * bool(stream),
        )

    def _disturb(self) -> None:
        random = self.random
        if "others" in self.kinds:
            for _ in range(random.randint(1, 8)):
                caller, rpc = random.randrange(self.callers), random.choice(OTHER_RPCS)
                self.steps.append(Other(at=self.moment(), caller=caller, rpc=rpc))
        if "leaps" in self.kinds:
            for _ in range(random.randint(1, 3)):
                seconds = random.choice((0.0, 10 * MS, 1.0, 100.0))
                wall = random.choice((-3600.0, 0.0, 86_400.0))
                self.steps.append(Leap(at=self.moment(), seconds=seconds, wall=wall))
        if "learning" in self.kinds:
            for _ in range(random.randint(1, 6)):
                accuracies = {name: round(random.uniform(0.5, 0.99), 3) for name in VARIANTS}
                withdrawn = tuple(name for name in VARIANTS if random.random() < 0.2)
                self.steps.append(
                    Revise(
                        at=self.moment(),
                        model=random.choice(MODELS),
                        accuracies=accuracies,
                        withdrawn=withdrawn,
                    )
                )
        if "reloads" in self.kinds:
            for _ in range(random.randint(1, 5)):
                model, gone = random.choice(MODELS), random.random() < 0.2
                self.steps.append(Reload(at=self.moment(), model=model, gone=gone))
        if "drains" in self.kinds:
            self.steps.append(Drain(at=self.moment()))


_TROUBLE = (
    *("bursts", "mistakes", "streams", "timeouts", "floors", "pins", "leaving", "zipped", "ids"),
    *("slow_readers", "pieces", "rude", "hang_ups", "garbage", "unread"),
    *("others", "leaps", "learning", "reloads", "drains", "shadows"),
    *("limits", "quotas", "retries", "access", "slow_reading"),
    *FAULTS,
)
