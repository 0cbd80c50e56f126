"""What the server and a worker process say to each other: JSON behind its length.

Two pairs of sockets connect them. On the first go runs, one at a time; the tensors lie in two
segments that both have mapped. On the second go orders (what to load, unload, inspect), which a
thread of its own carries out there: a load takes seconds, and must not hold up a run. The end of
either is the end of the process.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping
from typing import Any

HEAD = struct.Struct("!I")

MOST = 16 * 2**20
"""Bytes of one message: names, shapes and paths, no tensors."""

Message = Mapping[str, Any]


def packed(message: Message) -> bytes:
    """As it is sent."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return HEAD.pack(len(body)) + body


def received(source: socket.socket) -> Message:
    """The next message. ConnectionResetError if the other side has ended, TimeoutError where the
    socket has a timeout."""
    (size,) = HEAD.unpack(_exactly(source, HEAD.size))
    return unpacked(_exactly(source, checked(size)))


def unpacked(body: bytes | bytearray) -> Message:
    """From the bytes behind the length."""
    found: Message = json.loads(body)
    return found


def checked(size: int) -> int:
    """A length that may be; ConnectionResetError for one that only a broken process sends."""
    if size > MOST:
        raise ConnectionResetError(f"a message of {size} bytes, above {MOST}")
    return size


def _exactly(source: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = source.recv(size - len(parts))
        if not part:
            raise ConnectionResetError("the other process has ended")
        parts += part
    return bytes(parts)
