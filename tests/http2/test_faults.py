"""What a peer must not do, and what it may: frames made by hand."""

from __future__ import annotations

import asyncio
import struct

import h2.events
import h2.settings
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.limits import Limits, Usage
from gearshift.http2 import frames, limits
from http2_pair import (
    BLOCK,
    END,
    GREETING,
    OK,
    REQUEST,
    REQUEST_ON_3,
    REQUEST_ON_5,
    TRAILERS,
    Pair,
    Server,
    of_kind,
    raw,
    reset,
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
    server.connection.data_received(GREETING + sent)
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
    server.connection.data_received(GREETING + REQUEST + sent)
    await asyncio.sleep(0)
    assert reset(1, code) in bytes(server.wire.sent)
    assert server.calls[0].left
    assert not server.wire.closed
    server.connection.data_received(raw(frames.HEADERS, frames.END_HEADERS, 3, BLOCK))
    assert len(server.calls) == 2


async def test_what_arrives_for_a_stream_that_ended_here_is_no_fault():
    server = Server()
    server.connection.data_received(GREETING + REQUEST)
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


async def test_unfinished_requests_have_a_bound_in_all():
    pair = Pair(usage=Usage(Limits(max_held_bytes=20_000)))
    pair.ask(bytes(9_000), ended=False)
    second = pair.ask(bytes(9_000), ended=False)
    (gone,) = of_kind(await pair.exchange(), h2.events.StreamReset)
    assert (gone.stream_id, gone.error_code) == (second, frames.ENHANCE_YOUR_CALM)
    assert pair.server.connection.held == 9_000


@given(st.lists(st.binary(max_size=60), max_size=12), st.booleans())
def test_no_bytes_break_it(pieces, greeted):
    """Whatever comes, the connection answers or ends; it never raises and never forgets one."""

    async def live() -> None:
        server = Server()
        if greeted:
            server.connection.data_received(GREETING + REQUEST)
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
        server.connection.data_received(GREETING)
        for kind, flags, stream, payload in sent:
            if server.wire.closed:
                break
            server.connection.data_received(raw(kind, flags, stream, payload))
        server.connection.connection_lost(None)
        assert all(call.left or not call.stream.open for call in server.calls)
        assert server.connection.held == 0

    asyncio.run(live())


@pytest.mark.parametrize("piece", [1, 7, 1_000])
@pytest.mark.parametrize(
    "first",
    [
        raw(frames.PING, 0, 0, bytes(8)),
        raw(frames.WINDOW_UPDATE, 0, 0, b"\0\0\0\1"),
        raw(frames.SETTINGS, frames.ACK, 0),
        raw(0x42, 0, 0),
        REQUEST,
    ],
)
async def test_the_first_frame_of_a_client_is_its_settings(first, piece):
    server = Server()
    sent = frames.PREFACE + first + GREETING[len(frames.PREFACE) :]
    for at in range(0, len(sent), piece):
        if not server.wire.closed:
            assert not server.connection.greeted
            server.connection.data_received(sent[at : at + piece])
    assert server.wire.closed
    assert not server.calls
    assert struct.pack(">L", frames.PROTOCOL_ERROR) + b"the first frame" in bytes(server.wire.sent)
