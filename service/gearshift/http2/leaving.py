"""How a connection and its streams end: without loss where the peer goes along, at once where it
does not."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any

from gearshift.core.limits import Usage
from gearshift.http2 import frames
from gearshift.http2.backpressure import ENDING
from gearshift.http2.frame_writer import FrameWriter
from gearshift.http2.frames import ConnectionFault, StreamFault
from gearshift.http2.stream import Stream
from gearshift.http2.turns import Turns

GOING = "shutting down"

CLOSED, CLOSE_WAIT, LAST_ACK = 7, 8, 9
"""States of a TCP connection whose peer sends nothing more (RFC 9293), as Linux numbers them."""


class Leaving(FrameWriter):
    """A connection as far as it comes to an end."""

    def __init__(self, usage: Usage, turns: Turns | None) -> None:
        super().__init__(usage, turns)
        self._leaving = False
        self._heard: Callable[[], None] | None = None

    def forget(self, stream: Stream) -> None:
        """`stream` is over."""
        if self.streams.pop(stream.id, None) is not None:
            self.usage.requests -= 1
        self.blocked.discard(stream)
        if self._leaving:
            self._close_if_done()

    def bid_farewell(self, heard: Callable[[], None]) -> None:
        """Let the peer go elsewhere without losing what it sends until it hears of it: that is
        still taken. Then `leave`. `heard` is called once, then or when the connection is over
        (RFC 9113, section 6.8)."""
        if self._leaving:
            heard()
            return
        self._heard = heard
        if self._transport is None:  # the peer has sent nothing yet
            self.leave()
            return
        self.send(frames.goaway(frames.LARGEST_STREAM, frames.NO_ERROR, GOING))
        # Whoever answers this has read what was before it.
        self.send(frames.frame(frames.PING, 0, 0, frames.FAREWELL))

    def leave(self) -> None:
        """Take nothing new; close when what is open has been answered."""
        if not self._leaving:
            self._leaving = True
            self._told()
            if self._transport is not None:
                self._depart()

    def _depart(self) -> None:
        self.send(frames.goaway(self._last_stream, frames.NO_ERROR, GOING))
        self._close_if_done()

    def _told(self) -> None:
        heard, self._heard = self._heard, None
        if heard is not None:
            heard()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def has_left(self) -> bool:
        # While it is read from, the end comes by itself.
        if not self._held_back or self._transport is None:
            return False
        if _closed_by_peer(self._transport.get_extra_info("socket")):
            self.abort()
            return True
        return False

    def reset(self) -> None:
        """Close at once, and with it what the system keeps for a peer that does not read."""
        if self._transport is not None:
            opened = self._transport.get_extra_info("socket")
            if opened is not None:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    def _close_if_done(self) -> None:
        if not self.streams:
            self._loop.call_soon(self._close)

    def _close(self) -> None:
        if self._transport is not None:
            self._flush()
            # Who does not read does not hear of the end either.
            self._stuck.setdefault(ENDING, self._loop.time())
            self._transport.close()

    def drop(self, fault: StreamFault) -> None:
        stream = self.streams.get(fault.stream)
        self.send(frames.rst_stream(fault.stream, fault.code))
        if stream is not None:
            self._cancel(stream)
        if fault.code == frames.REFUSED_STREAM:
            self._idle()
        else:
            self.broke()

    def give_up(self, stream: Stream, code: int) -> None:
        """End a stream that does not get on."""
        self.send(frames.rst_stream(stream.id, code))
        self._cancel(stream)

    def _cancel(self, stream: Stream) -> None:
        receiver = stream.receiver
        stream.end()
        receiver.cancelled()

    def fail(self, fault: ConnectionFault) -> None:
        self.send(frames.goaway(self._last_stream, fault.code, str(fault)))
        self._close()


def _closed_by_peer(opened: Any) -> bool:
    """Whether no more bytes will come but those that have; False where the system does not tell."""
    if opened is None or not hasattr(socket, "TCP_INFO"):
        return False
    try:
        state = opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    except (OSError, ValueError):  # not TCP; or closed here
        return False
    return bool(state[0] in (CLOSED, CLOSE_WAIT, LAST_ACK))
