"""One unary call to this very program, over a socket that nobody else can have.

The page's own questions go this way: no port, no certificate and no credentials are needed for it,
whatever the port asks of others. Blocks; from any thread but that of the loop.
"""

from __future__ import annotations

import socket
import time
from typing import NamedTuple
from urllib.parse import unquote

import grpc
import hpack

from gearshift.http2 import frames
from gearshift.http2.header_blocks import write
from gearshift.rpc import wire

STREAM = 1

LARGEST = 16 * 1024 * 1024
"""Bytes of an answer."""

CODES = {code.value[0]: code for code in grpc.StatusCode}


class Ended(NamedTuple):
    """How the call ended; the message is empty where there is none."""

    code: grpc.StatusCode
    text: str
    message: bytes


def call(connection: socket.socket, path: str, message: bytes, within: float) -> Ended:
    """Ask, and wait for the end of it for so many seconds. DEADLINE_EXCEEDED and UNAVAILABLE are
    endings as well; nothing is raised."""
    deadline = time.monotonic() + within
    try:
        connection.settimeout(within)
        connection.sendall(_asked(path, message, within))
        return _answered(connection, deadline)
    except TimeoutError:
        return Ended(grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer in {within:g} s", b"")
    except (OSError, hpack.HPACKError, frames.ConnectionFault) as error:
        return Ended(grpc.StatusCode.UNAVAILABLE, f"the connection was lost: {error}", b"")


def _asked(path: str, message: bytes, within: float) -> bytes:
    fields = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path.encode()),
        (b":authority", b"inside"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"grpc-timeout", b"%dm" % (within * 1e3)),
    )
    return b"".join(
        (
            frames.PREFACE,
            frames.settings(()),
            frames.frame(frames.HEADERS, frames.END_HEADERS, STREAM, write(fields)),
            frames.frame(frames.DATA, frames.END_STREAM, STREAM, wire.framed(message)),
        )
    )


def _answered(connection: socket.socket, deadline: float) -> Ended:
    decoder = hpack.Decoder()
    fields: dict[str, str] = {}
    body = bytearray()
    while True:
        kind, flags, number, payload = _frame(connection, deadline)
        if kind == frames.SETTINGS and not flags & frames.ACK:
            connection.sendall(frames.frame(frames.SETTINGS, frames.ACK, 0))
        elif kind == frames.PING and not flags & frames.ACK:
            connection.sendall(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif kind == frames.HEADERS and number == STREAM:
            for name, value in decoder.decode(payload, raw=True):
                fields[bytes(name).decode("latin-1")] = bytes(value).decode("latin-1")
        elif kind == frames.DATA and number == STREAM:
            body += payload
            connection.sendall(frames.window_update(0, max(1, len(payload))))
            connection.sendall(frames.window_update(STREAM, max(1, len(payload))))
        elif kind == frames.RST_STREAM and number == STREAM:
            raise ConnectionResetError("the call was refused")
        if number == STREAM and flags & frames.END_STREAM and kind in (frames.DATA, frames.HEADERS):
            break
        if len(body) > LARGEST:
            raise ConnectionResetError(f"an answer above {LARGEST} bytes")
    status = fields.get("grpc-status", "")
    code = CODES.get(int(status) if status.isdigit() else -1, grpc.StatusCode.UNKNOWN)
    return Ended(code, unquote(fields.get("grpc-message", "")), bytes(body[wire.PREFIX :]))


def _frame(connection: socket.socket, deadline: float) -> tuple[int, int, int, bytes]:
    high, low, kind, flags, number = frames.HEAD.unpack(
        _exactly(connection, frames.HEAD_SIZE, deadline)
    )
    return kind, flags, number, _exactly(connection, high << 8 | low, deadline)


def _exactly(connection: socket.socket, size: int, deadline: float) -> bytes:
    parts = []
    while size:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        part = connection.recv(size)
        if not part:
            raise ConnectionResetError("it was closed")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
