"""One pod, as a kubelet runs it: a process, its probes, and its end.

After the Kubernetes documentation, "Pod Lifecycle": the start-up probe holds the others back; a
container that fails its liveness, or ends, is started again; a pod that is deleted runs its preStop
hook, gets SIGTERM, and SIGKILL when the grace period is over. Liveness is not asked for once a pod
is deleted, readiness is.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from loadtests.fleet.manifest import Probe, Template

SHORTEST_GRACE = 2.0
"""Seconds that are left after a preStop hook which has used up the grace period."""

OWN = (("grpc.use_local_subchannel_pool", 1),)


class Pod:
    """`environment` is all that the process gets beside this one's."""

    def __init__(
        self, name: str, address: str, port: int, template: Template, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.address = address
        self.port = port
        self.ready_since: float | None = None
        """`time.monotonic`; None while it is not ready."""
        self.terminating = False
        self.restarts = 0
        self.exit_codes: list[int] = []
        self.events: list[tuple[float, str]] = []
        self.process: asyncio.subprocess.Process | None = None
        self._template = template
        self._environment = environment
        self._deleted = asyncio.Event()
        self._task = asyncio.create_task(self._live())

    def delete(self) -> None:
        """It is out of the end points from now on, and ends in its own time."""
        if not self.terminating:
            self.terminating = True
            self._note("deleted")
            self._deleted.set()

    @property
    def over(self) -> bool:
        return self._task.done()

    async def ended(self) -> None:
        """Returns when the pod is gone; raises what was wrong with this harness."""
        await self._task

    async def kill(self) -> None:
        """At once, and for good: for who gives up."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    def _note(self, what: str) -> None:
        self.events.append((time.monotonic(), what))

    async def _live(self) -> None:
        try:
            while not self.terminating:
                await self._run_container()
                self.restarts += not self.terminating
        finally:
            self.ready_since = None
            if self.process is not None and self.process.returncode is None:
                self.process.kill()
                await self.process.wait()

    async def _run_container(self) -> None:
        """From its start to its end, whoever ends it."""
        log = Path(self._environment["GEARSHIFT_STATE_DIR"], f"{self.name}.log")
        with log.open("ab") as written:  # noqa: ASYNC230 - a local file, once a life
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gearshift", *self._template.arguments),
                env=dict(self._environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=written,
                stderr=written,
            )
        self._note("started")
        ended = asyncio.create_task(self.process.wait())
        probing = asyncio.create_task(self._probe())
        deleted = asyncio.create_task(self._deleted.wait())
        try:
            await asyncio.wait((ended, deleted, probing), return_when=asyncio.FIRST_COMPLETED)
            if probing.done():
                probing.result()  # start-up or liveness has failed
                self._note("killed: a probe failed")
                self.process.terminate()
                await self._within(self._template.grace)
            elif self.terminating and not ended.done():
                await self._end()
        finally:
            for task in (probing, deleted, ended):
                task.cancel()
            await asyncio.gather(probing, deleted, ended, return_exceptions=True)
        self.ready_since = None
        if self.process.returncode is not None:
            self.exit_codes.append(self.process.returncode)
            self._note(f"ended with {self.process.returncode}")

    async def _end(self) -> None:
        """Hook, SIGTERM, grace, SIGKILL."""
        begun = time.monotonic()
        hook = await asyncio.create_subprocess_exec(*self._template.pre_stop)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._template.grace):
                await hook.wait()
        if hook.returncode is None:
            hook.kill()
            await hook.wait()
        assert self.process is not None
        with suppress(ProcessLookupError):
            self._note("SIGTERM")
            self.process.send_signal(signal.SIGTERM)
        left = self._template.grace - (time.monotonic() - begun)
        await self._within(max(left, SHORTEST_GRACE))

    async def _within(self, seconds: float) -> None:
        assert self.process is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.process.wait()
        if self.process.returncode is None:
            self._note("SIGKILL")
            self.process.kill()
            await self.process.wait()

    # --- probes ----------------------------------------------------------------------------

    async def _probe(self) -> None:
        """Returns when the container must be started again."""
        if not await self._until(self._template.startup, wanted=True):
            return
        self._note("has started")
        readiness = asyncio.create_task(self._watch_readiness())
        try:
            await self._until(self._template.liveness, wanted=False)
        finally:
            readiness.cancel()
            await asyncio.gather(readiness, return_exceptions=True)

    async def _until(self, probe: Probe, *, wanted: bool) -> bool:
        """Whether the probe has succeeded (`wanted`) or failed so often in a row as decides; False
        if a wanted success did not come."""
        await asyncio.sleep(probe.delay)
        good = bad = 0
        while True:
            if await self._asked(probe):
                good, bad = good + 1, 0
            else:
                good, bad = 0, bad + 1
            if good >= probe.successes and wanted:
                return True
            if bad >= probe.failures:
                return not wanted
            await asyncio.sleep(probe.period)

    async def _watch_readiness(self) -> None:
        probe = self._template.readiness
        await self._until(probe, wanted=True)
        while True:
            self.ready_since = time.monotonic()
            self._note("ready")
            await self._until(probe, wanted=False)
            self.ready_since = None
            self._note("not ready")
            while not await self._until(probe, wanted=True):
                pass

    async def _asked(self, probe: Probe) -> bool:
        if self.terminating and probe is self._template.liveness:
            return True
        # A connection of its own each time, as a kubelet has.
        async with grpc.aio.insecure_channel(f"{self.address}:{self.port}", OWN) as channel:
            asked = health_pb2.HealthCheckRequest(service=probe.service)
            try:
                told = await health_pb2_grpc.HealthStub(channel).Check(asked, timeout=probe.timeout)
            except grpc.RpcError:
                return False
        return bool(told.status == health_pb2.HealthCheckResponse.SERVING)
