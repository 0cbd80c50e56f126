"""What lies between a caller and the server: bytes that take their time, in memory.

Takes the place of sockets and of asyncio's transports; keeps the rules of both (order, back
pressure, what was written before a close still arrives).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

HIGH, LOW = 64 * 1024, 16 * 1024
"""Bytes above which asyncio's transports pause who writes, and below which they let it go on."""


class Pipe:
    """One direction. Bytes arrive in order, `delay` seconds after they were sent, unless nobody
    reads; None is the end."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        delay: float,
        deliver: Callable[[bytes | None], None],
    ) -> None:
        self._loop = loop
        self._delay = delay
        self._deliver = deliver
        self._queue: deque[bytes | None] = deque()
        self._arrived = 0
        self.last = 0.0
        """When the last of what was sent arrives."""
        self._reading = True
        self._planned = False
        self.size = 0
        """Bytes on their way."""

    def send(self, data: bytes | None, after: float = 0.0) -> None:
        """`after`: seconds that it is held back, and all behind it."""
        self.last = max(self.last, self._loop.time() + self._delay) + after
        self._queue.append(data)
        self.size += len(data or b"")
        # Timers for the same moment come in any order: each takes what is first in the queue.
        self._loop.call_at(self.last, self._arrive)

    def read(self, reading: bool) -> None:
        self._reading = reading
        if reading:
            self._loop.call_soon(self._pump)

    def cut(self) -> None:
        """What is on its way never arrives."""
        self._queue.clear()
        self.size = 0

    def _arrive(self) -> None:
        self._arrived += 1
        # What arrives in one moment is read together, as from a socket.
        if not self._planned:
            self._planned = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._planned = False
        while self._arrived and self._queue and self._reading:
            together = bytearray()
            ended = False
            while self._arrived and self._queue and not ended:
                self._arrived -= 1
                data = self._queue.popleft()
                ended = data is None
                together += data or b""
            self.size -= len(together)
            if together:
                self._deliver(bytes(together))
            if ended:
                self._deliver(None)


class Link:
    """A connection: the transport of the server's protocol, and the caller's way to it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        delay: float,
        server: asyncio.Protocol,
        received: Callable[[bytes | None], None],
        written: Callable[[bytes], None],
    ) -> None:
        """`received` gets the bytes for the caller, `written` sees what the server writes."""
        self._loop = loop
        self._server = server
        self._written = written
        self._received = received
        self._closing = self._lost = self._paused = False
        self.to_server = Pipe(loop, delay, self._to_server)
        self.to_caller = Pipe(loop, delay, self._to_caller)
        server.connection_made(self)  # type: ignore[arg-type]

    # --- the caller's side -------------------------------------------------------------

    def hang_up(self, *, reset: bool) -> None:
        """The caller closes its end; with `reset` even what it has sent may be lost."""
        if reset:
            self.to_server.cut()
        self.to_server.send(None)

    def _to_server(self, data: bytes | None) -> None:
        if self._lost:
            return
        if data is None:
            self._lose()
        elif not self._closing:
            self._server.data_received(data)

    def _to_caller(self, data: bytes | None) -> None:
        self._received(data)
        if self._paused and self.to_caller.size <= LOW:
            self._paused = False
            if not self._lost:
                self._server.resume_writing()
        if self._closing and not self.to_caller.size and not self._lost:
            self._lose()

    def _lose(self) -> None:
        self._lost = self._closing = True
        self._server.connection_lost(None)
        self.to_caller.send(None)

    # --- asyncio.Transport, as far as the server uses it --------------------------------

    def write(self, data: bytes) -> None:
        assert not self._lost, "written behind the end of a connection"
        self._written(data)
        self.to_caller.send(data)
        if not self._paused and self.to_caller.size > HIGH:
            self._paused = True
            self._server.pause_writing()

    def is_closing(self) -> bool:
        return self._closing

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if not self.to_caller.size:
            self._loop.call_soon(self._closed)

    def abort(self) -> None:
        self._closing = True
        self.to_caller.cut()
        self._loop.call_soon(self._closed)

    def _closed(self) -> None:
        if not self._lost:
            self._lose()

    def get_write_buffer_size(self) -> int:
        return self.to_caller.size

    def pause_reading(self) -> None:
        self.to_server.read(False)

    def resume_reading(self) -> None:
        self.to_server.read(True)
