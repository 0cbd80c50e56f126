"""What goes out on a connection: frames, as far as the peer has room for them."""

from __future__ import annotations

from gearshift.core.limits import Usage
from gearshift.http2 import frames, limits
from gearshift.http2.backpressure import Backpressure
from gearshift.http2.frames import ConnectionFault, StreamFault
from gearshift.http2.stream import Stream
from gearshift.http2.turns import Turns


class FrameWriter(Backpressure):
    """The writing half of a connection, and the streams that write."""

    def __init__(self, usage: Usage, turns: Turns | None) -> None:
        super().__init__(usage, turns)
        self.window = frames.DEFAULT_WINDOW
        """Bytes that may be sent."""
        self.peer_frame = frames.DEFAULT_FRAME
        self.unread = 0
        """Bytes of answers that wait until the peer has room for them."""
        self.ahead = 0
        """Bytes of answers that waited, written in this turn of the loop."""
        self.blocked: set[Stream] = set()
        """Streams with something to send that the peer has no room for."""
        self.streams: dict[int, Stream] = {}
        self._out: list[bytes] = []
        self._flushing = False
        self._peer_window = frames.DEFAULT_WINDOW

    def send(self, data: bytes) -> None:
        """Queue frames; all of one turn of the loop leave together."""
        self._out.append(data)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        data = b"".join(self._out)
        self._out.clear()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
        if self.ahead:
            self.ahead = 0
            if self.blocked and not self.choked:
                self._loop.call_soon(self._unblock)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unblock()

    def has_room(self, size: int) -> bool:
        """Whether an answer of `size` bytes may wait until the peer reads it. If nothing waits,
        any may."""
        most, mine = self._limits.max_unread_bytes, self.unread + size
        if (self.unread and 2 * mine > most) or (
            self.usage.unread and self.usage.unread + size > most and mine > self.usage.share(most)
        ):
            self.usage.reach("max_unread_bytes")
            return False
        return True

    def waits(self, size: int) -> None:
        """So many bytes of answers more wait until the peer has room for them."""
        self.unread += size
        self.usage.unread += size

    def _unblock(self) -> None:
        for stream in list(self.blocked):
            self.blocked.discard(stream)
            stream.flush()

    def _opened(self, number: int, what: str) -> Stream | None:
        """The stream, None if it is over; one that never began is a fault."""
        if number == 0 or number > self._last_stream:
            raise ConnectionFault(frames.PROTOCOL_ERROR, f"{what} of idle stream {number}")
        return self.streams.get(number)

    def _on_window_update(self, number: int, payload: bytes) -> None:
        more = frames.read_word(payload, "WINDOW_UPDATE") & frames.LARGEST_WINDOW
        if more <= limits.TINY:
            self._idle()
        if number == 0:
            self.window += more
            if not more or self.window > frames.LARGEST_WINDOW:
                code = frames.FLOW_CONTROL_ERROR if more else frames.PROTOCOL_ERROR
                raise ConnectionFault(code, f"a window grows by {more}")
            self._unblock()
            return
        stream = self._opened(number, "WINDOW_UPDATE")
        if stream is None:
            return
        stream.window += more
        if not more or stream.window > frames.LARGEST_WINDOW:
            code = frames.FLOW_CONTROL_ERROR if more else frames.PROTOCOL_ERROR
            raise StreamFault(number, code, f"a window grows by {more}")
        stream.flush()

    def _on_settings(self, payload: bytes) -> None:
        # Only the last of each name counts: every one would change the window of every stream.
        for name, value in dict(frames.read_settings(payload)).items():
            if name == frames.INITIAL_WINDOW_SIZE:
                for stream in self.streams.values():
                    stream.window += value - self._peer_window
                    if stream.window > frames.LARGEST_WINDOW:
                        raise ConnectionFault(
                            frames.FLOW_CONTROL_ERROR, "SETTINGS make a window too large"
                        )
                self._peer_window = value
            elif name == frames.MAX_FRAME_SIZE:
                self.peer_frame = min(value, limits.MAX_FRAME)
        self.send(frames.frame(frames.SETTINGS, frames.ACK, 0))
        self._unblock()
