"""A worker process as the server sees it: one life, from its start to its end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import structlog

from gearshift.errors import WorkerLost
from gearshift.executors.isolated.messages import HEAD, Message, checked, packed, received, unpacked
from gearshift.executors.isolated.segment import Segment
from gearshift.ports import Array, Placed, Tensors

log = structlog.get_logger(__name__)

PROGRAM = "gearshift.executors.isolated"

STARTED_WITHIN = 60.0
"""Seconds until a process must have said what it is."""

LOADED_WITHIN = 900.0
"""Seconds for one order: a large artifact on a slow disk takes long."""

REAPED_WITHIN = 5.0
"""Seconds until a process that has closed its sockets, or was killed, must have ended."""

SENT_WITHIN = 5.0
"""Seconds until the process's end of a socket must have room: messages are small."""

READ_AT_ONCE = 65_536


class RunFailed(Exception):
    """The run raised in the worker process, which goes on."""


class Child:
    """Runs go over the event loop, one at a time; orders block, on whichever thread."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        runs: socket.socket,
        orders: socket.socket,
        inputs: Segment,
        outputs: Segment,
    ) -> None:
        self._process = process
        self._runs = runs
        self._orders = orders
        # Whoever gives an order may not wait as long as whoever waits for the answer to one.
        self._sent = orders.dup()
        self._sent.settimeout(SENT_WITHIN)
        self._inputs = inputs
        self._outputs = outputs
        self._received = bytearray()
        self._number = 0
        self._answer: asyncio.Future[Message] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reaping: asyncio.Task[None] | None = None
        self._on_end: Callable[[Child], None] | None = None
        self._ordering = threading.Lock()
        self._sending = threading.Lock()
        self._ordered = 0
        self.how = "is ending"
        """How it has ended, or that it does."""
        self.loaded: dict[int, Sequence[Placed]] = {}
        """How that is placed which it was told to hold, by handle."""
        self.devices: tuple[str, ...] = ()
        self.identity = ""
        self.memory = 0
        """Bytes that it holds for itself, as it said last."""
        runs.setblocking(False)

    @classmethod
    def launch(cls, start: Message) -> Child:
        """Start a process that is made by `start`; `greeted` waits for it. OSError if it cannot be
        started."""
        runs, its_runs = socket.socketpair()
        orders, its_orders = socket.socketpair()
        inputs, outputs = Segment.make(), Segment.make()
        with its_runs, its_orders:
            handed = (
                *(its_runs.fileno(), its_orders.fileno()),
                *(inputs.descriptor, outputs.descriptor),
            )
            process = subprocess.Popen(
                [sys.executable, "-m", PROGRAM, *map(str, handed)],
                stdin=subprocess.DEVNULL,
                stdout=sys.__stderr__,  # the one line on standard output is the server's
                pass_fds=handed,
                # Ctrl-C in a terminal is for the server, which then drains. Not a session of its
                # own: where those are scheduled as groups, niceness would count for nothing.
                process_group=0,
            )
        child = cls(process, runs, orders, inputs, outputs)
        # That it dies with its parent means, to the kernel, with the thread that started it.
        lasting = threading.current_thread() is threading.main_thread()
        with suppress(OSError):  # It has ended already, which `greeted` will tell.
            child._tell(
                {
                    "do": "hello",
                    **start,
                    "dies_with": os.getpid() if lasting else 0,
                }
            )
        return child

    @property
    def pid(self) -> int:
        return self._process.pid

    # --- orders: these block --------------------------------------------------------------

    def greeted(self) -> None:
        """Wait until it has said what it is. ValueError if it does not."""
        told = self._hear(self._ordered, "starting", STARTED_WITHIN)
        self.devices, self.identity = tuple(told["devices"]), told["identity"]

    def order(self, what: str, **order: Any) -> Message:
        """Let it do something, and wait. ValueError with a sentence if that fails."""
        with self._ordering:
            try:
                number = self._tell({"do": what, **order})
            except OSError:
                raise ValueError(f"the worker process {self._end()}") from None
            return self._hear(number, what, LOADED_WITHIN)

    def load(self, handle: int, order: Message) -> None:
        """Let it hold what `order` names. ValueError with a sentence if that fails."""
        told = self.order("load", handle=handle, **order)
        self.memory = told["memory"]
        self.loaded[handle] = [Placed(**each) for each in told["placed"]]

    def unload(self, handle: int) -> None:
        """Let it give that back, when it has the time."""
        if handle in self.loaded:
            del self.loaded[handle]
            with suppress(OSError):  # It has ended, and with it what it held.
                self._tell({"do": "unload", "handle": handle})

    def _tell(self, order: Message) -> int:
        with self._sending:
            self._ordered += 1
            self._sent.sendall(packed({"order": self._ordered, **order}))
            return self._ordered

    def _hear(self, number: int, what: str, within: float) -> Message:
        """The answer to the order of that number; those to earlier ones nobody waited for."""
        try:
            while True:
                self._orders.settimeout(within)
                told = received(self._orders)
                for said in told["said"]:
                    getattr(log, said.pop("level", "warning"))(said.pop("event", ""), **said)
                if told["order"] == number:
                    break
        except TimeoutError:
            self.kill()
            raise ValueError(
                f"the worker process took more than {within:.0f} s to {what}"
            ) from None
        except OSError:
            raise ValueError(f"the worker process {self._end()} ({what})") from None
        if "error" in told:
            raise ValueError(told["error"])
        return told

    # --- runs: on the event loop ----------------------------------------------------------

    def attach(self, on_end: Callable[[Child], None]) -> None:
        """Hear it on the running loop from now on; `on_end` is called there once it has ended."""
        if self._loop is None:
            self._loop, self._on_end = asyncio.get_running_loop(), on_end
            self._loop.add_reader(self._runs, self._readable)

    @property
    def busy(self) -> bool:
        """Whether it is at a run."""
        return self._answer is not None

    async def run(self, handle: int, inputs: Tensors) -> dict[str, Array]:
        """Run one batch of what it holds under `handle`. WorkerLost if it ends before it has
        answered, RunFailed if the run raised."""
        assert self._loop is not None
        if self._answer is not None:
            # A run that was given up goes on over there, and still reads its inputs.
            await asyncio.wait([self._answer])
        if self._reaping is not None:
            raise self._lost(running=False)
        asked = packed({"handle": handle, "inputs": self._inputs.write(inputs)})
        answer: asyncio.Future[Message] = self._loop.create_future()
        self._answer = answer
        try:
            # It is small and the other side waits for it: where there is no room, nobody does.
            if self._runs.send(asked) < len(asked):
                self.kill()
        except OSError:
            self._ended()
        told = await asyncio.shield(answer)
        if "error" in told:
            raise RunFailed(told["error"])
        self.memory = told["memory"]
        # Copied: the next run writes over them.
        return {name: view.copy() for name, view in self._outputs.read(told["outputs"]).items()}

    def _lost(self, *, running: bool) -> WorkerLost:
        return WorkerLost("crashed", f"worker process {self.pid} {self.how}", running=running)

    def _readable(self) -> None:
        try:
            part = self._runs.recv(READ_AT_ONCE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            part = b""
        if not part:
            self._ended()
            return
        self._received += part
        if len(self._received) < HEAD.size:
            return
        try:
            size = HEAD.size + checked(*HEAD.unpack_from(self._received))
        except ConnectionResetError:
            self.kill()
            return
        if len(self._received) >= size:
            told = unpacked(self._received[HEAD.size : size])
            del self._received[:size]
            self._settle(told)

    def _settle(self, told: Message | WorkerLost) -> None:
        answer, self._answer = self._answer, None
        if answer is None:
            return
        if isinstance(told, WorkerLost):
            answer.set_exception(told)
            answer.exception()  # taken note of, also where nobody waits any more
        else:
            answer.set_result(told)

    def _ended(self) -> None:
        """It has closed its sockets: see it end, and tell."""
        assert self._loop is not None
        if self._reaping is None:
            self._loop.remove_reader(self._runs)
            self._reaping = self._loop.create_task(self._reap())

    async def _reap(self) -> None:
        await asyncio.to_thread(self._end)
        self._settle(self._lost(running=True))
        if self._on_end is not None:
            self._on_end(self)

    # --- the end --------------------------------------------------------------------------

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def leave(self) -> None:
        """Let it end: it hears nothing more. `close` sees to it that it does."""
        if self._loop is not None and self._reaping is None and not self._loop.is_closed():
            self._loop.remove_reader(self._runs)
        self._settle(self._lost(running=True))
        self._on_end = None
        for end in (self._runs, self._orders):
            with suppress(OSError):  # It has ended already.
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """See it end, and give back what belonged to it. Blocks for some seconds at most."""
        self._end()
        self._runs.close()
        self._orders.close()
        self._sent.close()
        self._inputs.close()
        self._outputs.close()

    def _end(self) -> str:
        """How it has ended; it is killed if it has not."""
        for _ in range(2):
            try:
                self.how = _ending(self._process.wait(REAPED_WITHIN))
                break
            except subprocess.TimeoutExpired:
                self.how = "was killed and has not ended"
                self.kill()
        return self.how


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was ended by {name}"
