"""Peers that cost work and bring nothing, that keep things waiting, and that do not read."""

from __future__ import annotations

import asyncio
import struct

import h2.events
import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.limits import Limits, Usage
from gearshift.http2 import frames
from gearshift.http2.header_blocks import REMEMBERED, HeaderReader
from gearshift.http2.patience import Patience
from http2_pair import BLOCK, END, GREETING, HEADERS, OK, REQUEST, Pair, Server, of_kind, raw, reset

CALM = struct.pack(">L", frames.ENHANCE_YOUR_CALM)
WINDOW_OF_ONE = struct.pack(">HL", frames.INITIAL_WINDOW_SIZE, 1)


def request(number: int, block: bytes = BLOCK, ended: bool = False) -> bytes:
    flags = frames.END_HEADERS | (frames.END_STREAM if ended else 0)
    return raw(frames.HEADERS, flags, number, block)


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


# --- slow ones -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        frames.head(1_000, frames.HEADERS, frames.END_HEADERS, 1) + BLOCK[:5],
        raw(frames.HEADERS, 0, 1, BLOCK),
        REQUEST + frames.head(10_000, frames.DATA, 0, 1) + b"x",
        REQUEST + frames.head(100_000, frames.DATA, 0, 1) + b"x",
    ],
    ids=["a frame", "a header block", "a small message", "a large message"],
)
async def test_a_frame_that_does_not_get_on_is_noticed(sent):
    server = Server()
    server.answering = False
    server.connection.data_received(GREETING)
    begun = asyncio.get_running_loop().time()
    assert not server.connection.stalled(begun + 60)
    server.connection.data_received(sent)
    for _ in range(100):  # byte by byte does not make it new
        server.connection.data_received(b"")
    assert server.connection.stalled(begun + 60)
    assert not server.connection.stalled(begun)
    assert server.usage.held > 0
    server.connection.connection_lost(None)
    assert server.usage.held == 0


async def test_a_frame_that_is_complete_is_not_waited_for():
    server = Server()
    server.connection.data_received(GREETING)
    for at in range(len(REQUEST)):
        server.connection.data_received(REQUEST[at : at + 1])
    begun = asyncio.get_running_loop().time()
    assert not server.connection.stalled(begun + 60)
    assert server.usage.held == 0


async def test_a_large_message_byte_by_byte_comes_in_good_pieces():
    """Each piece would be an object of its own, and much larger than what it holds."""
    server = Server()
    server.answering = False
    sent = REQUEST + raw(frames.DATA, frames.END_STREAM, 1, bytes(50_000))
    server.connection.data_received(GREETING)
    for at in range(len(sent)):
        server.connection.data_received(sent[at : at + 1])
    assert len(server.calls[0].body) == 50_000
    assert server.calls[0].times <= 4


async def test_incomplete_requests_of_all_connections_have_one_bound():
    usage = Usage(Limits(max_held_bytes=40_000))
    usage.connections = 1_000
    servers = [Server(usage=usage) for _ in range(4)]
    for server in servers:
        server.answering = False
        server.connection.data_received(GREETING + REQUEST + raw(frames.DATA, 0, 1, bytes(19_000)))
    assert [server.calls[0].refusals for server in servers] == [
        [],
        [],
        ["max_held_bytes"],
        ["max_held_bytes"],
    ]
    # Who has little of it is served all the same.
    usage.connections = 4
    other = Server(usage=usage)
    other.answering = False
    other.connection.data_received(GREETING + REQUEST + raw(frames.DATA, 0, 1, bytes(4_900)))
    assert other.calls[0].refusals == []
    other.connection.data_received(raw(frames.DATA, 0, 1, bytes(200)))
    assert other.calls[0].refusals == ["max_held_bytes"]
    servers.append(other)
    for server in servers:
        server.connection.connection_lost(None)
    assert usage.held == usage.requests == 0


# --- who does not read ---------------------------------------------------------------------


def large(server: Server, number: int, size: int) -> bool:
    return server.calls[number].stream.answer(OK, bytes(size), END)


