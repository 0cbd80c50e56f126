"""A thread that runs one call after the other, and can be left to itself.

`concurrent.futures` has no way to do without a thread that never comes back: the interpreter waits
for each of them when it ends, and so does a server for a run that hangs.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, NamedTuple

from gearshift.ports import Worker

CLOSE_WITHIN = 10.0
"""Seconds that a thread gets for its last run."""

BEHIND = 5
"""So much nicer than the loop are workers: a third of its share where both want a core."""


class _Call(NamedTuple):
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    call: Callable[..., Any]
    arguments: tuple[Any, ...]


class WorkerThread:
    """Begins with `initializer` and ends when it is closed."""

    def __init__(self, name: str, initializer: Callable[[], None]) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._initializer = initializer
        # A daemon: nobody waits for one that hangs when the process ends.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it runs still: until it is closed, and until the end of what it ran then."""
        return self._thread.is_alive()

    def submit(self, call: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        """The result of the call, or its error, on the running loop. To cancel it keeps a call
        that has begun from nothing."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._calls.put(_Call(loop, future, call, arguments))
        return future

    def close(self, within: float | None = None) -> None:
        """Take no more calls; wait for the last one, for so many seconds at the most (None: as
        long as it takes)."""
        self._calls.put(None)
        self._thread.join(within)

    def leave(self) -> None:
        """Take no more calls, and let it end its last one by itself, if it ever does."""
        self._calls.put(None)

    def _work(self) -> None:
        self._initializer()
        while True:
            asked = self._calls.get()
            if asked is None:
                return
            _answer(asked)
            # Else all that it needed would be kept until the next call: inputs, outputs, a variant
            # that is unloaded meanwhile.
            del asked


def _answer(asked: _Call) -> None:
    if asked.future.cancelled():
        return
    result: Any = None
    error: BaseException | None = None
    try:
        result = asked.call(*asked.arguments)
    except BaseException as broken:  # noqa: BLE001 - whoever waits for it must hear of it
        error = broken
    # A loop that is closed waits for nothing any more.
    with suppress(RuntimeError):
        asked.loop.call_soon_threadsafe(_settle, asked.future, result, error)


class WorkerThreads:
    """A thread for each worker, made when it runs for the first time. `homes` are the processors
    that workers of the processor's device keep to, by their numbers, over and over; empty where
    they need not."""

    def __init__(self, homes: Sequence[Sequence[int]] = ()) -> None:
        self._homes = homes
        self._threads: dict[int, WorkerThread] = {}
        self._left: list[WorkerThread] = []
        """Threads left to themselves, because what they ran hung."""

    def submit(
        self, worker: Worker, call: Callable[..., Any], *arguments: Any
    ) -> asyncio.Future[Any]:
        """As `WorkerThread.submit`, on the worker's thread."""
        thread = self._threads.get(worker.id)
        if thread is None:
            thread = WorkerThread(f"worker-{worker.id}", partial(self._begin, worker))
            self._threads[worker.id] = thread
        return thread.submit(call, *arguments)

    def _begin(self, worker: Worker) -> None:
        give_way(BEHIND)
        if self._homes and worker.device == "cpu":
            keep_to(self._homes[worker.id % len(self._homes)])

    def replace(self, worker: Worker) -> None:
        """Another thread takes the place; nothing can end the one that hangs."""
        thread = self._threads.pop(worker.id, None)
        if thread is not None:
            thread.leave()
            self._left.append(thread)

    @property
    def stuck(self) -> int:
        """Threads that were left and run still."""
        self._left = [thread for thread in self._left if thread.alive]
        return len(self._left)

    def close(self) -> None:
        """Each gets CLOSE_WITHIN seconds for its last run."""
        for thread in self._threads.values():
            thread.close(CLOSE_WITHIN)
        self._threads.clear()


def give_way(by: int, process: int | None = None) -> None:
    """Let the event loop go first where there are more threads than cores: the niceness of this
    thread is `by` more than that of the main thread of `process`, or of this one.

    With every core busy in a long run, the loop would wait milliseconds for its turn, and a
    request with a budget of ten would find it gone.
    """
    if hasattr(os, "setpriority"):
        with suppress(OSError):
            first = os.getpriority(os.PRIO_PROCESS, process or os.getpid())
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), first + by)


def keep_to(cpus: Sequence[int]) -> None:
    """Let this thread, and those that it begins, run on these processors only; none for any."""
    if cpus and hasattr(os, "sched_setaffinity"):
        with suppress(OSError):  # They have been taken away meanwhile.
            os.sched_setaffinity(0, cpus)


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
