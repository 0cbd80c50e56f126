"""Peers that cost work and bring nothing."""

from __future__ import annotations

import asyncio
import struct

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.limits import Limits, Usage
from gearshift.http2 import frames
from gearshift.http2.header_blocks import REMEMBERED, HeaderReader
from gearshift.http2.patience import Patience
from http2_pair import BLOCK, GREETING, HEADERS, REQUEST, Server, raw, request, reset

CALM = struct.pack(">L", frames.ENHANCE_YOUR_CALM)
WINDOW_OF_ONE = struct.pack(">HL", frames.INITIAL_WINDOW_SIZE, 1)


def sent_away(server: Server, limit: str) -> bool:
    """It was closed with ENHANCE_YOUR_CALM, the limit was named to the peer, and counted."""
    told = bytes(server.wire.sent)
    return (
        server.wire.closed
        and CALM in told
        and limit.encode() in told
        and server.usage.reached[limit] >= 1
    )


# --- frames that say nothing -------------------------------------------------------------

IDLE = {
    "ping": raw(frames.PING, 0, 0, bytes(8)),
    "settings": raw(frames.SETTINGS, 0, 0),
    "priority": raw(frames.PRIORITY, 0, 1, bytes(5)),
    "unknown": raw(0x42, 0, 0),
    "empty data": raw(frames.DATA, 0, 1),
    "padding": raw(frames.DATA, frames.PADDED, 1, b"\x09" + bytes(9)),
    "tiny data": raw(frames.DATA, 0, 1, b"x"),
    "windows of one byte": raw(frames.WINDOW_UPDATE, 0, 0, b"\0\0\0\1"),
    "resets of what is over": raw(frames.RST_STREAM, 0, 1, bytes(4)),
}


@pytest.mark.parametrize("kind", IDLE)
async def test_a_flood_of_frames_that_say_nothing_ends_the_connection(kind):
    limits = Limits(max_idle_frames_per_second=100)
    server = Server(usage=Usage(limits))
    server.answering = False
    server.connection.data_received(GREETING + REQUEST)
    if kind == "resets of what is over":
        server.connection.data_received(IDLE[kind])
    for _ in range(4):  # one by one: DATA frames in a row are taken as one
        server.connection.data_received(IDLE[kind])
    assert not server.wire.closed
    for _ in range(100):
        server.connection.data_received(IDLE[kind])
    assert sent_away(server, "max_idle_frames_per_second")


async def test_as_many_in_the_next_second_are_none_of_a_flood():
    patience = Patience()
    assert all(patience.idle(0.01 * n, 100) for n in range(500))
    assert not all(patience.idle(10.0, 100) for _ in range(101))


async def test_settings_cost_more_the_more_streams_there_are():
    """Each changes the window of every stream; and of many in one frame only the last counts."""
    server = Server(usage=Usage(Limits(max_idle_frames_per_second=100)))
    server.answering = False
    server.connection.data_received(GREETING + b"".join(request(2 * n + 1) for n in range(1_000)))
    many = b"".join(struct.pack(">HL", frames.INITIAL_WINDOW_SIZE, n) for n in range(2_000))
    server.connection.data_received(raw(frames.SETTINGS, 0, 0, many))
    assert {call.stream.window for call in server.calls} == {1_999}
    assert not server.wire.closed
    server.connection.data_received(raw(frames.SETTINGS, 0, 0, WINDOW_OF_ONE))
    assert sent_away(server, "max_idle_frames_per_second")


async def test_settings_that_make_a_window_too_large_end_the_connection():
    server = Server()
    server.answering = False
    server.connection.data_received(
        GREETING
        + REQUEST
        + raw(frames.WINDOW_UPDATE, 0, 1, struct.pack(">L", 2**31 - 1 - 65_535))
        + raw(frames.SETTINGS, 0, 0, struct.pack(">HL", frames.INITIAL_WINDOW_SIZE, 2**31 - 1))
    )
    assert server.wire.closed
    assert struct.pack(">L", frames.FLOW_CONTROL_ERROR) in bytes(server.wire.sent)


@pytest.mark.parametrize("kind", [frames.SETTINGS, frames.GOAWAY, 0x42])
async def test_a_control_frame_is_not_waited_for_if_it_is_huge(kind):
    server = Server()
    server.connection.data_received(GREETING + frames.head(200_000, kind, 0, 0))
    assert server.wire.closed
    assert CALM in bytes(server.wire.sent)


# --- cancelled and broken calls ------------------------------------------------------------