async def test_answers_that_are_not_read_have_a_bound_by_connection():
    server = Server(usage=Usage(Limits(max_unread_bytes=2_000_000)))
    server.answering = False
    settings = raw(frames.SETTINGS, 0, 0, struct.pack(">HL", frames.INITIAL_WINDOW_SIZE, 0))
    server.connection.data_received(
        GREETING + settings + b"".join(request(number, ended=True) for number in (1, 3, 5, 7))
    )
    assert large(server, 0, 600_000)
    assert not large(server, 1, 600_000)  # above half of what all may have
    assert large(server, 1, 300_000)
    assert server.usage.reached["max_unread_bytes"] == 1
    assert server.usage.unread == 900_000
    # One that reads nothing does not keep the others from theirs.
    other = Server(usage=server.usage)
    other.connection.data_received(GREETING + request(1, ended=True))
    await asyncio.sleep(0)
    assert other.usage.requests == 4
    server.connection.connection_lost(None)
    assert server.usage.unread == server.usage.requests == 0


async def test_one_answer_may_be_as_large_as_it_is_if_nothing_else_waits():
    pair = Pair(usage=Usage(Limits(max_unread_bytes=2_000_000)))
    pair.server.answering = False
    number = pair.ask(b"x")
    await pair.exchange()
    assert large(pair.server, 0, 3_000_000)
    await pair.exchange()
    answered = [e for e in pair.events if isinstance(e, h2.events.DataReceived)]
    assert sum(len(each.data) for each in answered) == 3_000_000
    assert {each.stream_id for each in answered} == {number}
    assert pair.server.usage.unread == 0


async def test_nothing_is_written_to_who_does_not_read_until_it_does():
    server = Server()
    server.answering = False
    windows = raw(frames.WINDOW_UPDATE, 0, 0, struct.pack(">L", 2**30))
    settings = raw(frames.SETTINGS, 0, 0, struct.pack(">HL", frames.INITIAL_WINDOW_SIZE, 2**30))
    server.connection.data_received(
        GREETING + settings + windows + request(1, ended=True) + request(3, ended=True)
    )
    await asyncio.sleep(0)
    server.wire.sent.clear()
    server.connection.pause_writing()
    assert not server.wire.reading
    assert large(server, 0, 5_000_000)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(server.wire.sent) < 1_000
    assert server.usage.unread >= 5_000_000
    server.connection.resume_writing()
    # It goes out in parts: else all of it would lie in the transport, where nobody counts it.
    await asyncio.sleep(0)
    assert len(server.wire.sent) < 1_000_000
    for _ in range(40):
        await asyncio.sleep(0)
    assert len(server.wire.sent) > 5_000_000
    assert server.usage.unread == 0


async def test_who_reads_nothing_is_noticed_and_who_reads_a_little_is_not():
    server = Server()
    server.connection.data_received(GREETING)
    await asyncio.sleep(0)
    server.wire.sent += bytes(100_000)
    begun = asyncio.get_running_loop().time()
    server.connection.pause_writing()
    assert server.usage.unread == len(server.wire.sent)
    assert server.connection.stalled(begun + 1)
    server.connection._stuck["reading"] = begun - 50
    del server.wire.sent[:50_000]
    assert not server.connection.stalled(begun - 10)
    server.connection.resume_writing()
    assert not server.connection.stalled(begun + 1)
    assert server.usage.unread == 0


async def test_who_does_not_hear_of_its_end_is_noticed():
    server = Server()
    server.connection.data_received(GREETING)
    server.connection.leave()
    await asyncio.sleep(0)
    assert server.wire.closed
    assert server.connection.stalled(asyncio.get_running_loop().time() + 1)


async def test_an_answer_read_byte_by_byte_is_not_getting_on():
    pair = Pair()
    pair.server.answering = False
    pair.client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
    number = pair.ask(b"x")
    await pair.exchange()
    assert large(pair.server, 0, 100_000)
    stream = pair.server.calls[0].stream
    stream.since -= 50
    for _ in range(50):
        pair.client.increment_flow_control_window(1, number)
        await pair.exchange(pay=False)
    assert stream.since < asyncio.get_running_loop().time() - 40
    pair.client.increment_flow_control_window(20_000, number)
    await pair.exchange(pay=False)
    assert stream.since > asyncio.get_running_loop().time() - 40
    pair.server.connection.give_up(stream, frames.ENHANCE_YOUR_CALM)
    gone = of_kind(await pair.exchange(), h2.events.StreamReset)
    assert [each.stream_id for each in gone] == [number]
    assert pair.server.usage.unread == 0
