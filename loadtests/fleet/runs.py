"""What is done to a fleet under load, and what is seen of it."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from loadtests.fleet import fleet as fleets
from loadtests.fleet.fleet import Fleet
from loadtests.fleet.load import Counts, Load, Outcomes, balanced, connections
from loadtests.fleet.manifest import Deployment
from loadtests.fleet.proxy import Envoy, proxying
from loadtests.peers.peer import ROOT

CHART = ROOT / "deploy" / "chart"
HELM = ROOT / "build" / "tools" / "helm"
START_WITHIN = 240.0
SETTINGS = {
    # All pods share the cores of this machine.
    "GEARSHIFT_WORKERS": "1",
    "GEARSHIFT_FEEDBACK": "false",
    "GEARSHIFT_DRIFT": "false",
}
CLIENTS = 8
"""Connections to Envoy."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Of one run: what callers saw, what each pod counted in all and between two moments when all
    served undisturbed, what Envoy counted, and the pods' lives."""

    seconds: float
    callers: list[Outcomes]
    counted: Mapping[str, Counter[str]]
    spreads: list[Mapping[str, int]]
    envoy: Mapping[str, int]
    lives: Mapping[str, list[tuple[float, str]]]
    restarts: int

    @property
    def total(self) -> Counter[str]:
        return sum(self.counted.values(), Counter())

    @property
    def unevenness(self) -> float:
        """The most that a pod's share was away from an even one, of that share."""
        return max(
            abs(count * len(spread) / max(sum(spread.values()), 1) - 1)
            for spread in self.spreads
            for count in spread.values()
        )


def rendered(replicas: int) -> str:
    """The chart's manifests for the release `gearshift`, with nothing else changed."""
    return subprocess.run(
        (HELM, "template", "gearshift", CHART, "--set", f"replicas={replicas}"),
        capture_output=True,
        text=True,
        check=True,
    ).stdout


class Stage:
    """A fleet, an Envoy before it, and loads; `spread` counts who answers in the next seconds."""

    def __init__(self, fleet: Fleet, envoy: Envoy, counts: Counts, loads: list[Load]) -> None:
        self.fleet = fleet
        self.envoy = envoy
        self.spreads: list[Mapping[str, int]] = []
        self._counts = counts
        self.loads = loads

    async def spread(self, seconds: float) -> None:
        before = await self._counts.look()
        await asyncio.sleep(seconds)
        after = await self._counts.look()
        serving = {pod.name for pod in self.fleet.serving}
        self.spreads.append(
            {
                name: (counted - before.get(name, Counter()))["served"]
                for name, counted in after.items()
                if name in serving
            }
        )


Play = Callable[[Stage], Awaitable[None]]


async def run(
    deployment: Deployment,
    folder: Path,
    play: Play,
    *,
    rate: float,
    budget: float,
    through_channel: bool = False,
) -> Seen:
    """`rate` requests a second through Envoy, and as many through a balanced channel if
    `through_channel`, as long as `play` goes on."""
    async with AsyncExitStack() as stack:
        fleet = await stack.enter_async_context(
            fleets.running(deployment, folder, SETTINGS, START_WITHIN)
        )
        envoy = await stack.enter_async_context(proxying(folder, fleet.port, fleet.names.port))
        await envoy.until_healthy(deployment.replicas)
        clients = await stack.enter_async_context(connections(envoy.address, CLIENTS))
        loads = [Load("through Envoy", clients, rate, budget)]
        if through_channel:
            channel = await stack.enter_async_context(balanced(fleet))
            loads.append(Load("over a balanced channel", [channel], rate, budget))
        counts = Counts(fleet)
        stage = Stage(fleet, envoy, counts, loads)
        ending = asyncio.Event()
        begun = time.monotonic()
        sending = [asyncio.create_task(load.send(ending)) for load in loads]
        following = asyncio.create_task(counts.follow())
        try:
            await play(stage)
        finally:
            ending.set()
            await asyncio.gather(*sending)
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
        seconds = time.monotonic() - begun
        counted = await counts.look()
        return Seen(
            seconds,
            [load.outcomes for load in loads],
            counted,
            stage.spreads,
            await envoy.counters(),
            {pod.name: [(at - begun, what) for at, what in pod.events] for pod in fleet.pods},
            sum(pod.restarts for pod in fleet.pods),
        )


# --- what is done ---------------------------------------------------------------------------


def one_replaced(seconds: float) -> Play:
    """Spread, then `kubectl delete pod` for one of them, and spread again when all serve."""

    async def play(stage: Stage) -> None:
        begun = time.monotonic()
        await stage.spread(seconds / 4)
        stage.fleet.serving[0].delete()
        await stage.fleet.until_updated(seconds / 2)
        await stage.spread(max(seconds / 4, seconds - (time.monotonic() - begun)))

    return play


def rolled_out(before: float, within: float) -> Play:
    """A rolling update of all pods, with `before` seconds of peace before and after it."""

    async def play(stage: Stage) -> None:
        await asyncio.sleep(before)
        stage.fleet.roll_out()
        await stage.fleet.until_updated(within)
        await asyncio.sleep(before)

    return play


def one_killed(before: float, after: float) -> Play:
    """One pod's process gets SIGKILL; its kubelet starts it again."""

    async def play(stage: Stage) -> None:
        await asyncio.sleep(before)
        process = stage.fleet.serving[0].process
        assert process is not None
        process.kill()
        await asyncio.sleep(after)
        await stage.fleet.until_updated(START_WITHIN)

    return play