@pytest.mark.parametrize(
    "breaks",
    [
        lambda number: raw(frames.RST_STREAM, 0, number, b"\0\0\0\x08"),
        # The peer makes this side reset them.
        lambda number: raw(frames.WINDOW_UPDATE, 0, number, bytes(4)),
        lambda number: request(number),
    ],
    ids=["rapid reset", "made you reset by a window", "made you reset by headers"],
)
async def test_who_cancels_without_end_is_sent_away(breaks):
    server = Server(usage=Usage(Limits(max_cancels_per_second=50)))
    server.answering = False
    server.connection.data_received(GREETING)
    for number in range(1, 400, 2):
        if not server.wire.closed:
            server.connection.data_received(request(number) + breaks(number))
    assert sent_away(server, "max_cancels_per_second")
    assert len(server.calls) == 100
    assert all(call.left for call in server.calls)
    assert server.usage.requests == 0


async def test_who_is_mostly_answered_may_cancel_the_rest():
    server = Server(usage=Usage(Limits(max_cancels_per_second=10)))
    server.connection.data_received(GREETING)
    for number in range(1, 1_000, 4):
        server.connection.data_received(
            request(number, ended=True)
            + request(number + 2)
            + raw(frames.RST_STREAM, 0, number + 2, b"\0\0\0\x08")
        )
        await asyncio.sleep(0)
    assert not server.wire.closed


async def test_streams_above_their_limit_are_refused_and_counted():
    server = Server(usage=Usage(Limits(max_streams=2)))
    server.answering = False
    server.connection.data_received(GREETING + request(1) + request(3) + request(5))
    await asyncio.sleep(0)
    assert reset(5, frames.REFUSED_STREAM) in bytes(server.wire.sent)
    assert server.usage.reached["max_streams"] == 1
    assert server.usage.requests == 2


# --- header blocks -------------------------------------------------------------------------


async def test_a_header_block_is_kept_only_up_to_its_limit():
    server = Server(usage=Usage(Limits(max_metadata_bytes=4_096)))
    server.connection.data_received(GREETING + raw(frames.HEADERS, 0, 1, bytes(1_000)))
    for _ in range(100):
        if not server.wire.closed:
            server.connection.data_received(raw(frames.CONTINUATION, 0, 1, bytes(100)))
            assert server.usage.held <= 4_096
    assert sent_away(server, "max_metadata_bytes")
    server.connection.connection_lost(None)
    assert server.usage.held == 0


@pytest.mark.parametrize(
    "fields",
    [
        [*HEADERS, ("x", "y" * 5_000)],
        [*HEADERS, *((f"x-{n}", "") for n in range(1_000))],
        [(name, "/" + "p" * 65_536 if name == ":path" else value) for name, value in HEADERS],
    ],
    ids=["a long one", "a thousand", "a path of 64 KiB"],
)
async def test_fields_above_their_limit_end_the_connection(fields):
    server = Server(usage=Usage(Limits(max_metadata_bytes=4_096)))
    block = hpack.Encoder().encode(fields)
    server.connection.data_received(GREETING)
    for at in range(0, len(block), 4_000):
        kind = frames.CONTINUATION if at else frames.HEADERS
        flags = frames.END_HEADERS if at + 4_000 >= len(block) else 0
        if not server.wire.closed:
            server.connection.data_received(raw(kind, flags, 1, block[at : at + 4_000]))
    assert server.wire.closed
    assert CALM in bytes(server.wire.sent)
    assert server.usage.reached["max_metadata_bytes"] == 1
    assert not server.calls


async def test_a_header_bomb_ends_the_connection():
    """One large field in the table, and a thousand times its index: six kilobytes become
    four megabytes."""
    encoder = hpack.Encoder()
    server = Server()
    first = encoder.encode([*HEADERS, ("bomb", "x" * 4_000)])
    bomb = encoder.encode([*HEADERS, *[("bomb", "x" * 4_000)] * 1_000])
    assert len(bomb) < 6_000
    server.connection.data_received(GREETING + request(1, first) + request(3, bomb))
    assert server.wire.closed
    assert len(server.calls) == 1


@pytest.mark.parametrize(("times", "ends"), [(0, False), (2, False), (3, True), (10_000, True)])
async def test_the_table_is_not_resized_again_and_again(times, ends):
    server = Server()
    sizes = b"\x3f\xe1\x1f" * times  # to 4,096
    server.connection.data_received(GREETING + request(1, sizes + BLOCK))
    assert server.wire.closed == ends
    assert len(server.calls) == (not ends)


@given(st.lists(st.integers(1, 9_000), min_size=1, max_size=200))
def test_what_is_remembered_of_blocks_is_bounded(lengths):
    reader = HeaderReader(list, 65_536)
    for number, length in enumerate(lengths):
        fields = [*HEADERS, ("x", str(number) + "y" * length)]
        never = [hpack.NeverIndexedHeaderTuple(*each) for each in fields]
        reader.read(hpack.Encoder().encode(never))
    kept = sum(
        len(block) + sum(len(n) + len(v) for n, v in known.meaning)
        for block, known in reader._known.items()
    )
    assert kept <= REMEMBERED
    assert reader._known or min(lengths) > 1_000
