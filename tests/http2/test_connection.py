"""The server's side of HTTP/2 against another implementation of the client's (`h2`)."""

from __future__ import annotations

import asyncio
import struct

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.http2 import Connection, Stream, frames, limits
from gearshift.http2.header_blocks import HeaderReader, changes_table, write

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

    def data(self, payload: bytes, *, ended: bool) -> None:
        self.times += 1
        self.body += payload
        if ended:
            self.stream.taken(self.stream.held)
            if self.server.answering:
                self.stream.answer(OK, bytes(self.body), END)
        else:
            self.stream.more(len(payload))

    def cancelled(self) -> None:
        assert not self.left
        self.left = True


class Server:
    """A connection and what it made of its streams."""

    def __init__(self, **options) -> None:
        self.answering = True
        self.calls: list[Echo] = []
        self.gone = 0
        self.wire = Wire()
        self.connection: Connection[str] = Connection(
            lambda fields: dict(fields).get(b":path", b"").decode(),
            self._accept,
            self._end,
            **options,
        )
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


@pytest.mark.parametrize("piece", [0, 1, 7, 1000])
async def test_answers_come_back_whatever_pieces_the_bytes_come_in(piece):
    pair = Pair(piece)
    numbers = [pair.ask(bytes([n]) * 50) for n in range(20)]
    await pair.exchange()
    assert [pair.answer_to(number) for number in numbers] == [bytes([n]) * 50 for n in range(20)]
    assert not pair.server.connection.streams
    assert pair.server.connection.held == 0


async def test_a_request_may_have_no_body():
    pair = Pair()
    number = pair.ask()
    await pair.exchange()
    assert pair.answer_to(number) == b""


@pytest.mark.parametrize("piece", [0, 999, 50_000])
async def test_large_bodies_go_both_ways_within_the_windows(piece):
    """h2 raises where a window or frame size is passed."""
    pair = Pair(piece, stream_window=100_000)
    body = bytes(range(256)) * 20_000
    number = pair.ask(b"", ended=False)
    await pair.exchange()
    await pair.send(number, body)
    await pair.exchange()
    assert pair.answer_to(number) == body
    assert pair.server.connection.held == 0


async def test_an_answer_waits_for_a_reader_and_holds_nobody_up():
    pair = Pair()
    await pair.exchange()
    pair.client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1_000})
    await pair.exchange()
    slow = pair.ask(bytes(60_000))
    await pair.exchange(pay=False)
    assert pair.server.connection.blocked
    quick = pair.ask(b"quick")
    await pair.exchange(pay=False)
    assert pair.answer_to(quick) == b"quick"
    pair.client.increment_flow_control_window(100_000, slow)
    await pair.exchange()
    assert pair.answer_to(slow) == bytes(60_000)
    assert not pair.server.connection.blocked


async def test_frames_of_one_stream_that_come_together_are_taken_together():
    pair = Pair()
    first, second = pair.ask(b"1", ended=False), pair.ask(b"a", ended=False)
    for part in (b"2", b"", b"3"):
        pair.client.send_data(first, part)
    pair.client.send_data(second, b"b")
    pair.client.send_data(first, b"4", pad_length=3)
    pair.client.send_data(first, b"5")
    pair.client.send_data(first, b"6", pad_length=1)
    pair.client.send_data(first, b"7")
    pair.client.send_data(first, b"8", end_stream=True)
    pair.client.send_data(second, b"c", end_stream=True)
    await pair.exchange()
    assert pair.answer_to(first) == b"12345678"
    assert pair.answer_to(second) == b"abc"
    assert [call.times for call in pair.server.calls] == [6, 3]


async def test_padding_counts_and_is_taken_off():
    pair = Pair()
    number = pair.client.get_next_available_stream_id()
    pair.client.send_headers(number, HEADERS)
    pair.client.send_data(number, b"body", pad_length=200, end_stream=True)
    await pair.exchange()
    assert pair.answer_to(number) == b"body"


async def test_trailers_end_a_request():
    pair = Pair()
    number = pair.ask(b"body", ended=False)
    pair.client.send_headers(number, [("x-end", "1")], end_stream=True)
    await pair.exchange()
    assert pair.answer_to(number) == b"body"


async def test_a_long_header_block_comes_in_several_frames():
    pair = Pair()
    number = pair.client.get_next_available_stream_id()
    long = [(f"x-{n}", "v" * 1_000) for n in range(40)]
    pair.client.send_headers(number, HEADERS + long, end_stream=True)
    await pair.exchange()
    assert pair.answer_to(number) == b""


