"""Frames as bytes (RFC 9113, sections 4, 6 and 7)."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from gearshift.http2 import limits

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What every client sends first."""

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 5, 6, 7, 8, 9

BLOCKS = frozenset((HEADERS, CONTINUATION))
"""What header blocks come in."""

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITISED = 0x20
PRIORITY_SIZE = 5

ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 2, 3, 4
MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 5, 6

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 0, 1, 2, 3
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = 5, 6, 7, 8, 9
ENHANCE_YOUR_CALM = 11

HEAD = struct.Struct(">HBBBL")
"""A frame's head: its length (upper 16 bits and lower 8), type, flags, stream."""
HEAD_SIZE = HEAD.size

DEFAULT_WINDOW = 65_535
DEFAULT_FRAME = 16_384
LARGEST_WINDOW = 2**31 - 1
LARGEST_STREAM = 2**31 - 1

FAREWELL = b"farewell"
"""What the PING carries whose answer says that a GOAWAY has been read."""

_WORD = struct.Struct(">L")
_SETTING = struct.Struct(">HL")


class ConnectionFault(Exception):
    """The peer broke the protocol in a way that ends the connection."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class StreamFault(Exception):
    """The peer did with one stream what it must not; the others go on."""

    def __init__(self, stream: int, code: int, text: str) -> None:
        super().__init__(text)
        self.stream = stream
        self.code = code


def head(length: int, kind: int, flags: int, stream: int) -> bytes:
    return HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return head(len(payload), kind, flags, stream) + payload


def settings(values: Iterable[tuple[int, int]]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*value) for value in values))


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    if len(payload) % _SETTING.size:
        raise ConnectionFault(FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes")
    found = [(number, value) for number, value in _SETTING.iter_unpack(payload)]
    for name, value in found:
        if name == ENABLE_PUSH and value > 1:
            raise ConnectionFault(PROTOCOL_ERROR, f"ENABLE_PUSH of {value}")
        if name == INITIAL_WINDOW_SIZE and value > LARGEST_WINDOW:
            raise ConnectionFault(FLOW_CONTROL_ERROR, f"a window of {value}")
        if name == MAX_FRAME_SIZE and not DEFAULT_FRAME <= value < 2**24:
            raise ConnectionFault(PROTOCOL_ERROR, f"frames of {value} bytes")
    return found


OF_THE_CONNECTION = {SETTINGS: "SETTINGS", PING: "PING", GOAWAY: "GOAWAY"}


def check(kind: int, flags: int, stream: int, payload: bytes) -> None:
    """What frames other than DATA and HEADERS must be, whatever came before (section 6)."""
    told = OF_THE_CONNECTION.get(kind)
    if told and stream:
        raise ConnectionFault(PROTOCOL_ERROR, f"{told} of a stream")
    if kind == SETTINGS and flags & ACK and payload:
        raise ConnectionFault(FRAME_SIZE_ERROR, "an ACK with SETTINGS")
    if kind == PING and len(payload) != 8:
        raise ConnectionFault(FRAME_SIZE_ERROR, f"PING of {len(payload)} bytes")
    if kind == PUSH_PROMISE:
        raise ConnectionFault(PROTOCOL_ERROR, "clients do not push")
    if kind == PRIORITY:
        if not stream:
            raise ConnectionFault(PROTOCOL_ERROR, "PRIORITY of no stream")
        if len(payload) != PRIORITY_SIZE:
            raise StreamFault(stream, FRAME_SIZE_ERROR, f"PRIORITY of {len(payload)} bytes")


def window_update(stream: int, more: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, _WORD.pack(more))


def rst_stream(stream: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream, _WORD.pack(code))


def goaway(last: int, code: int, text: str = "") -> bytes:
    return frame(GOAWAY, 0, 0, _WORD.pack(last) + _WORD.pack(code) + text.encode()[:256])


def read_word(payload: bytes, what: str) -> int:
    """The 32 bits of a WINDOW_UPDATE or RST_STREAM."""
    if len(payload) != _WORD.size:
        raise ConnectionFault(FRAME_SIZE_ERROR, f"{what} of {len(payload)} bytes")
    (value,) = _WORD.unpack(payload)
    return int(value)


def unpadded(payload: bytes, flags: int) -> bytes:
    """The payload of a DATA or HEADERS frame without its padding."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(PROTOCOL_ERROR, "padding as long as the frame")
    return payload[1 : len(payload) - payload[0]]


def joined(data: bytes, number: int, first: bytes, at: int) -> tuple[int, int, bytes]:
    """The payload of a DATA frame and of those that follow whole and plain from `at` on: their
    flags, where they end, and their bytes. To the receiver it is one as well as several."""
    parts, flags, size = [first], 0, len(data)
    while not flags and size - at >= HEAD_SIZE:
        high, low, kind, more, other = HEAD.unpack_from(data, at)
        length = high << 8 | low
        end = at + HEAD_SIZE + length
        if kind != DATA or other != number or end > size or more & ~END_STREAM:
            break
        if length > limits.MAX_FRAME:
            break
        parts.append(data[at + HEAD_SIZE : end])
        flags, at = more, end
    return flags, at, b"".join(parts) if len(parts) > 1 else first
