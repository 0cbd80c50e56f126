"""A server's connection, and `h2` as its client or frames made by hand."""

from __future__ import annotations

import asyncio
import struct

import h2.config
import h2.connection
import h2.events
import hpack

from gearshift.core.limits import Usage
from gearshift.http2 import Connection, Stream, frames
from gearshift.http2.header_blocks import write

HEADERS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/a/b"),
    (":authority", "x"),
    ("content-type", "application/grpc"),
]
OK = write(((b":status", b"200"),))
END = write(((b"grpc-status", b"0"),))


class Wire:
    """The transport between both: what is written waits in `sent`."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.closed = self.aborted = False
        self.reading = True

    def write(self, data: bytes) -> None:
        self.sent += data

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str) -> None:
        return None

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def get_write_buffer_size(self) -> int:
        return len(self.sent)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Echo:
    """Answers with what came in, when all of it is there."""

    def __init__(self, server: Server, stream: Stream, path: str) -> None:
        self.server = server
        self.stream = stream
        self.path = path
        self.body = bytearray()
        self.times = 0
        self.left = False
        self.refusals: list[str] = []

    def data(self, payload: bytes, *, ended: bool) -> None:
        self.times += 1
        self.body += payload
        if ended:
            self.stream.taken(self.stream.held)
            if self.server.answering:
                self.stream.answer(OK, bytes(self.body), END)
        else:
            self.stream.more(len(payload))

    def refused(self, limit: str, why: str) -> None:
        self.refusals.append(limit)

    def cancelled(self) -> None:
        assert not self.left
        self.left = True


class Server:
    """A connection and what it made of its streams."""

    def __init__(self, connected: bool = True, usage: Usage | None = None, **options) -> None:
        self.usage = usage or Usage()
        self.answering = True
        self.calls: list[Echo] = []
        self.gone = 0
        self.wire = Wire()
        self.connection: Connection[str] = Connection(
            lambda fields: dict(fields).get(b":path", b"").decode(),
            self._accept,
            self._end,
            usage=self.usage,
            **options,
        )
        if connected:
            self.connection.connection_made(self.wire)

    def _accept(self, stream: Stream, path: str) -> Echo:
        self.calls.append(Echo(self, stream, path))
        return self.calls[-1]

    def _end(self, connection) -> None:
        self.gone += 1


class Pair:
    """Client and server, driven by hand: `exchange` carries bytes until nobody has any."""

    def __init__(self, piece: int = 0, **options) -> None:
        self.server = Server(**options)
        self.client = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        )
        self.client.initiate_connection()
        self.piece = piece
        self.events: list[h2.events.Event] = []

    async def exchange(self, pay: bool = True) -> list[h2.events.Event]:
        found: list[h2.events.Event] = []
        while True:
            data = self.client.data_to_send()
            size = self.piece or len(data) or 1
            for at in range(0, len(data), size):
                self.server.connection.data_received(data[at : at + size])
            await asyncio.sleep(0)
            back, self.server.wire.sent = bytes(self.server.wire.sent), bytearray()
            if not data and not back:
                self.events += found
                return found
            for event in self.client.receive_data(back):
                found.append(event)
                if pay and isinstance(event, h2.events.DataReceived):
                    size = event.flow_controlled_length
                    self.client.acknowledge_received_data(size, event.stream_id)

    def ask(self, body: bytes | None = None, ended: bool = True) -> int:
        number = self.client.get_next_available_stream_id()
        self.client.send_headers(number, HEADERS, end_stream=body is None)
        if body is not None:
            self.client.send_data(number, body, end_stream=ended)
        return number

    async def send(self, number: int, body: bytes) -> None:
        """As fast as the server lets it."""
        at = 0
        while at < len(body):
            room = self.client.local_flow_control_window(number)
            if not room:
                await self.exchange()
                assert self.client.local_flow_control_window(number), "the server gives no more"
                continue
            part = body[at : at + min(room, self.client.max_outbound_frame_size)]
            self.client.send_data(number, part)
            at += len(part)
        self.client.end_stream(number)

    def answer_to(self, number: int) -> bytes:
        mine = [
            event
            for event in self.events
            if getattr(event, "stream_id", None) == number
            and not isinstance(event, h2.events.WindowUpdated)
        ]
        assert isinstance(mine[0], h2.events.ResponseReceived)
        assert dict(mine[0].headers) == {":status": "200"}
        trailers = [e for e in mine if isinstance(e, h2.events.TrailersReceived)]
        assert dict(trailers[0].headers) == {"grpc-status": "0"}
        assert isinstance(mine[-1], h2.events.StreamEnded)
        return b"".join(e.data for e in mine if isinstance(e, h2.events.DataReceived))


def of_kind(events, kind):
    return [event for event in events if isinstance(event, kind)]


def raw(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return frames.frame(kind, flags, stream, payload)


BLOCK = hpack.Encoder().encode(HEADERS)
REQUEST, REQUEST_ON_3, REQUEST_ON_5 = (
    raw(frames.HEADERS, frames.END_HEADERS, number, BLOCK) for number in (1, 3, 5)
)

TRAILERS = raw(
    frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, hpack.Encoder().encode([("x", "y")])
)


GREETING = frames.PREFACE + raw(frames.SETTINGS, 0, 0)


def request(number: int, block: bytes = BLOCK, ended: bool = False) -> bytes:
    flags = frames.END_HEADERS | (frames.END_STREAM if ended else 0)
    return raw(frames.HEADERS, flags, number, block)


def reset(stream: int, code: int) -> bytes:
    return raw(frames.RST_STREAM, 0, stream, struct.pack(">L", code))
