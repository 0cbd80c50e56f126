"""The parent as a serving process sees it: gives orders and connections, asks for pages."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

import structlog

from gearshift.processes import messages
from gearshift.processes.messages import ANSWER, QUESTION, Orders

log = structlog.get_logger(__name__)

ORDERS_WITHIN = 30.0
"""Seconds until the parent must have said what to do."""

TAKEN_AT_ONCE = 64
"""Connections in one turn of the loop."""

RETRY = 0.05
"""Seconds until signs that did not fit are sent again."""

SUM_WITHIN = 10.0
"""Seconds for the sum of all: the parent waits a few for a process that does not answer, and may
be at another page."""

Adopt = Callable[[socket.socket, Callable[[], None]], Awaitable[None]]
"""Serves a connection, and calls back once when it is over."""

Page = Callable[[], bytes]


class Parent:
    """Made from the two file descriptors that the process was started with. `end` ends the
    process at once."""

    def __init__(
        self, connections: int, control: int, end: Callable[[int], object] = os._exit
    ) -> None:
        self._connections = socket.socket(fileno=connections)
        self._control = socket.socket(fileno=control)
        self._signs = b""
        self._pages: dict[bytes, Page] = {}
        self._end = end
        self._stop: Callable[[], object] = lambda: end(0)
        self._came: Callable[[bytes], None] | None = None
        self._opening: set[asyncio.Task[None]] = set()
        self._asked: dict[bytes, deque[asyncio.Future[bytes]]] = {
            messages.SUM: deque(),
            messages.FRONTIER: deque(),
        }

    def orders(self) -> Orders:
        """What to do. From then on a thread listens: when the parent ends, so does this process,
        whatever it is at."""
        self._control.settimeout(ORDERS_WITHIN)
        _, size = ANSWER.unpack(_exactly(self._control, ANSWER.size))
        orders = Orders.unpack(_exactly(self._control, min(size, messages.MAX_ORDERS)))
        self._control.settimeout(None)
        self._connections.setblocking(False)
        threading.Thread(target=self._listen, name="gearshift-parent", daemon=True).start()
        return orders

    def show(self, metrics: Page, triton: Page, beside: Page) -> None:
        """Answer with these pages from now on; they are made on the listening thread."""
        self._pages = {
            messages.METRICS: metrics,
            messages.TRITON: triton,
            messages.BESIDE: beside,
        }

    def show_statistics(self, statistics: Page) -> None:
        """Answer with this one as well."""
        self._pages[messages.STATISTICS] = statistics

    def show_exemplars(self, exemplars: Page) -> None:
        """And with this one, where requests are traced."""
        self._pages[messages.EXEMPLARS] = exemplars

    def on_stop(self, stop: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
        """Call `stop` on `loop` when the parent says so. Before this is set, a process that is
        told to stop ends at once: it has no requests yet."""
        self._stop = lambda: loop.call_soon_threadsafe(stop)

    def on_letter(self, came: Callable[[bytes], None]) -> None:
        """Call this with every letter of the parent, on the loop, once requests are taken."""
        self._came = came

    def write(self, body: bytes) -> None:
        """Send the parent a letter. On the loop."""
        with messages.letter(body) as descriptor:
            try:
                socket.send_fds(self._connections, [messages.LETTER], [descriptor])
            except BlockingIOError:
                asyncio.get_running_loop().call_later(RETRY, self.write, body)
            except (BrokenPipeError, ConnectionResetError):
                pass  # The listening thread ends this process.

    def alive(self) -> None:
        """The start gets on."""
        self._say(messages.ALIVE)

    def ready(self, adopt: Adopt, adopt_inside: Adopt) -> None:
        """Requests are taken: every connection from now on goes to `adopt`, the parent's own to
        `adopt_inside`. On the loop."""
        adopting = {messages.CONNECTION: adopt, messages.INSIDE: adopt_inside}
        asyncio.get_running_loop().add_reader(self._connections, self._take, adopting)
        self._say(messages.READY)

    def draining(self) -> None:
        """Nothing new is taken any more."""
        self._say(messages.DRAINING)

    async def sum(self) -> bytes:
        """What the statistics of all processes add up to, asked from now on. TimeoutError if it
        is not told in time."""
        return await self._ask(messages.ASK, messages.SUM)

    async def frontier(self) -> bytes:
        """The frontier of all processes together. TimeoutError as above."""
        return await self._ask(messages.ASK_FRONTIER, messages.FRONTIER)

    async def _ask(self, question: bytes, answer: bytes) -> bytes:
        asked: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked[answer].append(asked)
        self._say(question)
        async with asyncio.timeout(SUM_WITHIN):
            return await asked

    # --- connections and signs: on the loop -----------------------------------------------

    def _take(self, adopting: Mapping[bytes, Adopt]) -> None:
        for _ in range(TAKEN_AT_ONCE):
            try:
                said, descriptors, _, _ = socket.recv_fds(self._connections, 1, 4)
            except BlockingIOError:
                return
            except OSError:
                said, descriptors = b"", []
            if not said:
                asyncio.get_running_loop().remove_reader(self._connections)
                return
            if said == messages.LETTER:
                for body in map(messages.read_letter, descriptors):
                    if self._came is not None:
                        self._came(body)
                continue
            if said in self._asked:
                self._told(self._asked[said], descriptors)
                continue
            for descriptor in descriptors:
                accepted = socket.socket(fileno=descriptor)
                accepted.setblocking(False)
                task = asyncio.ensure_future(self._open(accepted, adopting[said]))
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)

    def _told(self, waiting: deque[asyncio.Future[bytes]], descriptors: Sequence[int]) -> None:
        """Answers come in the order of the questions, also to those who wait no longer."""
        asked = waiting.popleft()
        for told in map(messages.read_letter, descriptors):
            if asked.done():
                continue
            if told:
                asked.set_result(told)
            else:
                asked.set_exception(TimeoutError("nothing was told"))

    async def _open(self, accepted: socket.socket, adopt: Adopt) -> None:
        try:
            await adopt(accepted, self._closed)
        except OSError:
            # The caller had left before it was served.
            accepted.close()
            self._closed()

    def _closed(self) -> None:
        self._say(messages.CLOSED)

    def _say(self, sign: bytes) -> None:
        waiting = bool(self._signs)
        self._signs += sign
        if not waiting:
            self._send_signs()

    def _send_signs(self) -> None:
        # A parent that is gone hears nothing; the listening thread ends this process.
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            sent = self._connections.send(self._signs)
            self._signs = self._signs[sent:]
        if self._signs:
            asyncio.get_running_loop().call_later(RETRY, self._send_signs)

    # --- questions: on a thread -----------------------------------------------------------

    def _listen(self) -> None:
        try:
            while True:
                asked, number = QUESTION.unpack(_exactly(self._control, QUESTION.size))
                if asked == messages.STOP:
                    self._stop()
                    continue
                body = self._page(asked)
                self._control.sendall(ANSWER.pack(number, len(body)) + body)
        except OSError:
            pass
        # Nobody is left to serve for: no drain, and no wait for whatever this process is at.
        self._end(1)

    def _page(self, asked: bytes) -> bytes:
        page = self._pages.get(asked)
        if page is None:
            return b""
        try:
            return page()
        except Exception:
            # A page that cannot be made must not end those who serve.
            log.exception("the metrics page cannot be made")
            return b""


def _exactly(source: socket.socket, size: int) -> bytes:
    """That many bytes; ConnectionError where the other side ends before."""
    parts = []
    while size:
        part = source.recv(size)
        if not part:
            raise ConnectionResetError("the parent has ended")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