async def test_who_gives_up_is_told_once_and_leaves_the_others_alone():
    pair = Pair()
    pair.server.answering = False
    first, second = pair.ask(b"1"), pair.ask(b"2")
    await pair.exchange()
    pair.client.reset_stream(first)
    await pair.exchange()
    gone, stays = pair.server.calls
    assert (gone.left, stays.left) == (True, False)
    gone.stream.answer(OK, b"to nobody", END) if gone.stream.open else None
    stays.stream.answer(OK, b"there", END)
    await pair.exchange()
    assert pair.answer_to(second) == b"there"


async def test_all_are_told_when_the_connection_is_lost():
    pair = Pair()
    pair.server.answering = False
    for _ in range(3):
        pair.ask(b"x" * 10, ended=False)
    await pair.exchange()
    pair.server.connection.connection_lost(None)
    assert [call.left for call in pair.server.calls] == [True] * 3
    assert pair.server.gone == 1
    assert pair.server.connection.held == 0


async def test_one_stream_too_many_is_refused_and_the_others_live():
    pair = Pair(max_streams=2)
    pair.server.answering = False
    pair.ask(b"1"), pair.ask(b"2")
    third = pair.ask(b"3")
    events = await pair.exchange()
    (reset,) = of_kind(events, h2.events.StreamReset)
    assert (reset.stream_id, reset.error_code) == (third, frames.REFUSED_STREAM)
    assert len(pair.server.calls) == 2
    # The refused one's headers were read, so that the next block is still understood.
    pair.server.calls[0].stream.answer(OK, b"", END)
    await pair.exchange()
    fourth = pair.ask(b"4")
    await pair.exchange()
    assert pair.server.calls[-1].path == "/a/b"
    assert pair.server.calls[-1].stream.id == fourth


async def test_leaving_answers_what_is_open_and_takes_nothing_new():
    pair = Pair()
    pair.server.answering = False
    number = pair.ask(b"open")
    await pair.exchange()
    pair.server.connection.leave()
    events = await pair.exchange()
    assert of_kind(events, h2.events.ConnectionTerminated)
    assert not pair.server.wire.closed
    pair.server.calls[0].stream.answer(OK, b"done", END)
    await asyncio.sleep(0)
    sent = bytes(pair.server.wire.sent)
    await asyncio.sleep(0)
    assert pair.server.wire.closed
    assert b"done" in sent
    assert number == 1


async def test_a_ping_is_answered():
    pair = Pair()
    pair.client.ping(b"12345678")
    (pong,) = of_kind(await pair.exchange(), h2.events.PingAckReceived)
    assert pong.ping_data == b"12345678"


async def test_who_does_not_read_is_not_read_from():
    pair = Pair()
    pair.server.connection.pause_writing()
    assert not pair.server.wire.reading
    pair.server.connection.resume_writing()
    assert pair.server.wire.reading


