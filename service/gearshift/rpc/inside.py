"""Unary calls to this very program, over sockets that nobody else can have.

The page's own questions and what comes over HTTP go this way: no port and no certificate are needed
for it, whatever the port asks of others. Who asks for somebody else says so (`OnBehalf`), and has
then that one's rights.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote

import grpc
import hpack

from gearshift.http2 import frames
from gearshift.http2.header_blocks import write
from gearshift.rpc import wire

STREAM = 1

LARGEST = 256 * 1024 * 1024
"""Bytes of an answer."""

LONGEST_TIMEOUT = 99_999_999
"""Milliseconds that a grpc-timeout can say."""

CODES = {code.value[0]: code for code in grpc.StatusCode}

ON_BEHALF = "gearshift-on-behalf"
"""The header that says for whom a call from inside is made; from elsewhere it means nothing."""


class Ended(NamedTuple):
    """How the call ended; the message is empty where there is none. `fields` are the headers and
    trailers of the answer."""

    code: grpc.StatusCode
    text: str
    message: bytes
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class OnBehalf:
    """Who it is that asks by HTTP: where from, with which names in a verified certificate, with
    what in the header `authorization`, and with which other headers."""

    peer: str = ""
    names: Sequence[str] = ()
    authorization: str = field(default="", repr=False)
    metadata: Sequence[tuple[bytes, bytes]] = ()

    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        told = json.dumps({"peer": self.peer, "names": list(self.names)})
        found = [(ON_BEHALF.encode(), told.encode())]
        if self.authorization:
            found.append((b"authorization", self.authorization.encode("latin-1", "replace")))
        return [*found, *self.metadata]

    @classmethod
    def told(cls, value: str) -> OnBehalf:
        """From the header's value."""
        found = json.loads(value)
        return cls(found["peer"], tuple(found["names"]))


async def call(
    connection: socket.socket,
    path: str,
    message: bytes,
    within: float = math.inf,
    behalf: OnBehalf | None = None,
) -> Ended:
    """Ask, and wait for the end of it for so many seconds. DEADLINE_EXCEEDED and UNAVAILABLE are
    endings as well; nothing is raised. The connection is closed in the end: to cancel this is to
    leave."""
    try:
        connection.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=connection)
    except OSError as error:
        connection.close()
        return Ended(grpc.StatusCode.UNAVAILABLE, f"the connection was lost: {error}", b"", {})
    asking = _Call(reader, writer)
    try:
        async with asyncio.timeout(None if within == math.inf else within):
            return await asking.ask(path, message, within, behalf)
    except TimeoutError:
        return Ended(grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer in {within:g} s", b"", {})
    except (OSError, EOFError, hpack.HPACKError, frames.ConnectionFault) as error:
        return Ended(grpc.StatusCode.UNAVAILABLE, f"the connection was lost: {error}", b"", {})
    finally:
        writer.transport.abort()


class _Call:
    """One call on a connection of its own. What may be sent is bounded by the server's windows;
    ours are as large as can be."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = hpack.Decoder()
        self._fields: dict[str, str] = {}
        self._body = bytearray()
        self._initial = self._stream = self._connection = frames.DEFAULT_WINDOW
        self._unsent = memoryview(b"")

    async def ask(self, path: str, message: bytes, within: float, behalf: OnBehalf | None) -> Ended:
        self._unsent = memoryview(wire.framed(message))
        self._writer.write(_head(path, within, behalf))
        self._send()
        while not await self._read():
            await self._writer.drain()
        status = self._fields.get("grpc-status", "")
        code = CODES.get(int(status) if status.isdigit() else -1, grpc.StatusCode.UNKNOWN)
        text = unquote(self._fields.get("grpc-message", ""))
        return Ended(code, text, bytes(self._body[wire.PREFIX :]), self._fields)

    def _send(self) -> None:
        """As much as there is room for."""
        while len(self._unsent):
            size = min(len(self._unsent), self._stream, self._connection, frames.DEFAULT_FRAME)
            if size <= 0:
                return
            part, self._unsent = self._unsent[:size], self._unsent[size:]
            self._stream -= size
            self._connection -= size
            last = 0 if len(self._unsent) else frames.END_STREAM
            self._writer.write(frames.head(size, frames.DATA, last, STREAM))
            self._writer.write(part)

    async def _read(self) -> bool:
        """The next frame; whether it was the last."""
        kind, flags, number, payload = await self._frame()
        if kind == frames.SETTINGS and not flags & frames.ACK:
            self._settings(payload)
        elif kind == frames.PING and not flags & frames.ACK:
            self._writer.write(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif kind == frames.WINDOW_UPDATE:
            (more,) = struct.unpack(">L", payload)
            if number == STREAM:
                self._stream += more
            else:
                self._connection += more
            self._send()
        elif kind == frames.HEADERS and number == STREAM:
            for name, value in self._decoder.decode(payload, raw=True):
                self._fields[bytes(name).decode("latin-1")] = bytes(value).decode("latin-1")
        elif kind == frames.DATA and number == STREAM:
            self._body += payload
            if len(self._body) > LARGEST:
                raise ConnectionResetError(f"an answer above {LARGEST} bytes")
        elif kind == frames.RST_STREAM and number == STREAM:
            raise ConnectionResetError("the call was refused")
        ends = kind in (frames.DATA, frames.HEADERS) and flags & frames.END_STREAM
        return bool(number == STREAM and ends)

    def _settings(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HL", payload):
            if name == frames.INITIAL_WINDOW_SIZE:
                self._stream += value - self._initial
                self._initial = value
        self._writer.write(frames.frame(frames.SETTINGS, frames.ACK, 0))
        self._send()

    async def _frame(self) -> tuple[int, int, int, bytes]:
        high, low, kind, flags, number = frames.HEAD.unpack(
            await self._reader.readexactly(frames.HEAD_SIZE)
        )
        return kind, flags, number, await self._reader.readexactly(high << 8 | low)


def _head(path: str, within: float, behalf: OnBehalf | None) -> bytes:
    """Everything before the message."""
    fields = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path.encode()),
        (b":authority", b"inside"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    ]
    if within < math.inf:
        fields.append((b"grpc-timeout", b"%dm" % min(LONGEST_TIMEOUT, max(1, within * 1e3))))
    if behalf is not None:
        fields += behalf.headers()
    most = frames.LARGEST_WINDOW
    return b"".join(
        (
            frames.PREFACE,
            frames.settings(((frames.INITIAL_WINDOW_SIZE, most),)),
            frames.window_update(0, most - frames.DEFAULT_WINDOW),
            frames.frame(frames.HEADERS, frames.END_HEADERS, STREAM, write(fields)),
        )
    )
