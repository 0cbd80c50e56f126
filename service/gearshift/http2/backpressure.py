"""How a peer is held back: one that does not read what it is sent is not read from either, and one
that does what costs work and brings nothing, or cancels without end, is sent away.
"""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

from gearshift.core.limits import Usage, told
from gearshift.http2 import frames, limits
from gearshift.http2.frame_reader import FrameReader
from gearshift.http2.frames import ConnectionFault
from gearshift.http2.patience import Patience
from gearshift.http2.turns import Turns

SENDING, READING, ENDING = "sending", "reading", "ending"
"""What a peer may not get on with."""


class Backpressure(FrameReader):
    """A connection as far as it keeps its peer from sending: choked as long as the peer does not
    read, held back while more comes than can be read, resting when its client sent too much."""

    def __init__(self, usage: Usage, turns: Turns | None) -> None:
        """`usage` is that of all connections together; reading goes by `turns`."""
        super().__init__(turns)
        self.usage = usage
        self._limits = usage.limits
        self.choked = False
        """The peer does not read: nothing more is written until it does."""
        self._patience = Patience()
        self._kept = 0
        """Bytes of frames and header blocks that are not complete."""
        self._stuffed = 0
        """Bytes that the peer had not read when it was last looked."""
        self._stuck: dict[str, float] = {}
        """Since when what does not get on, on the loop's clock."""
        self._transport: Any = None
        self._loop = asyncio.get_running_loop()
        self._last_stream = 0
        self._block: tuple[int, int, bytearray] | None = None
        """Stream, flags and bytes of a header block that goes on in the next frame."""
        self._held_back = self._resting = False
        self._client: str | None = None
        self._many_clients = False

    def pause_writing(self) -> None:
        self.choked = True
        self._stuck[READING] = self._loop.time()
        self._stuff(self._transport.get_write_buffer_size())
        self._read_or_not()

    def resume_writing(self) -> None:
        self.choked = False
        self._stuck.pop(READING, None)
        self._stuff(0)
        self._read_or_not()

    def hold_back(self, held: bool) -> None:
        if held is not self._held_back:
            self._held_back = held
            self._read_or_not()

    def _read_or_not(self) -> None:
        """A peer that does not read, or sends more than can be read, is not read from."""
        if self._transport is not None and not self._transport.is_closing():
            if self.choked or self._held_back or self._resting:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def used_by(self, client: str) -> None:
        """A request of this client came; there may be several behind one proxy."""
        if self._client is None:
            self._client = client
        elif client != self._client:
            self._many_clients = True

    def rest(self, seconds: float) -> None:
        """Read nothing for so long, because its one client has sent too much: what it sends then
        waits with itself. Where several clients share the connection, the others would wait, too,
        and nothing is done."""
        if not self._many_clients and not self._resting:
            self._resting = True
            self._read_or_not()
            self._loop.call_later(seconds, self._rested)

    def _rested(self) -> None:
        self._resting = False
        self._read_or_not()

    def _stuff(self, size: int) -> None:
        """So many bytes lie between here and the peer."""
        self.usage.unread += size - self._stuffed
        self._stuffed = size

    def keep(self, size: int, *, moved: bool) -> None:
        size += len(self._block[2]) if self._block is not None else 0
        self.usage.held += size - self._kept
        self._kept = size
        if not size:
            self._stuck.pop(SENDING, None)
            return
        if moved or SENDING not in self._stuck:
            self._stuck[SENDING] = self._loop.time()
        most = self._limits.max_held_bytes
        if self.usage.held > most and size > self.usage.share(most):
            self._too_much("max_held_bytes", "bytes of requests that are not complete")

    def stalled(self, before: float) -> bool:
        """Something does not get on since `before`, on the loop's clock: a frame that is not
        complete, what the peer does not read, or the end."""
        self.look()
        return any(since < before for since in self._stuck.values())

    def look(self) -> None:
        """How much has the peer read?"""
        if self.choked and self._transport is not None:
            size = self._transport.get_write_buffer_size()
            if size < self._stuffed:
                self._stuck[READING] = self._loop.time()
            self._stuff(size)

    def now(self) -> float:
        """Seconds on the loop's clock."""
        return self._loop.time()

    def _idle(self, cost: int = 1) -> None:
        """Count what says nothing."""
        most = self._limits.max_idle_frames_per_second
        if not self._patience.idle(self._loop.time(), most, cost):
            self._too_much("max_idle_frames_per_second", "frames in a second that say nothing")

    def bomb(self) -> None:
        """Count a message that was found too large only after it had cost much to unpack."""
        for _ in range(limits.BOMB):
            self.broke()

    def broke(self) -> None:
        """Count a stream that the peer cancelled or broke, or that was one too many of all."""
        most, begun = self._limits.max_cancels_per_second, (self._last_stream + 1) // 2
        if not self._patience.broken(self._loop.time(), most, begun):
            self._too_much("max_cancels_per_second", "cancelled calls in a second")

    def _too_much(self, limit: str, what: str) -> NoReturn:
        """Send away a peer that has come to a limit of its connection."""
        self.usage.reach(limit)
        raise ConnectionFault(
            frames.ENHANCE_YOUR_CALM, told(limit, getattr(self._limits, limit), what)
        )
