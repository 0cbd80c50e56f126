"""The server's side of HTTP/2 against another implementation of the client's (`h2`)."""

from __future__ import annotations

import asyncio

import h2.events
import h2.settings
import pytest

from gearshift.core.limits import Limits, Usage
from gearshift.http2 import frames
from http2_pair import (
    END,
    GREETING,
    HEADERS,
    OK,
    REQUEST,
    REQUEST_ON_3,
    REQUEST_ON_5,
    Pair,
    Server,
    of_kind,
    raw,
    reset,
)


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
    pair = Pair(usage=Usage(Limits(max_streams=2)))
    pair.server.answering = False
    pair.ask(b"1"), pair.ask(b"2")
    third = pair.ask(b"3")
    events = await pair.exchange()
    (gone,) = of_kind(events, h2.events.StreamReset)
    assert (gone.stream_id, gone.error_code) == (third, frames.REFUSED_STREAM)
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


def goaways(events) -> list[int]:
    return [e.last_stream_id for e in of_kind(events, h2.events.ConnectionTerminated)]


async def test_a_farewell_loses_nothing_that_was_sent_before_it_was_heard():
    server = Server()
    server.answering = False
    told = []
    server.connection.data_received(GREETING + REQUEST + raw(frames.DATA, 1, 1, b"open"))
    server.connection.bid_farewell(lambda: told.append(True))
    await asyncio.sleep(0)
    first = frames.goaway(frames.LARGEST_STREAM, frames.NO_ERROR, "shutting down")
    ping = raw(frames.PING, 0, 0, frames.FAREWELL)
    assert bytes(server.wire.sent).endswith(first + ping)
    server.connection.data_received(REQUEST_ON_3 + raw(frames.DATA, 1, 3, b"was under way"))
    assert [bytes(call.body) for call in server.calls] == [b"open", b"was under way"]
    assert not told
    server.connection.data_received(raw(frames.PING, frames.ACK, 0, frames.FAREWELL))
    assert told == [True]
    server.connection.data_received(REQUEST_ON_5)
    await asyncio.sleep(0)
    last = frames.goaway(3, frames.NO_ERROR, "shutting down")
    assert bytes(server.wire.sent).endswith(last + reset(5, frames.REFUSED_STREAM))
    assert not server.wire.closed
    for call in server.calls:
        call.stream.answer(OK, b"done", END)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert server.wire.closed


async def test_who_does_not_answer_a_farewell_is_left_all_the_same():
    server = Server()
    told = []
    server.connection.data_received(GREETING + REQUEST)
    server.connection.bid_farewell(lambda: told.append(True))
    server.connection.leave()
    server.connection.data_received(REQUEST_ON_3)
    await asyncio.sleep(0)
    assert told == [True]
    assert len(server.calls) == 1
    assert bytes(server.wire.sent).endswith(reset(3, frames.REFUSED_STREAM))


@pytest.mark.parametrize("over", ["lost", "leaving", "its own goaway", "not there yet"])
async def test_a_connection_that_ends_has_heard_its_farewell(over):
    server = Server(connected=over != "not there yet")
    told = []
    if over == "leaving":
        server.connection.leave()
    server.connection.bid_farewell(lambda: told.append(True))
    if over == "lost":
        server.connection.connection_lost(None)
    elif over == "its own goaway":
        server.connection.data_received(GREETING + raw(frames.GOAWAY, 0, 0, bytes(8)))
    assert told == [True]


async def test_an_answer_to_no_farewell_is_nothing():
    server = Server()
    server.connection.data_received(GREETING + raw(frames.PING, frames.ACK, 0, frames.FAREWELL))
    server.connection.data_received(REQUEST)
    assert len(server.calls) == 1


async def test_a_connection_that_comes_too_late_is_sent_on_at_once():
    server = Server(connected=False)
    server.connection.leave()
    server.connection.connection_made(server.wire)
    await asyncio.sleep(0)
    client = h2.connection.H2Connection()
    client.initiate_connection()
    assert goaways(client.receive_data(bytes(server.wire.sent))) == [0]
    await asyncio.sleep(0)
    assert server.wire.closed
