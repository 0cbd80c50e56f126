"""Streams that their peer gives up in bytes which wait to be read.

Who can wait no longer cancels, and that stands behind the request in the same bytes. A server that
has fallen behind and reads one frame after the other begins each of these requests, only to find
then that nobody waits for it: callers who have left keep it busy, so it stays behind, and does so
after a burst for as long as what the burst has left in the sockets lasts.
"""

from __future__ import annotations

from gearshift.http2 import frames

MOST = 512
"""Streams: about as many requests as wait in one connection's bytes."""


class GivenUp:
    """Looks through bytes before they are read, for RST_STREAM frames only."""

    __slots__ = ("_cut", "_skip", "streams")

    def __init__(self) -> None:
        self.streams: set[int] = set()
        """Who takes a stream's RST_STREAM takes its number out."""
        self._skip = 0
        self._cut = b""
        """A frame's head that is not complete."""

    def begin(self) -> None:
        """The next bytes begin with a frame."""
        self._skip = 0
        self._cut = b""

    def look(self, data: bytes) -> None:
        """The next bytes."""
        if self._cut:
            data = self._cut + data
        at, size, unpack = self._skip, len(data), frames.HEAD.unpack_from
        while size - at >= frames.HEAD_SIZE:
            high, low, kind, _, number = unpack(data, at)
            if kind == frames.RST_STREAM and len(self.streams) < MOST:
                self.streams.add(number & frames.LARGEST_STREAM)
            at += frames.HEAD_SIZE + (high << 8 | low)
        self._cut = data[at:]
        self._skip = max(0, at - size)
