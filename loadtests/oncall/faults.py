"""The faults, what each is expected to raise, and how one is put in and watched."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.oncall import models
from loadtests.oncall.stack import Arrived, OnCall, watching
from loadtests.oncall.traffic import Traffic, calling, hang
from loadtests.replaying import Server, serving

LOOK_EVERY = 0.5

Alert = tuple[str, str]
"""Its name, and the model that it is about ("" for none)."""


def named(arrived: Arrived) -> Alert:
    return arrived.name, arrived.labels.get("model", "")


@dataclass(slots=True)
class Place:
    """Where a fault is put in."""

    servers: list[Server]
    traffic: Traffic
    state: Path
    waiting: list[asyncio.Task[str]] = field(default_factory=list)
    ends: list[Callable[[], None]] = field(default_factory=list)
    """What is to be called at the end."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`put_in` does what `done` says. `expected` must arrive within `watched` seconds and nothing
    else; `held_back` fires too, and Alertmanager keeps it to itself."""

    name: str
    done: str
    expected: frozenset[Alert]
    watched: float
    put_in: Callable[[Place], Awaitable[None]]
    held_back: frozenset[str] = frozenset()
    servers: int = 1
    breaks: bool = False
    """Whether the server must be one whose variant can be broken (loadtests.breaking)."""
    drain_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a fault: alerts that arrived before it, and after it with the seconds that
    they took; those held back; how the callers' requests ended."""

    before: list[str]
    after: list[tuple[float, Arrived]]
    held_back: list[str]
    statuses: dict[str, int]


async def _nothing(place: Place) -> None:
    """All is well."""


async def _break(place: Place) -> None:
    place.servers[0].process.send_signal(signal.SIGUSR1)


async def _crowd(place: Place) -> None:
    place.traffic.slow = 150.0


async def _deny(place: Place) -> None:
    place.traffic.wrong = "large"


async def _shift(place: Place) -> None:
    place.traffic.shift = 1.5


async def _drain(place: Place) -> None:
    server = place.servers[0]
    place.waiting.append(asyncio.create_task(hang(server.grpc)))
    await asyncio.sleep(1.0)
    server.process.send_signal(signal.SIGTERM)


async def _kill(place: Place) -> None:
    place.servers[0].process.kill()


async def _lock(place: Place) -> None:
    for file in place.state.glob("*/feedback.sqlite3"):
        holder = sqlite3.connect(file)
        place.ends.append(holder.close)
        holder.execute("BEGIN EXCLUSIVE")


FAULTS = (
    Fault(
        "none",
        "Nothing: 25 requests a second to `kinds`, 1 to `slow`, labels as the cards say",
        frozenset(),
        300.0,
        _nothing,
    ),
    Fault(
        "broken variant",
        "The file of `large` replaced, under the running server, by one that raises at every run",
        frozenset({("GearshiftAttainmentBurnFast", "kinds"), ("GearshiftBreakerOpen", "kinds")}),
        320.0,
        _break,
        breaks=True,
    ),
    Fault(
        "overload",
        "150 requests a second to `slow`, of which one worker can do a fraction in time",
        frozenset({("GearshiftAttainmentBurnFast", "slow")}),
        200.0,
        _crowd,
    ),
    Fault(
        "accuracy falls",
        "Every label says that `large` was wrong",
        frozenset(
            {("GearshiftFloorUnreachable", "kinds"), ("GearshiftVariantBelowFloors", "kinds")}
        ),
        240.0,
        _deny,
        held_back=frozenset({"GearshiftVariantFallen"}),
    ),
    Fault(
        "inputs drift",
        "1.5 is added to every input",
        frozenset({("GearshiftInputDrifted", "kinds")}),
        200.0,
        _shift,
    ),
    Fault(
        "drain hangs",
        "SIGTERM to one of two servers while one of its requests takes hours",
        frozenset({("GearshiftDrainStuck", "")}),
        150.0,
        _drain,
        servers=2,
    ),
    Fault(
        "server dies",
        "SIGKILL to the only server",
        frozenset({("GearshiftDown", "")}),
        240.0,
        _kill,
    ),
    Fault(
        "feedback database",
        "Another program keeps the feedback database locked",
        frozenset({("GearshiftFeedbackFailing", "")}),
        420.0,
        _lock,
    ),
)


async def watched(
    fault: Fault, folder: Path, *, interval: float, calm: float, patience: float | None = None
) -> Seen:
    """Put `fault` into new servers after `calm` seconds of traffic, and watch who is told. Ends
    `patience` seconds after all that was expected has come, or when it has been watched."""
    repository = folder / "repository"
    models.make(repository)
    broken: tuple[str, ...] = ()
    if fault.breaks:
        artifact = models.make_broken(folder / "broken" / "model.onnx")
        broken = ("kinds", "large", str(artifact))
    place = Place([], Traffic(), folder / "state")
    with ExitStack() as stack:
        for number in range(fault.servers):
            name = f"server-{number}"
            server = stack.enter_context(
                serving(
                    repository,
                    place.state / name,
                    folder / f"{name}.log",
                    *broken,
                    workers="1",
                    drain_seconds=str(fault.drain_seconds),
                    # Else the watchdog ends the request that takes hours.
                    hung_after_seconds="3600",
                )
            )
            # Whatever was done to it, it must end with the block.
            stack.callback(server.process.kill)
            place.servers.append(server)
        targets = [server.http.removeprefix("http://") for server in place.servers]
        seen = stack.enter_context(watching(targets, folder / "watching", interval))
        async with calling([server.grpc for server in place.servers], place.traffic):
            await asyncio.sleep(calm)
            before = [arrived.name for arrived in seen.on_call.arrived]
            begun = time.monotonic()
            await fault.put_in(place)
            await _until_told(fault, seen.on_call, begun, patience)
        held_back = await asyncio.to_thread(seen.held_back)
        for end in place.ends:
            end()
        for waiting in place.waiting:
            waiting.cancel()
        await asyncio.gather(*place.waiting, return_exceptions=True)
        arrived = sorted(seen.on_call.arrived, key=lambda each: each.at)
        return Seen(
            before,
            [(each.at - begun, each) for each in arrived if each.name not in before],
            held_back,
            dict(sorted(place.traffic.statuses.items())),
        )


async def _until_told(fault: Fault, on_call: OnCall, begun: float, patience: float | None) -> None:
    told: float | None = None
    while (now := time.monotonic()) < begun + fault.watched:
        if told is None and fault.expected <= set(map(named, on_call.arrived)):
            told = now
        if patience is not None and told is not None and now - told >= patience:
            return
        await asyncio.sleep(LOOK_EVERY)


def complaint(fault: Fault, seen: Seen) -> str:
    """What is not as it must be; "" if all is."""
    arrived = {named(each) for _, each in seen.after}
    wrong = []
    if seen.before:
        wrong.append(f"before it there was {', '.join(seen.before)}")
    if missing := fault.expected - arrived:
        wrong.append(f"{_listed(missing)} did not come within {fault.watched:g} s")
    if others := arrived - fault.expected:
        wrong.append(f"{_listed(others)} came as well")
    if set(seen.held_back) - fault.held_back:
        wrong.append(f"held back: {', '.join(seen.held_back)}")
    for _, each in seen.after:
        text = "".join(each.annotations.values())
        if "<error" in text or "%!" in text or "<no value>" in text:
            wrong.append(f"{each.name} says {text!r}")
    return "; ".join(wrong)


def _listed(alerts: Collection[Alert]) -> str:
    return ", ".join(" of ".join(filter(None, alert)) for alert in sorted(alerts))
