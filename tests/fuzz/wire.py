"""What comes over the network: HTTP/2 frames, header blocks, gRPC calls of any method."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import hpack

from fuzz.target import Feed, Target, require
from gearshift.core.limits import Limits, Usage
from gearshift.http2 import Connection, Stream, frames
from gearshift.http2 import limits as sizes
from gearshift.http2.frames import ConnectionFault
from gearshift.http2.header_blocks import HeaderReader, write
from gearshift.rpc.wire import Call, read_call
from http2_pair import BLOCK, GREETING, HEADERS, REQUEST, TRAILERS, Wire, raw, reset

OK = write(((b":status", b"200"),))
END = write(((b"grpc-status", b"0"),))
FEW = 8
SMALL = Limits(max_streams=FEW, max_held_bytes=2048, max_unread_bytes=2048, max_metadata_bytes=1024)
"""Limits that can be reached within a small input."""


class StillLoop:
    """What a connection asks of its loop, and no time passes: what is due is done at once."""

    def __init__(self) -> None:
        self._due: list = []

    def call_soon(self, callback, *arguments):
        self._due.append((callback, arguments))
        return SimpleNamespace(cancel=lambda: None)

    def call_later(self, delay, callback, *arguments):
        return SimpleNamespace(cancel=lambda: None)

    call_at = call_later

    def time(self) -> float:
        return 0.0

    def is_running(self) -> bool:
        return True

    def run(self) -> None:
        while self._due:
            due, self._due = self._due, []
            for callback, arguments in due:
                callback(*arguments)


class Echo:
    """Answers a stream with the bytes that came in, or resets it in the middle."""

    def __init__(self, stream: Stream, call: Call) -> None:
        self.stream = stream
        self.body = bytearray()
        self.ended = False
        self.cancellations = 0

    def data(self, payload: bytes, *, ended: bool) -> None:
        require(not self.ended, "data came behind the end of a stream")
        require(not self.cancellations, "data came after a stream was cancelled")
        self.ended = ended
        self.body += payload
        if ended:
            self.stream.taken(self.stream.held)
            self.stream.answer(OK, bytes(self.body), END)
        else:
            self.stream.more(len(payload))

    def refused(self, limit: str, why: str) -> None:
        require(not self.ended, "more than a limit came behind the end of a stream")
        self.stream.refuse(frames.ENHANCE_YOUR_CALM)

    def cancelled(self) -> None:
        self.cancellations += 1
        require(self.cancellations == 1, "a stream was cancelled twice")


def _talk(loop: StillLoop, pieces: list[bytes]) -> bytes:
    """What a server says to these bytes; its invariants are checked after each piece."""
    wire = Wire()
    gone = []
    usage = Usage(SMALL)
    connection: Connection[Call] = Connection(read_call, Echo, gone.append, usage=usage)
    connection.connection_made(wire)
    for piece in pieces:
        if wire.closed or wire.aborted:
            break
        connection.data_received(piece)
        loop.run()
        require(len(connection.streams) <= FEW, "more streams than the limit")
        require(0 <= connection.held <= SMALL.max_held_bytes, "the bytes held are miscounted")
        require(0 <= usage.unread <= SMALL.max_unread_bytes, "the bytes unread are miscounted")
        require(usage.requests == len(connection.streams), "the requests are miscounted")
        require(
            connection.held == sum(stream.held for stream in connection.streams.values()),
            "the bytes held are not those of the streams",
        )
    connection.connection_lost(None)
    loop.run()
    require(not connection.streams and len(gone) == 1, "a lost connection leaves something")
    left = usage.requests, usage.held, usage.unread, usage.queued
    require(not any(left), f"a lost connection is counted on: {left}")
    _check_frames(bytes(wire.sent))
    return bytes(wire.sent)


def _check_frames(sent: bytes) -> None:
    """Whole frames, none larger than a peer must take."""
    at = 0
    while at < len(sent):
        high, low, _, _, _ = frames.HEAD.unpack_from(sent, at)
        length = high << 8 | low
        require(length <= sizes.MAX_FRAME, "a frame is larger than announced")
        at += frames.HEAD_SIZE + length
    require(at == len(sent), "the last frame is cut short")


def _http2() -> Feed:
    loop = StillLoop()

    def feed(data: bytes) -> None:
        asyncio._set_running_loop(loop)
        try:
            cut, data = data[:1], GREETING + data[1:]
            size = 1 + (cut[0] if cut else 0)
            _talk(loop, [data])
            _talk(loop, [data[at : at + size] for at in range(0, len(data), size)])
        finally:
            asyncio._set_running_loop(None)

    return feed


def _http2_seeds() -> list[bytes]:
    data = raw(frames.DATA, frames.END_STREAM, 1, b"body")
    return [
        b"\xff" + REQUEST + data,
        b"\x03" + REQUEST + raw(frames.DATA, 0, 1, b"x" * 40) + TRAILERS,
        b"\x20" + REQUEST + reset(1, 8) + raw(frames.PING, 0, 0, b"12345678"),
        b"\x09" + raw(frames.SETTINGS, 0, 0, b"\x00\x04\x00\x00\x00\x07") + REQUEST + data,
        b"\x40" + raw(frames.HEADERS, 0, 1, BLOCK[:9]) + raw(frames.CONTINUATION, 4, 1, BLOCK[9:]),
        b"\x11"
        + raw(frames.WINDOW_UPDATE, 0, 0, b"\x7f\xff\x00\x00")
        + raw(frames.GOAWAY, 0, 0, bytes(8)),
        b"\x50"
        + raw(frames.HEADERS, frames.END_HEADERS | frames.PADDED, 1, b"\x02" + BLOCK + b"00"),
    ]


def _headers() -> Feed:
    """A reader that remembers blocks says what one without a memory says."""

    def feed(data: bytes) -> None:
        remembering: HeaderReader[Call] = HeaderReader(read_call, SMALL.max_metadata_bytes)
        forgetful: HeaderReader[Call] = HeaderReader(read_call, SMALL.max_metadata_bytes)
        blocks = []
        while data:
            size, data = data[0], data[1:]
            blocks.append(data[:size])
            data = data[size:]
        for block in [block for block in blocks for _ in range(2)]:
            forgetful._known.clear()
            told = []
            for reader in (remembering, forgetful):
                try:
                    told.append(_plain(reader.read(block)))
                except ConnectionFault as fault:
                    told.append((fault.code, str(fault)))
            require(told[0] == told[1], f"memory changes what a block says: {told}")
            if len(told[0]) == 2:
                return  # the connection is over

    return feed


def _plain(block) -> tuple:
    """A block's content as values that can be compared: faults are by their text."""
    call, meaning = None, block.meaning
    if meaning is not None:
        fault = None if meaning.fault is None else (meaning.fault.code, str(meaning.fault))
        call = (
            meaning.path,
            meaning.timeout,
            meaning.encoding,
            meaning.metadata,
            meaning.grpc,
            fault,
        )
        call += (meaning.attempts, meaning.authorization)
    return call, block.promised, block.request_fault, block.trailers_fault


def _header_seeds() -> list[bytes]:
    def block(fields, **options) -> bytes:
        encoded = hpack.Encoder().encode(fields, **options)
        return bytes((len(encoded),)) + encoded

    first, again = hpack.Encoder(), []
    for _ in range(3):
        encoded = first.encode([*HEADERS, ("grpc-timeout", "100m"), ("x-bin", "AAEC")])
        again.append(bytes((len(encoded),)) + encoded)
    return [
        block(HEADERS),
        b"".join(again),
        block([*HEADERS, ("grpc-encoding", "gzip"), ("te", "trailers")], huffman=False),
        block([("content-length", "12"), (":status", "200")]),
        b"\x01\x20" + block(HEADERS),
    ]


TARGETS = (
    Target(
        "http2-frames",
        _http2,
        _http2_seeds,
        words=(REQUEST, TRAILERS, raw(frames.DATA, 1, 1, b"x"), raw(frames.SETTINGS, 0, 0)),
    ),
    Target("http2-headers", _headers, _header_seeds, longest=1024),
)
