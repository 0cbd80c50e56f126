"""Bytes into frames (RFC 9113, sections 3.4 and 4), however they are cut on their way."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque

from gearshift.http2 import frames, limits
from gearshift.http2.frames import ConnectionFault, StreamFault
from gearshift.http2.given_up import GivenUp
from gearshift.http2.turns import Turns

MOST_UNREAD = 64 * 1024
"""Bytes that wait to be read before the peer may send no more."""


class FrameReader(asyncio.Protocol):
    """The reading half of a connection; what frames mean is said by who inherits from it."""

    def __init__(self, turns: Turns | None = None) -> None:
        """With `turns` it reads no longer at a stretch than they allow."""
        self.received = 0.0
        """When the bytes came that are being read, in monotonic seconds."""
        self.given_up = GivenUp()
        """Those of what waits to be read."""
        self.turns = turns
        self._unread: deque[tuple[bytes, float]] = deque()
        self._unread_size = 0
        self._stopped = False
        """The time was over before all whole frames were taken."""
        self._rest = bytearray()
        self._wanted = 0
        """How many bytes must be there before it is worth looking again."""
        self._greeted = False
        self._going_on: tuple[int, int, int] | None = None
        """Flags, stream and missing bytes of a DATA frame that has come in part."""

    def take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """One frame of stream `number`. Raises what is wrong with it."""
        raise NotImplementedError

    def drop(self, fault: StreamFault) -> None:
        """A stream ends by its peer's fault."""
        raise NotImplementedError

    def keep(self, size: int, *, moved: bool) -> None:
        """`size` bytes of what is not complete are kept from now on; something was, if `moved`.
        Raises if that are too many."""
        raise NotImplementedError

    def fail(self, fault: ConnectionFault) -> None:
        """The connection ends by its peer's fault."""
        raise NotImplementedError

    def has_left(self) -> bool:
        """The peer has closed the connection, which is not noticed while nothing is read from it;
        then it is closed here as well."""
        raise NotImplementedError

    def hold_back(self, held: bool) -> None:
        """Let the peer send no more, or again."""
        raise NotImplementedError

    @property
    def greeted(self) -> bool:
        """The peer speaks HTTP/2."""
        return self._greeted

    def data_received(self, data: bytes) -> None:
        turns = self.turns
        if turns is None:
            self.received = time.monotonic()
            self._feed(data, math.inf)
            return
        now = turns.now()
        if self._unread:
            self._leave_unread(data, now)
            return
        self.received = now
        left = self._feed(data, turns.until(now))
        if left:
            self._leave_unread(left, now)
            turns.wait(self)

    def go_on(self) -> bool:
        """Read what waits, as far as there is time; whether some is left."""
        turns, unread = self.turns, self._unread
        assert turns is not None
        if self.has_left():
            return False
        until = turns.until(turns.now())
        while unread:
            data, self.received = unread.popleft()
            self._unread_size -= len(data)
            left = self._feed(data, until)
            if left:
                unread.appendleft((left, self.received))
                self._unread_size += len(left)
                return True
            if turns.now() >= until:
                break
        if self._unread_size <= MOST_UNREAD // 2:
            self.hold_back(False)
        return bool(unread)

    def forget_unread(self) -> None:
        """The connection is over: what came is of no use any more."""
        if self._unread and self.turns is not None:
            self.turns.forget(self)
        self._unread.clear()
        self._unread_size = 0

    def _leave_unread(self, data: bytes, now: float) -> None:
        if not self._unread:
            self.given_up.begin()
        self.given_up.look(data)
        self._unread.append((data, now))
        self._unread_size += len(data)
        if self._unread_size > MOST_UNREAD:
            self.hold_back(True)

    def _feed(self, data: bytes, until: float) -> bytes:
        """Read `data` behind what was kept of a frame; what of it there was no time for."""
        partly, self._stopped = bool(self._rest), False
        try:
            if partly:
                self._rest += data
                if len(self._rest) < self._wanted:
                    self.keep(len(self._rest), moved=False)
                    return b""
                data = bytes(self._rest)
                self._rest.clear()
            at = self._read(data, until)
            left = data[at:] if at else data
            if left and not self._stopped:
                self._rest += left
                left, partly = b"", True
            if partly:
                self.keep(len(self._rest), moved=at > 0)
        except ConnectionFault as fault:
            self.fail(fault)
            self._unread.clear()
            self._unread_size = 0
            return b""
        return left

    def _read(self, data: bytes, until: float) -> int:
        """Take the whole frames in `data`, until then; how many bytes they were."""
        at, size = 0, len(data)
        if not self._greeted:
            if not data.startswith(frames.PREFACE[:size]):
                raise ConnectionFault(frames.PROTOCOL_ERROR, "this is not HTTP/2")
            at = len(frames.PREFACE)
            self._wanted = at + frames.HEAD_SIZE
            if size < self._wanted:
                return 0
            _, _, kind, flags, _ = frames.HEAD.unpack_from(data, at)
            if kind != frames.SETTINGS or flags & frames.ACK:
                raise ConnectionFault(
                    frames.PROTOCOL_ERROR, "the first frame of a client is its SETTINGS"
                )
            self._greeted = True
        if self._going_on is not None:
            # In good pieces: each of them costs something, however small it is.
            self._wanted = min(limits.LARGE, self._going_on[2])
            if size < self._wanted:
                return 0
            at = self._on_rest_of_data(data)
        unpack, head_size = frames.HEAD.unpack_from, frames.HEAD_SIZE
        while size - at >= head_size:
            high, low, kind, flags, number = unpack(data, at)
            length = high << 8 | low
            if length > limits.MAX_FRAME:
                raise ConnectionFault(
                    frames.FRAME_SIZE_ERROR, f"a frame of {length} bytes, above {limits.MAX_FRAME}"
                )
            if kind != frames.DATA and length > limits.MAX_CONTROL and kind not in frames.BLOCKS:
                raise ConnectionFault(
                    frames.ENHANCE_YOUR_CALM, f"a frame of type {kind} with {length} bytes"
                )
            begin = at + head_size
            end = begin + length
            if end > size:
                if kind == frames.DATA and not flags & frames.PADDED and length > limits.LARGE:
                    if size - begin < limits.LARGE:
                        self._wanted = begin - at + limits.LARGE
                        return at
                    # What is there of it is passed on at once instead of being kept here.
                    self._going_on = flags, number & frames.LARGEST_STREAM, length
                    return begin + self._on_rest_of_data(data[begin:])
                self._wanted = end - at
                return at
            payload = data[begin:end]
            if kind == frames.DATA and not flags and size - end >= head_size:
                # What follows on the same stream is taken together with it.
                flags, end, payload = frames.joined(data, number, payload, end)
            at = end
            try:
                self.take(kind, flags, number & frames.LARGEST_STREAM, payload)
            except StreamFault as fault:
                self.drop(fault)
            if until < math.inf and at < size and time.monotonic() >= until:
                self._stopped = True
                break
        self._wanted = head_size
        return at

    def _on_rest_of_data(self, data: bytes) -> int:
        """Take what belongs to the DATA frame under way; how many bytes that was."""
        assert self._going_on is not None
        flags, number, missing = self._going_on
        part = data[:missing]
        if len(part) < missing:
            self._going_on = flags, number, missing - len(part)
            flags &= ~frames.END_STREAM
        else:
            self._going_on = None
        try:
            self.take(frames.DATA, flags, number, part)
        except StreamFault as fault:
            self.drop(fault)
        return len(part)
