"""Bytes into frames (RFC 9113, sections 3.4 and 4), however they are cut on their way."""

from __future__ import annotations

import asyncio

from gearshift.http2 import frames, limits
from gearshift.http2.frames import ConnectionFault, StreamFault


class FrameReader(asyncio.Protocol):
    """The reading half of a connection; what frames mean is said by who inherits from it."""

    def __init__(self) -> None:
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

    @property
    def greeted(self) -> bool:
        """The peer speaks HTTP/2."""
        return self._greeted

    def data_received(self, data: bytes) -> None:
        partly = bool(self._rest)
        try:
            if partly:
                self._rest += data
                if len(self._rest) < self._wanted:
                    self.keep(len(self._rest), moved=False)
                    return
                data = bytes(self._rest)
                self._rest.clear()
            at = self._read(data)
            if at < len(data):
                self._rest += data[at:] if at else data
                partly = True
            if partly:
                self.keep(len(self._rest), moved=at > 0)
        except ConnectionFault as fault:
            self.fail(fault)

    def _read(self, data: bytes) -> int:
        """Take the whole frames in `data`; how many bytes they were."""
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
