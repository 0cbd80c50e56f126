"""The server's side of HTTP/2 against another implementation of the client's (`h2`)."""

from __future__ import annotations

import asyncio

import h2.events
import h2.settings
import pytest

from gearshift.http2 import frames
from http2_pair import (
    END,
    HEADERS,
    OK,
    Pair,
    of_kind,
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
    pair = Pair(max_streams=2)
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
