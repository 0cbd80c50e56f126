"""HTTP/1.1 for a port that anybody may call: uvicorn's protocol, and a time for everything.

uvicorn waits for ever for a request's head, and for whoever does not read an answer.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from gearshift.core.limits import HttpLimits


class Guests:
    """How many are there, and how many found no room. Written on the HTTP thread."""

    def __init__(self, limits: HttpLimits) -> None:
        self.limits = limits
        self.connections = 0
        self.refused = 0


class Guarded(H11Protocol):
    """One connection. From the first byte of a request, or from the beginning, until its answer has
    been read there are `limits.seconds`; one connection too many is closed at once."""

    guests: Guests
    """Of all connections; set by whoever makes a class of it."""

    _begun: float | None = None
    _timer: asyncio.TimerHandle | None = None
    _counted = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        guests = self.guests
        if guests.connections >= guests.limits.connections:
            guests.refused += 1
            transport.abort()
            return
        self._counted = True
        guests.connections += 1
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._counted:
            self._counted = False
            self.guests.connections -= 1
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
            self.transport.abort()

    def _over(self) -> bool:
        """Nothing of a request is there that is not answered, and no answer that is not read."""
        answered = self.cycle is not None and self.cycle.response_complete
        return (
            answered
            and self.conn.their_state is h11.IDLE
            and not self.conn.trailing_data[0]
            and not self.transport.get_write_buffer_size()
        )
