"""Keeps the processes: starts them, hears them, replaces those that die, ends them together.

What is to be done when is the fleet's to say; here it is done.
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog

from gearshift.door import FULL_PAUSE
from gearshift.errors import ProcessFailed
from gearshift.processes import messages
from gearshift.processes.answering import Answering
from gearshift.processes.fleet import Fleet, State
from gearshift.processes.member import Member
from gearshift.processes.messages import Orders
from gearshift.processes.pages import Pages
from gearshift.processes.total import Total

log = structlog.get_logger(__name__)

REAPED_WITHIN = 5.0
"""Seconds until a process that has closed its sockets, or was killed, must have ended."""


class Post:
    """Told of the letters that come, and of who may get some; this one does nothing with it. On the
    loop."""

    def orders(self, orders: Orders) -> Orders:
        """What a process is told that is started now."""
        return orders

    def ready(self, index: int) -> None:
        """The process serves."""

    def came(self, index: int, body: bytes) -> None:
        """The process has sent a letter."""

    def gone(self, index: int) -> None:
        """The process has ended."""


NOBODY = Post()


class Supervisor:
    """The processes that `orders` describe, one each. They are told the `total` of all
    statistics, and the `frontier`, whenever they ask; either may block. `post` gets the letters."""

    def __init__(
        self,
        orders: Sequence[Orders],
        fleet: Fleet,
        pages: Pages,
        total: Total,
        frontier: Callable[[], bytes],
        launch: Callable[[Orders], Member] = Member.launch,
        post: Post = NOBODY,
    ) -> None:
        self.fleet = fleet
        self._orders = orders
        self._pages = pages
        self._answering = {
            messages.ASK: Answering(total.collect, messages.SUM),
            messages.ASK_FRONTIER: Answering(frontier, messages.FRONTIER),
        }
        self._post = post
        self._launch = launch
        self._members: dict[int, Member] = {}
        self._loop = asyncio.get_running_loop()
        self._complete: asyncio.Future[None] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._reaping: dict[int, asyncio.Task[None]] = {}
        self._stopping = False
        self._end = asyncio.Event()
        """One of the processes has ended."""

    @property
    def ready(self) -> bool:
        """Whether requests are taken: one process that serves is enough, once all have."""
        return self.fleet.complete and not self._stopping and self.fleet.serving > 0

    async def start(self) -> None:
        """Start all; returns when all serve. ProcessFailed if one of them does not get that
        far; it has said why itself."""
        self._step()
        await self._complete

    def give(self, accepted: socket.socket, *, inside: bool = False) -> bool:
        """Give a connection, one from `inside` if it is our own, to the process with the fewest.
        False if all that could take it have their hands full; where there is none it is closed,
        which callers see as UNAVAILABLE."""
        full = False
        for index in self.fleet.order():
            if index in self._reaping:
                continue
            # A caller that was sent away by one that drains is here as soon as that is said.
            self._hear(index, self._members[index])
            if self.fleet.state(index) is State.DRAINING and self.fleet.serving > 0:
                continue
            try:
                self._members[index].hand(accepted, inside=inside)
            except (BrokenPipeError, ConnectionResetError):
                continue  # It is ending, which is heard elsewhere.
            except OSError:
                full = True
                continue
            self.fleet.connected(index)
            break
        else:
            if full:
                return False
        accepted.close()
        return True

    def serving(self) -> list[int]:
        """The processes that take requests."""
        return [i for i in sorted(self._members) if self.fleet.state(i) is State.SERVING]

    def write(self, index: int, body: bytes) -> None:
        """Send the process a letter; one that has ended gets none."""
        member = self._members.get(index)
        if member is None:
            return
        with messages.letter(body) as descriptor:
            try:
                member.tell(descriptor, messages.LETTER)
            except BlockingIOError:
                self._loop.call_later(FULL_PAUSE, self.write, index, body)
            except OSError:
                pass  # It is ending, which is heard elsewhere.

    async def drain(self, within: float) -> None:
        """Let all finish what they have taken in, and end; after `within` seconds they are
        ended."""
        self._stopping = True
        for index, member in list(self._members.items()):
            if self.fleet.state(index) is State.STARTING:
                member.kill()
            else:
                with suppress(OSError):  # It is gone already.
                    member.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self._members:
                    self._end.clear()
                    await self._end.wait()
        if self._members:
            log.warning(
                "processes did not end in time", pids=[m.pid for m in self._members.values()]
            )

    def close(self) -> None:
        """End whatever still runs, at once."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        for answering in self._answering.values():
            answering.close()
        for task in self._reaping.values():
            task.cancel()
        for member in self._members.values():
            self._loop.remove_reader(member)
            member.kill()
            member.wait(REAPED_WITHIN)
            self._pages.ended(member)
        self._members.clear()

    # --- what happens ---------------------------------------------------------------------

    def _step(self) -> None:
        """Do what is due, and plan the next look."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._stopping:
            return
        for index in self.fleet.silent(self._loop.time()):
            log.error("a process does not start", pid=self._members[index].pid)
            self._members[index].kill()
            self.fleet.alive(index, self._loop.time())
        for index in self.fleet.due(self._loop.time()):
            self._begin(index)
        wake_at = self.fleet.wake_at()
        if wake_at < math.inf:
            self._timer = self._loop.call_at(wake_at, self._step)

    def _begin(self, index: int) -> None:
        self.fleet.started(index, self._loop.time())
        try:
            member = self._launch(self._post.orders(self._orders[index]))
        except OSError as error:
            log.error("a process cannot be started", reason=error.strerror)
            self._lost(index, f"cannot be started: {error.strerror}")
            return
        self._members[index] = member
        self._pages.began(member)
        self._loop.add_reader(member, self._hear, index, member)

    def _hear(self, index: int, member: Member) -> None:
        try:
            signs = member.signs()
        except BlockingIOError:
            return
        if not signs:
            self._loop.remove_reader(member)
            self._reaping[index] = self._loop.create_task(self._reap(index, member))
            return
        now = self._loop.time()
        if messages.ALIVE in signs:
            self.fleet.alive(index, now)
        if messages.READY in signs:
            self.fleet.ready(index, now)
            self._post.ready(index)
        if messages.DRAINING in signs:
            self.fleet.draining(index)
        self.fleet.disconnected(index, signs.count(messages.CLOSED))
        for body in member.letters():
            self._post.came(index, body)
        for question, answering in self._answering.items():
            answering.asked(member, signs.count(question))
        if self.fleet.complete and not self._complete.done():
            self._complete.set_result(None)
        self._step()

    async def _reap(self, index: int, member: Member) -> None:
        """The process has closed its sockets: see it end, and make room for the next."""
        code = await asyncio.to_thread(member.wait, REAPED_WITHIN)
        if code is None:
            member.kill()
            code = await asyncio.to_thread(member.wait, REAPED_WITHIN)
        del self._members[index]
        del self._reaping[index]
        self._post.gone(index)
        self._end.set()
        self._pages.ended(member)
        if not self._stopping:
            log.error("a process has ended", process=index, pid=member.pid, code=code)
        self._lost(index, f"ended with exit code {code} before it was ready; it said why above")
        self._step()

    def _lost(self, index: int, how: str) -> None:
        """Once all have served, one that is lost is started again; before, nothing is."""
        self.fleet.ended(index, self._loop.time())
        if not self._complete.done():
            self._complete.set_exception(ProcessFailed(f"serving process {index} {how}"))
            self._stopping = True
