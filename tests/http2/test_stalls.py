"""Peers that keep things waiting, and that do not read."""

from __future__ import annotations

import asyncio
import struct

import h2.events
import h2.settings
import pytest

from gearshift.core.limits import Limits, Usage
from gearshift.http2 import frames
from http2_pair import BLOCK, END, GREETING, OK, REQUEST, Pair, Server, of_kind, raw, request

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