def raw(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return frames.frame(kind, flags, stream, payload)


BLOCK = hpack.Encoder().encode(HEADERS)
REQUEST, REQUEST_ON_3, REQUEST_ON_5 = (
    raw(frames.HEADERS, frames.END_HEADERS, number, BLOCK) for number in (1, 3, 5)
)


TRAILERS = raw(
    frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, hpack.Encoder().encode([("x", "y")])
)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (raw(frames.DATA, 0, 0, b"x"), frames.PROTOCOL_ERROR),
        (raw(frames.DATA, 0, 5, b"x"), frames.PROTOCOL_ERROR),
        (raw(frames.HEADERS, frames.END_HEADERS, 2, BLOCK), frames.PROTOCOL_ERROR),
        (raw(frames.HEADERS, 0, 1, BLOCK) + raw(frames.PING, 0, 0, bytes(8)), 1),
        (raw(frames.CONTINUATION, 0, 1, b"x"), frames.PROTOCOL_ERROR),
        (raw(frames.HEADERS, 0, 1, b"") + raw(frames.CONTINUATION, 0, 1), 11),
        (raw(frames.HEADERS, frames.END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"), 9),
        (raw(frames.RST_STREAM, 0, 7, bytes(4)), frames.PROTOCOL_ERROR),
        (raw(frames.RST_STREAM, 0, 1, bytes(3)), frames.FRAME_SIZE_ERROR),
        (raw(frames.PING, 0, 0, bytes(7)), frames.FRAME_SIZE_ERROR),
        (raw(frames.SETTINGS, 0, 0, bytes(5)), frames.FRAME_SIZE_ERROR),
        (raw(frames.SETTINGS, 0, 3), frames.PROTOCOL_ERROR),
        (raw(frames.SETTINGS, 0, 0, struct.pack(">HL", 4, 2**31)), frames.FLOW_CONTROL_ERROR),
        (raw(frames.SETTINGS, 0, 0, struct.pack(">HL", 5, 1)), frames.PROTOCOL_ERROR),
        (raw(frames.WINDOW_UPDATE, 0, 0, bytes(4)), frames.PROTOCOL_ERROR),
        (raw(frames.WINDOW_UPDATE, 0, 0, bytes(3)), frames.FRAME_SIZE_ERROR),
        (raw(frames.WINDOW_UPDATE, 0, 9, b"\0\0\0\1"), frames.PROTOCOL_ERROR),
        (raw(frames.HEADERS, frames.END_HEADERS, 0, BLOCK), frames.PROTOCOL_ERROR),
        (raw(frames.HEADERS, frames.END_HEADERS | frames.PADDED, 1, b"\xff" + BLOCK), 1),
        (raw(frames.HEADERS, frames.END_HEADERS | frames.PRIORITISED, 1, b"\0"), 6),
        (REQUEST + REQUEST_ON_5 + REQUEST_ON_3, frames.PROTOCOL_ERROR),
        (raw(frames.HEADERS, 0, 1, BLOCK) + raw(0x42, 0, 1), frames.PROTOCOL_ERROR),
        (REQUEST + raw(frames.CONTINUATION, frames.END_HEADERS, 1, BLOCK), frames.PROTOCOL_ERROR),
        (raw(frames.CONTINUATION, 0, 0, b"x"), frames.PROTOCOL_ERROR),
        (raw(frames.RST_STREAM, 0, 0, bytes(4)), frames.PROTOCOL_ERROR),
        (raw(frames.PRIORITY, 0, 0, bytes(5)), frames.PROTOCOL_ERROR),
        (raw(frames.PING, 0, 1, bytes(8)), frames.PROTOCOL_ERROR),
        (raw(frames.GOAWAY, 0, 1, bytes(8)), frames.PROTOCOL_ERROR),
        (raw(frames.SETTINGS, frames.ACK, 0, bytes(6)), frames.FRAME_SIZE_ERROR),
        (raw(frames.SETTINGS, 0, 0, struct.pack(">HL", 2, 2)), frames.PROTOCOL_ERROR),
        (raw(frames.SETTINGS, 0, 0, struct.pack(">HL", 5, 2**24)), frames.PROTOCOL_ERROR),
        (2 * raw(frames.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), frames.FLOW_CONTROL_ERROR),
        (raw(frames.PUSH_PROMISE, 0, 1, bytes(4)), frames.PROTOCOL_ERROR),
        (REQUEST + raw(frames.DATA, frames.PADDED, 1, b"\x09x"), frames.PROTOCOL_ERROR),
        (frames.head(2**20, frames.DATA, 0, 1), frames.FRAME_SIZE_ERROR),
        (REQUEST + 100 * raw(frames.DATA, 0, 1, bytes(250_000)), frames.FLOW_CONTROL_ERROR),
    ],
)
async def test_a_broken_protocol_ends_the_connection_and_says_why(sent, code, monkeypatch):
    monkeypatch.setattr(limits, "CONNECTION_WINDOW", 65_535)
    server = Server(stream_window=2**30)
    server.connection.data_received(frames.PREFACE + raw(frames.SETTINGS, 0, 0) + sent)
    assert server.wire.closed
    goaway = bytes(server.wire.sent)
    assert struct.unpack_from(">L", goaway, goaway.index(b"\x07\x00\x00\x00\x00\x00") + 10)[0] == (
        code
    )


async def test_what_nobody_knows_is_ignored():
    pair = Pair()
    await pair.exchange()
    for sent in (
        raw(0x42, 0xFF, 0, b"?"),
        raw(0x42, 0, 7),
        raw(frames.SETTINGS, 0, 0, struct.pack(">HL", 0x99, 2**32 - 1)),
        raw(frames.PRIORITY, 0, 9, bytes(5)),
        raw(frames.PING, frames.ACK | 0x40, 0, bytes(8)),
    ):
        pair.server.connection.data_received(sent)
    number = pair.ask(b"x")
    await pair.exchange()
    assert pair.answer_to(number) == b"x"
    assert not of_kind(pair.events, h2.events.PingAckReceived)


REST = [field for field in HEADERS if not field[0].startswith(":")]
PSEUDO = [field for field in HEADERS if field[0].startswith(":")]


@pytest.mark.parametrize(
    "fields",
    [
        *(
            [each for each in HEADERS if each[0] != name]
            for name in (":method", ":scheme", ":path")
        ),
        [*PSEUDO, (":method", "POST"), *REST],
        [*PSEUDO, (":status", "200"), *REST],
        [*PSEUDO, (":protocol", "x"), *REST],
        [*PSEUDO, *REST, ("x", "y"), (":authority", "late")],
        [(name, "" if name == ":path" else value) for name, value in HEADERS],
        [*HEADERS, ("X-Upper", "y")],
        [*HEADERS, ("", "y")],
        [*HEADERS, ("a:b", "y")],
        [*HEADERS, ("a b", "y")],
        [*HEADERS, ("x", "a\nb")],
        [*HEADERS, ("x", "a\0b")],
        [*HEADERS, ("x", " y")],
        [*HEADERS, ("connection", "keep-alive")],
        [*HEADERS, ("transfer-encoding", "chunked")],
        [*HEADERS, ("te", "gzip")],
    ],
)
async def test_a_malformed_request_reaches_nobody_and_the_others_are_served(fields):
    pair = Pair()
    number = pair.ask(b"good")
    await pair.exchange()
    encoder = hpack.Encoder()
    for stream in (3, 5):  # the second time it is remembered
        block = encoder.encode(
            [hpack.NeverIndexedHeaderTuple(name.encode(), value.encode()) for name, value in fields]
        )
        sent = raw(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream, block)
        pair.server.connection.data_received(sent)
        await asyncio.sleep(0)
        reset = raw(frames.RST_STREAM, 0, stream, struct.pack(">L", frames.PROTOCOL_ERROR))
        assert reset in bytes(pair.server.wire.sent)
    assert len(pair.server.calls) == 1
    assert not pair.server.wire.closed
    assert pair.answer_to(number) == b"good"


async def test_what_is_not_http2_is_sent_away():
    server = Server()
    server.connection.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert server.wire.closed


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (raw(frames.DATA, frames.END_STREAM, 1, b"x") + raw(frames.DATA, 0, 1, b"x"), 5),
        (raw(frames.WINDOW_UPDATE, 0, 1, bytes(4)), frames.PROTOCOL_ERROR),
        (2 * raw(frames.WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff"), frames.FLOW_CONTROL_ERROR),
        (raw(frames.PRIORITY, 0, 1, bytes(4)), frames.FRAME_SIZE_ERROR),
        (raw(frames.HEADERS, frames.END_HEADERS, 1, BLOCK), frames.PROTOCOL_ERROR),
        (raw(frames.DATA, frames.END_STREAM, 1) + TRAILERS, frames.STREAM_CLOSED),
        (raw(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, BLOCK), 1),
        (raw(frames.HEADERS, frames.END_HEADERS, 1, END), frames.PROTOCOL_ERROR),
        (raw(frames.DATA, 0, 1, bytes(2_000)), frames.FLOW_CONTROL_ERROR),
    ],
)
async def test_a_fault_of_one_stream_ends_that_stream_only(sent, code):
    server = Server(stream_window=1_000)
    server.answering = False
    server.connection.data_received(frames.PREFACE + raw(frames.SETTINGS, 0, 0) + REQUEST + sent)
    await asyncio.sleep(0)
    assert raw(frames.RST_STREAM, 0, 1, struct.pack(">L", code)) in bytes(server.wire.sent)
    assert server.calls[0].left
    assert not server.wire.closed
    server.connection.data_received(raw(frames.HEADERS, frames.END_HEADERS, 3, BLOCK))
    assert len(server.calls) == 2


async def test_what_arrives_for_a_stream_that_ended_here_is_no_fault():
    server = Server()
    server.connection.data_received(frames.PREFACE + raw(frames.SETTINGS, 0, 0) + REQUEST)
    server.calls[0].stream.answer(OK, b"early", END)
    server.connection.data_received(
        raw(frames.DATA, 0, 1, b"late")
        + raw(frames.WINDOW_UPDATE, 0, 1, b"\x00\x00\x00\x01")
        + TRAILERS
        + raw(frames.PRIORITY, 0, 1, bytes(5))
        + raw(frames.RST_STREAM, 0, 1, bytes(4))
    )
    await asyncio.sleep(0)
    assert not server.wire.closed
    assert not server.calls[0].left


async def test_unfinished_requests_have_a_bound_in_all(monkeypatch):
    monkeypatch.setattr(limits, "MAX_HELD", 10_000)
    pair = Pair()
    pair.ask(bytes(9_000), ended=False)
    second = pair.ask(bytes(9_000), ended=False)
    (reset,) = of_kind(await pair.exchange(), h2.events.StreamReset)
    assert (reset.stream_id, reset.error_code) == (second, frames.ENHANCE_YOUR_CALM)
    assert pair.server.connection.held == 9_000


@given(st.lists(st.binary(max_size=60), max_size=12), st.booleans())
def test_no_bytes_break_it(pieces, greeted):
    """Whatever comes, the connection answers or ends; it never raises and never forgets one."""

    async def live() -> None:
        server = Server()
        if greeted:
            server.connection.data_received(frames.PREFACE + raw(frames.SETTINGS, 0, 0) + REQUEST)
        for piece in pieces:
            if server.wire.closed:
                break
            server.connection.data_received(piece)
        server.connection.connection_lost(None)
        assert all(call.left or not call.stream.open for call in server.calls)
        assert server.connection.held == 0

    asyncio.run(live())


kinds = st.integers(0, 10)


@given(
    st.lists(
        st.tuples(
            kinds,
            st.sampled_from([0, 1, 4, 5, 8, 9, 0x2D]),
            st.sampled_from([0, 1, 2, 3]),
            st.one_of(st.binary(max_size=20), st.just(BLOCK), st.just(bytes(4))),
        ),
        max_size=15,
    )
)
def test_no_frames_break_it(sent):
    async def live() -> None:
        server = Server()
        server.connection.data_received(frames.PREFACE + raw(frames.SETTINGS, 0, 0))
        for kind, flags, stream, payload in sent:
            if server.wire.closed:
                break
            server.connection.data_received(raw(kind, flags, stream, payload))
        server.connection.connection_lost(None)
        assert all(call.left or not call.stream.open for call in server.calls)
        assert server.connection.held == 0

    asyncio.run(live())


FIELDS = st.lists(
    st.tuples(
        st.sampled_from([b"a", b"b-long-name", b"grpc-timeout", b":path"]),
        st.sampled_from([b"", b"1", b"9999m", b"x" * 300, bytes(range(128, 200))]),
    ),
    max_size=8,
)


@given(st.lists(FIELDS, max_size=30), st.sampled_from([4096, 100, 0]))
def test_a_remembered_block_means_what_it_meant(lists, table):
    encoder, reader = hpack.Encoder(), HeaderReader(list)
    encoder.header_table_size = table
    for fields in lists:
        whole = [(name.encode(), value.encode()) for name, value in HEADERS] + fields
        read = reader.read(encoder.encode(whole))
        twice = any(name == b":path" for name, _ in fields)
        assert read.meaning == (None if twice else whole)
        assert bool(read.request_fault) == twice
        assert read.trailers_fault


@given(st.lists(FIELDS, min_size=1, max_size=30), st.sampled_from([4096, 100, 0]))
def test_a_block_changes_the_table_exactly_if_the_decoders_table_says_so(lists, table):
    encoder, decoder = hpack.Encoder(), hpack.Decoder()
    encoder.header_table_size = table
    for fields in lists:
        block = encoder.encode([*fields, hpack.NeverIndexedHeaderTuple(b"secret", b"x" * 200)])
        kept = decoder.header_table.dynamic_entries
        before = list(kept), kept.maxlen, decoder.header_table_size
        decoder.decode(block, raw=True)
        after = list(kept), kept.maxlen, decoder.header_table_size
        if before != after:
            assert changes_table(block)
    assert not changes_table(encoder.encode([(b":method", b"POST")]))
    assert not changes_table(write(lists[0]))
    assert changes_table(encoder.encode([(b"never", b"seen")]))


@given(FIELDS)
def test_blocks_written_here_are_read_by_others(fields):
    assert hpack.Decoder().decode(write(fields), raw=True) == fields
