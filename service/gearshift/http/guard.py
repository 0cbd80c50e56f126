"""HTTP/1.1 for a port that anybody may call: uvicorn's protocol, and a time for everything.

uvicorn waits for ever for a request's head, and for whoever does not read an answer.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from gearshift.core.limits import HttpLimits


class Guests:
    """Who is there, and how many had to go. Written on the HTTP thread."""

    def __init__(self, limits: HttpLimits) -> None:
        self.limits = limits
        self.there: dict[Guarded, None] = {}
        """Who asked longest ago comes first."""
        self.refused = 0

    def make_room(self) -> None:
        """Let who asked longest ago go if there are as many as may be: those who only hold a
        connection must not keep probes and scrapers out."""
        while len(self.there) >= self.limits.connections:
            self.refused += 1
            drop(self.leave(next(iter(self.there))).transport)

    def asks(self, guest: Guarded) -> None:
        """It is there, and has just asked something."""
        self.there.pop(guest, None)
        self.there[guest] = None

    def leave(self, guest: Guarded) -> Guarded:
        """It is there no longer."""
        self.there.pop(guest, None)
        return guest


class Guarded(H11Protocol):
    """One connection. From the first byte of a request, or from the beginning, until its answer has
    been read there are `limits.seconds`; for one connection too many the one that asked longest ago
    is closed."""

    guests: Guests
    """Of all connections; set by whoever makes a class of it."""

    _begun: float | None = None
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.guests.make_room()
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self.guests.leave(self)
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._begun is None or self._over():
            self._begin()
        super().data_received(data)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._over():
            self._begun = None

    def _begin(self) -> None:
        self._begun = self.loop.time()
        self.guests.asks(self)
        if self._timer is None:
            self._timer = self.loop.call_later(self.guests.limits.seconds, self._look)

    def _look(self) -> None:
        """Is it over by now, or is it time?"""
        self._timer = None
        if self._begun is None:
            return
        left = self._begun + self.guests.limits.seconds - self.loop.time()
        if left > 0:
            self._timer = self.loop.call_later(left, self._look)
        elif self._over():
            self._begun = None
        else:
            drop(self.transport)

    def _over(self) -> bool:
        """Nothing of a request is there that is not answered, and no answer that is not read."""
        answered = self.cycle is not None and self.cycle.response_complete
        return (
            answered
            and self.conn.their_state is h11.IDLE
            and not self.conn.trailing_data[0]
            and not self.transport.get_write_buffer_size()
        )


def drop(transport: Any) -> None:
    """Close a connection at once, and with it what the system keeps for a peer that does not
    read."""
    opened = transport.get_extra_info("socket")
    if opened is not None:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
