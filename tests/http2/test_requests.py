"""Which requests are malformed (RFC 9113, section 8.1.1)."""

from __future__ import annotations

import asyncio

import hpack
import pytest

from gearshift.http2 import frames
from http2_pair import (
    END,
    GREETING,
    HEADERS,
    REQUEST_ON_3,
    TRAILERS,
    Pair,
    Server,
    raw,
    reset,
)

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
        assert reset(stream, frames.PROTOCOL_ERROR) in bytes(pair.server.wire.sent)
    assert len(pair.server.calls) == 1
    assert not pair.server.wire.closed
    assert pair.answer_to(number) == b"good"


def head(*lengths: str, ended: bool = False, stream: int = 1) -> bytes:
    block = hpack.Encoder().encode([*HEADERS, *(("content-length", each) for each in lengths)])
    flags = frames.END_HEADERS | (frames.END_STREAM if ended else 0)
    return raw(frames.HEADERS, flags, stream, block)


def data(payload: bytes, *, ended: bool = False, stream: int = 1) -> bytes:
    return raw(frames.DATA, frames.END_STREAM if ended else 0, stream, payload)


PADDED = raw(frames.DATA, frames.PADDED | frames.END_STREAM, 1, b"\x02abc\0\0")


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (head("3") + data(b"abc", ended=True), b"abc"),
        (head("3") + data(b"a") + data(b"b") + data(b"c") + data(b"", ended=True), b"abc"),
        (head("3") + data(b"abc") + TRAILERS, b"abc"),
        (head("3") + PADDED, b"abc"),
        (head("0") + data(b"", ended=True), b""),
        (head("0", ended=True), b""),
        (head("3", "3") + data(b"abc", ended=True), b"abc"),
        (head("3, 03") + data(b"abc", ended=True), b"abc"),
        (head("40000") + data(bytes(40_000), ended=True), bytes(40_000)),
    ],
)
@pytest.mark.parametrize("piece", [1_000_000, 1, 1_000])
async def test_a_body_as_long_as_its_content_length_is_served(sent, body, piece):
    server = Server()
    sent = GREETING + sent
    for at in range(0, len(sent), piece):
        server.connection.data_received(sent[at : at + piece])
    await asyncio.sleep(0)
    assert bytes(server.calls[0].body) == body
    assert END in bytes(server.wire.sent)
    assert not server.calls[0].left


@pytest.mark.parametrize(
    "sent",
    [
        head("2") + data(b"abc", ended=True),
        head("4") + data(b"abc", ended=True),
        head("4") + data(b"abc") + data(b"", ended=True),
        head("2") + data(b"abc"),  # more than that is wrong before it ends
        head("4") + data(b"abc") + TRAILERS,
        head("6") + PADDED,  # padding is no content
        head("1") + TRAILERS,
        head("0") + data(b"abc", ended=True),
        head("30000") + data(bytes(40_000), ended=True),
        head("50000") + data(bytes(40_000), ended=True),
    ],
)
@pytest.mark.parametrize("piece", [1_000_000, 1, 1_000])
async def test_a_body_of_another_length_than_its_content_length_ends_the_stream(sent, piece):
    server = Server()
    server.answering = False
    sent = GREETING + sent
    for at in range(0, len(sent), piece):
        server.connection.data_received(sent[at : at + piece])
    server.connection.data_received(REQUEST_ON_3)
    await asyncio.sleep(0)
    assert reset(1, frames.PROTOCOL_ERROR) in bytes(server.wire.sent)
    assert [call.left for call in server.calls] == [True, False]
    assert server.connection.held == 0
    assert not server.wire.closed


@pytest.mark.parametrize(
    "sent",
    [
        head("1", ended=True),
        head("3", "4"),
        head("3,4"),
        head("3", ""),
        head(""),
        head("-1"),
        head("+3"),
        head("3.0"),
        head("three"),
        head("9" * 5_000),
    ],
)
async def test_a_content_length_that_cannot_be_reaches_nobody(sent):
    server = Server()
    server.connection.data_received(GREETING + sent + REQUEST_ON_3)
    await asyncio.sleep(0)
    assert reset(1, frames.PROTOCOL_ERROR) in bytes(server.wire.sent)
    assert [call.stream.id for call in server.calls] == [3]
    assert not server.wire.closed
