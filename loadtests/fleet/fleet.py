"""A Deployment and its headless Service on this machine: pods come and go, their addresses follow.

After the Kubernetes documentation, "Deployments": a pod that is to end counts no more from the
moment it is deleted; during an update there are at most `surge` pods too many, and at most
`unavailable` too few that serve.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from loadtests.fleet.manifest import Deployment, Template
from loadtests.fleet.names import Names
from loadtests.fleet.pod import Pod
from loadtests.peers.peer import ROOT

PROPAGATION = 1.0
"""Seconds from a pod's change to the DNS that tells it: end point controller and caches."""

LOOK_EVERY = 0.05
"""Seconds between two looks at what is there and what should be."""

MODEL = "fraud"


class Fleet:
    """Pods on 127.x.y.1 and up, all with the same ports."""

    def __init__(self, deployment: Deployment, folder: Path, settings: Mapping[str, str]) -> None:
        """`settings` of the server overrule those of the manifest."""
        self.pods: list[Pod] = []
        """All that there ever were."""
        self.names = Names()
        self.generation = 1
        self._deployment = deployment
        self._folder = folder
        self._settings = settings
        # Several fleets on one machine do not meet.
        self._net = f"127.{20 + os.getpid() // 250 % 200}.{os.getpid() % 250}"
        self.port, self.http_port = _free_ports(f"{self._net}.1", 2)
        self._generation_of: dict[str, int] = {}

    @property
    def living(self) -> list[Pod]:
        """Pods that are not over; those that are to end among them."""
        return [pod for pod in self.pods if not pod.over]

    @property
    def serving(self) -> list[Pod]:
        """Pods that belong into the end points."""
        return [pod for pod in self.living if pod.ready_since is not None and not pod.terminating]

    @property
    def updated(self) -> bool:
        """All pods are of this generation and serve, and no other is left."""
        return len(self.serving) == len(self.living) == self._deployment.replicas and all(
            self._generation_of[pod.name] == self.generation for pod in self.living
        )

    def roll_out(self) -> None:
        """Begin to replace all pods, as for a new image."""
        self.generation += 1

    async def until_updated(self, within: float) -> None:
        """TimeoutError if the fleet is not what it should be in `within` seconds."""
        async with asyncio.timeout(within):
            while not self.updated:  # noqa: ASYNC110 - the controller looks again and again, too
                await asyncio.sleep(LOOK_EVERY)

    def _reconcile(self) -> None:
        staying = [pod for pod in self.living if not pod.terminating]
        new = [pod for pod in staying if self._generation_of[pod.name] == self.generation]
        old = [pod for pod in staying if pod not in new]
        deployment, now = self._deployment, time.monotonic()
        room = deployment.replicas + deployment.surge - len(staying)
        for _ in range(min(deployment.replicas - len(new), room)):
            self._start()
        available = [
            pod
            for pod in staying
            if pod.ready_since is not None and now - pod.ready_since >= deployment.min_ready
        ]
        spare = len(available) - (deployment.replicas - deployment.unavailable)
        for pod in sorted(old, key=lambda each: each.ready_since is not None):
            # One that does not serve is missed by nobody.
            if pod in available and spare <= 0:
                break
            spare -= pod in available
            pod.delete()

    def _start(self) -> None:
        number = len(self.pods) + 1
        name = f"gearshift-{self.generation}-{number}"
        address = f"{self._net}.{number}"
        template = self._deployment.template
        state = self._folder / name
        if state.exists():
            shutil.rmtree(state)
        shutil.copytree(self._folder / "state", state)
        environment = {
            **os.environ,
            **template.environment,
            **self._settings,
            "GEARSHIFT_HOST": address,
            "GEARSHIFT_GRPC_PORT": str(self.port),
            "GEARSHIFT_HTTP_PORT": str(self.http_port),
            "GEARSHIFT_REPOSITORY": str(self._folder / "models"),
            "GEARSHIFT_STATE_DIR": str(state),
            "PYTHONPATH": str(ROOT / "service"),
        }
        self._generation_of[name] = self.generation
        self.pods.append(Pod(name, address, self.port, template, environment))

    async def _control(self) -> None:
        while True:
            self._reconcile()
            await asyncio.sleep(LOOK_EVERY)

    async def _publish(self) -> None:
        """Tell the DNS what there was PROPAGATION ago."""
        past: list[tuple[float, list[str]]] = []
        while True:
            now = time.monotonic()
            past.append((now, [pod.address for pod in self.serving]))
            while len(past) > 1 and past[1][0] <= now - PROPAGATION:
                past.pop(0)
            self.names.stand_for(past[0][1])
            await asyncio.sleep(LOOK_EVERY)

    async def live(self) -> None:
        """Keep the pods as they should be, until this is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._control())
            tasks.create_task(self._publish())


@asynccontextmanager
async def running(
    deployment: Deployment, folder: Path, settings: Mapping[str, str], within: float
) -> AsyncIterator[Fleet]:
    """A fleet that serves, until the block ends. Latencies are measured before, once: as in a
    cluster whose pods find the profiles of their kind of machine."""
    prepare(folder)
    fleet = Fleet(deployment, folder, settings)
    await fleet.names.listen()
    await _measure(deployment, folder, settings)
    living = asyncio.create_task(fleet.live())
    try:
        await fleet.until_updated(within)
        await asyncio.sleep(2 * PROPAGATION)
        yield fleet
    finally:
        living.cancel()
        await asyncio.gather(living, return_exceptions=True)
        await asyncio.gather(*(pod.kill() for pod in fleet.pods), return_exceptions=True)
        fleet.names.close()


def prepare(folder: Path) -> None:
    """The one small model that is served."""
    models = folder / "models"
    (folder / "state").mkdir(parents=True, exist_ok=True)
    if not models.exists():
        shutil.copytree(ROOT / "model_repo" / MODEL, models / MODEL)


async def _measure(deployment: Deployment, folder: Path, settings: Mapping[str, str]) -> None:
    """A pod nobody asks, which leaves its profiles behind."""
    if any((folder / "state").rglob("*.json")):
        return
    alone = replace(deployment, replicas=1)
    fleet = Fleet(alone, folder, settings)
    fleet._reconcile()
    (pod,) = fleet.pods
    try:
        async with asyncio.timeout(240):
            while pod.ready_since is None:  # noqa: ASYNC110 - as above
                await asyncio.sleep(LOOK_EVERY)
        shutil.copytree(
            folder / pod.name / "profiles", folder / "state" / "profiles", dirs_exist_ok=True
        )
    finally:
        await pod.kill()


def without_waiting(template: Template, sleep: float) -> Template:
    """The same pod on a quicker clock, for tests: probes every second, and a preStop of `sleep`
    seconds, which is as long as this machine's names take to be known everywhere."""
    return replace(
        template,
        startup=replace(template.startup, period=0.25),
        readiness=replace(template.readiness, period=1.0),
        liveness=replace(template.liveness, period=1.0),
        pre_stop=(*template.pre_stop[:-1], f"{sleep:g}"),
    )


def _free_ports(address: str, count: int) -> Sequence[int]:
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind((address, 0))
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()
