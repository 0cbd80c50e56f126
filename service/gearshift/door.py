"""The port: accepts connections and gives each away."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

import structlog

from gearshift.errors import CannotListen

log = structlog.get_logger(__name__)

BACKLOG = 4_096
"""Connections that may wait to be taken; a fleet of callers may come back all at once."""

AT_ONCE = 64
"""Connections in one turn of the loop."""

FULL_PAUSE = 0.02
"""Seconds until a connection that nobody had room for is offered again."""

BROKEN_PAUSE = 1.0
"""Seconds until connections are taken again when the system has no more file descriptors."""


def bound(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of `host`, bound but not listening: the port is ours, and who
    tries to connect is refused. CannotListen if it is taken."""
    found: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            made = socket.socket(family, kind, protocol)
            found.append(made)
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # With port 0 the first address chooses for all.
            chosen = port or found[0].getsockname()[1]
            made.bind((address[0], chosen, *address[2:]))
    except OSError as error:
        release(found)
        raise CannotListen(host, port, "gRPC", error) from None
    return found


def release(listeners: Sequence[socket.socket]) -> None:
    """Give the port back."""
    for listener in listeners:
        listener.close()


class Door:
    """Takes what comes to `listeners`. `give` gets each connection and says whether it is done
    with it; if not, because all have their hands full, the door waits a little."""

    def __init__(
        self, listeners: Sequence[socket.socket], give: Callable[[socket.socket], bool]
    ) -> None:
        self._listeners = listeners
        self._give = give
        self._held: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """From now on. CannotListen if another program was quicker."""
        for listener in self._listeners:
            try:
                listener.listen(BACKLOG)
            except OSError as error:
                host, port = listener.getsockname()[:2]
                raise CannotListen(host, port, "gRPC", error) from None
        self._resume()

    def shut(self) -> None:
        """Take nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._watch(False)
        self._listeners = ()
        if self._held is not None:
            self._held.close()
            self._held = None

    def _resume(self) -> None:
        if self._held is not None and not self._give(self._held):
            self._timer = asyncio.get_running_loop().call_later(FULL_PAUSE, self._resume)
            return
        self._held = None
        self._watch(True)

    def _pause(self, seconds: float) -> None:
        self._watch(False)
        self._timer = asyncio.get_running_loop().call_later(seconds, self._resume)

    def _watch(self, on: bool) -> None:
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            if on:
                loop.add_reader(listener, self._accept, listener)
            else:
                loop.remove_reader(listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                accepted, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.warning("no connection can be taken", reason=error.strerror)
                self._pause(BROKEN_PAUSE)
                return
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not self._give(accepted):
                self._held = accepted
                self._pause(FULL_PAUSE)
                return
