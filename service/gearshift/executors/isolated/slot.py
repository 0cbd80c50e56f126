"""One worker's place: the process that runs its batches, and the next one when that has ended."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from gearshift.errors import WorkerLost
from gearshift.executors.isolated.child import Child
from gearshift.executors.isolated.restarts import Restarts
from gearshift.ports import Array, Tensors

log = structlog.get_logger(__name__)


class Slot:
    """`launch` starts a process. `fill(slot, child, begin)` blocks until it holds what it should,
    and then calls `begin`, before anything else is loaded. `limit`: bytes that a process may
    hold."""

    def __init__(
        self,
        index: int,
        launch: Callable[[], Child],
        fill: Callable[[Slot, Child, Callable[[], None]], None],
        limit: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._index = index
        self._launch = launch
        self._fill = fill
        self._limit = limit
        self._clock = clock
        self._restarts = Restarts()
        self._up = asyncio.Event()
        self._next: Child | None = None
        """Loaded, and waiting for the end of the run that the one before is at."""
        self._making: Child | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.child: Child | None = None
        """Whom runs go to; None while there is nobody."""

    def start(self) -> None:
        """Start the first process, and do not wait for it."""
        self._making = self._launch()

    def started(self) -> Child:
        """Wait for the first process. ValueError if it does not get that far."""
        assert self._making is not None
        self._making.greeted()
        self.child, self._making = self._making, None
        self._restarts.up(self._clock())
        self._up.set()
        return self.child

    def watch(self) -> None:
        """Hear of the end of the first process, on the running loop: one that runs nothing can end
        as well."""
        if self.child is not None:
            self.child.attach(self._ended)

    async def run(self, handle: int, inputs: Tensors) -> dict[str, Array]:
        """As `Child.run`; WorkerLost at once while there is no process."""
        child = self.child
        if child is None:
            raise WorkerLost(
                "crashed", f"worker process {self._index} is being started again", running=False
            )
        try:
            outputs = await child.run(handle, inputs)
        finally:
            self._swap()
        if child.memory > self._limit and child is self.child:
            self._renew(child)
        return outputs

    async def replace(self) -> None:
        """End a run that was given up with its process. Returns once there is one that can run."""
        child = self.child
        if child is not None and child.busy:
            child.kill()
            self._lost(child)
        await self._up.wait()

    def leave(self) -> None:
        """Run nothing more, start nothing more; `close` waits for the end."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            if not task.get_loop().is_closed():
                task.cancel()
        for child in self._children():
            child.leave()

    def close(self) -> None:
        """See the processes end. Blocks for some seconds at most."""
        for child in self._children():
            child.close()
        self.child = self._next = self._making = None

    @property
    def holding(self) -> list[Child]:
        """Those that hold, or should hold, what is loaded."""
        return [child for child in (self.child, self._next) if child is not None]

    def _children(self) -> list[Child]:
        return [c for c in (self.child, self._next, self._making) if c is not None]

    # --- what happens: on the event loop --------------------------------------------------

    def _ended(self, child: Child) -> None:
        if not self._closed:
            log.error(
                "a worker process has ended", process=self._index, pid=child.pid, how=child.how
            )
            self._lost(child)
            child.close()

    def _lost(self, child: Child) -> None:
        """Runs go nowhere from now on, until the next process is there."""
        if self.child is not child:
            return
        self.child = None
        self._up.clear()
        self._swap()
        if self.child is None:
            self._again()

    def _again(self) -> None:
        pause = self._restarts.ended(self._clock())
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(pause, self._begin)

    def _begin(self) -> None:
        if self._task is None or self._task.done():
            self._task = self._do(self._make())

    def _do(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _make(self) -> None:
        """Start a process, load it, and let runs go to it as soon as the one before is idle."""
        try:
            child = self._making = self._launch()
        except OSError as error:
            log.error("a worker process cannot be started", reason=error.strerror)
            self._failed()
            return
        try:
            await asyncio.to_thread(self._fill, self, child, lambda: self._made(child))
        except ValueError as error:
            log.error("a worker process does not get ready", pid=child.pid, reason=str(error))
            self._making = None
            child.kill()
            await asyncio.to_thread(child.close)
            self._failed()
            return
        self._making = None
        self._swap()

    def _made(self, child: Child) -> None:
        """On the thread that has loaded it, before anything else is loaded."""
        self._next = child

    def _failed(self) -> None:
        if self.child is None and not self._closed:
            self._again()

    def _swap(self) -> None:
        """Let the next process take the place, if it is there and nobody is in the way."""
        if self._next is None or self._closed or (self.child is not None and self.child.busy):
            return
        before, self.child, self._next = self.child, self._next, None
        self.child.attach(self._ended)
        self._restarts.up(self._clock())
        self._up.set()
        log.info("a worker process runs", process=self._index, pid=self.child.pid)
        if before is not None:
            before.leave()
            self._do(asyncio.to_thread(before.close))

    def _renew(self, child: Child) -> None:
        """The process holds too much: start another one beside it, which takes its place between
        two runs, so that no request waits for it."""
        if self._restarts.may_renew(self._clock()):
            log.warning(
                "a worker process holds too much memory and is replaced",
                process=self._index,
                pid=child.pid,
                bytes=child.memory,
                limit=int(self._limit),
            )
            self._begin()
