"""One client's connection: frames in, frames out, and the streams in between.

Everything a peer can make this side keep has a bound (`gearshift.core.limits`): streams at a time,
bytes of headers, bytes that came in and were not taken, answers that it does not read. A peer that
does not read what it is sent is not read from either; one that does what costs work and brings
nothing, or cancels without end, is sent away.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from gearshift.core.limits import Usage
from gearshift.http2 import frames, limits
from gearshift.http2.fields import UNSAID
from gearshift.http2.frames import ConnectionFault, StreamFault
from gearshift.http2.header_blocks import Fields, HeaderReader
from gearshift.http2.leaving import Leaving
from gearshift.http2.stream import Receiver, Stream
from gearshift.http2.turns import Turns

Meaning = TypeVar("Meaning")


class Connection(Leaving, Generic[Meaning]):
    """The protocol of one connection. `interpret` reads a request's header fields, `accept`
    gets each new stream with what they mean and returns who takes its bytes; `made` hears
    that the connection is there, behind the handshake where there is one, and `gone` that it is
    over."""

    def __init__(
        self,
        interpret: Callable[[Fields], Meaning],
        accept: Callable[[Stream, Meaning], Receiver],
        gone: Callable[[Connection[Meaning]], None],
        *,
        usage: Usage,
        made: Callable[[Connection[Meaning]], None] | None = None,
        stream_window: int = limits.STREAM_WINDOW,
        turns: Turns | None = None,
    ) -> None:
        """`usage` is that of all connections together; reading goes by `turns`."""
        super().__init__(usage, turns)
        self.stream_window = stream_window
        self.held = 0
        """Bytes that came in and were not taken."""
        self.requests = 0
        """Requests under way inside the streams, beyond the one that each stream is."""
        self._headers = HeaderReader(interpret, self._limits.max_metadata_bytes)
        self._accept = accept
        self._gone = gone
        self._made = made
        self._room = frames.DEFAULT_WINDOW

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        opened = transport.get_extra_info("socket")
        if opened is not None:
            # A peer that vanished without a word is noticed by the kernel.
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.send(
            frames.settings(
                (
                    (frames.MAX_CONCURRENT_STREAMS, self._limits.max_streams),
                    (frames.INITIAL_WINDOW_SIZE, self.stream_window),
                    (frames.MAX_FRAME_SIZE, limits.MAX_FRAME),
                    (frames.MAX_HEADER_LIST_SIZE, self._limits.max_metadata_bytes),
                )
            )
        )
        self._credit()
        if self._leaving:  # that was decided before the connection was there
            self._depart()
        if self._made is not None:
            self._made(self)

    def about(self, what: str) -> Any:
        """What the transport knows of the peer (`asyncio.BaseTransport.get_extra_info`)."""
        return None if self._transport is None else self._transport.get_extra_info(what)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self.forget_unread()
        for stream in list(self.streams.values()):
            self._cancel(stream)
        self._block = None
        self.usage.held -= self._kept
        self.usage.unread -= self._stuffed
        self._kept = self._stuffed = 0
        self._told()
        self._gone(self)

    def _credit(self) -> None:
        more = limits.CONNECTION_WINDOW - self._room
        self._room = limits.CONNECTION_WINDOW
        self.send(frames.window_update(0, more))

    # --- frames ------------------------------------------------------------------------

    def take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self._block is not None and kind != frames.CONTINUATION:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a header block was cut short")
        if kind == frames.DATA:
            self._on_data(flags, number, payload)
        elif kind == frames.HEADERS:
            self._on_headers(flags, number, payload)
        else:
            frames.check(kind, flags, number, payload)
            self._on_other(kind, flags, number, payload)

    def _on_other(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == frames.WINDOW_UPDATE:
            self._on_window_update(number, payload)
        elif kind == frames.RST_STREAM:
            self._on_reset(number, payload)
        elif kind == frames.SETTINGS:
            if not flags & frames.ACK:
                # Each changes the window of every stream.
                self._idle(1 + len(self.streams) // 16)
                self._on_settings(payload)
        elif kind == frames.PING:
            self._idle()
            if not flags & frames.ACK:
                self.send(frames.frame(frames.PING, frames.ACK, 0, payload))
            elif payload == frames.FAREWELL and self._heard is not None:
                self.leave()
        elif kind == frames.CONTINUATION:
            self._on_continuation(flags, number, payload)
        elif kind == frames.GOAWAY:
            self._leaving = True
            self._told()
            self._close_if_done()
        else:
            self._idle()
        # PRIORITY and frames that nobody knows are ignored (RFC 9113, sections 5.3.2 and 5.5).

    def _on_data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)  # flow control counts the padding, too
        self._room -= size
        if self._room < 0:
            raise ConnectionFault(frames.FLOW_CONTROL_ERROR, "more bytes than the window has")
        if self._room < limits.CONNECTION_WINDOW // 2:
            self._credit()
        stream = self.streams.get(number)
        if stream is None or stream.ended:
            if number == 0 or number > self._last_stream:
                raise ConnectionFault(frames.PROTOCOL_ERROR, f"DATA on idle stream {number}")
            if stream is not None:
                raise StreamFault(number, frames.STREAM_CLOSED, "DATA behind the end")
            return  # it was still on its way when the stream ended here
        stream.room -= size
        if stream.room < 0:
            raise StreamFault(number, frames.FLOW_CONTROL_ERROR, "more bytes than the window has")
        body = frames.unpadded(payload, flags)
        padding = size - len(body)
        length = len(body)
        if length <= limits.TINY and not flags & frames.END_STREAM:
            self._idle()
        usage = self.usage
        stream.held += length
        self.held += length
        usage.held += length
        most = self._limits.max_held_bytes
        if 2 * self.held > most or (usage.held > most and self.held > usage.share(most)):
            stream.receiver.refused("max_held_bytes", "bytes of requests that are not complete")
            if stream.open:
                raise StreamFault(number, frames.ENHANCE_YOUR_CALM, "requests above max_held_bytes")
            return
        stream.ended = bool(flags & frames.END_STREAM)
        if stream.promised != UNSAID:
            stream.keep_promise(len(body), stream.ended)
        if padding:
            stream.more(padding)
        stream.receiver.data(body, ended=stream.ended)

    def _on_headers(self, flags: int, number: int, payload: bytes) -> None:
        payload = frames.unpadded(payload, flags)
        if flags & frames.PRIORITISED:
            if len(payload) < frames.PRIORITY_SIZE:
                raise ConnectionFault(frames.FRAME_SIZE_ERROR, "HEADERS without their priority")
            payload = payload[frames.PRIORITY_SIZE :]
        if flags & frames.END_HEADERS:
            self._on_block(flags, number, payload)
        else:
            self._block = (number, flags, bytearray(payload))
            self.keep(0, moved=True)

    def _on_continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != number:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "CONTINUATION of nothing")
        _, first_flags, block = self._block
        block += payload
        if len(block) > self._limits.max_metadata_bytes:
            self._too_much("max_metadata_bytes", "bytes of a header block")
        if not payload and not flags & frames.END_HEADERS:
            # They cost work and never come to an end.
            raise ConnectionFault(frames.ENHANCE_YOUR_CALM, "a header block without end")
        self.keep(0, moved=False)
        if flags & frames.END_HEADERS:
            self._block = None
            self.keep(0, moved=True)
            self._on_block(first_flags, number, bytes(block))

    def _on_block(self, flags: int, number: int, block: bytes) -> None:
        # Even that of a refused stream is read: both sides' tables must stay the same.
        try:
            meaning, promised, fault, trailers_fault = self._headers.read(block)
        except ConnectionFault as too_much:
            if too_much.code == frames.ENHANCE_YOUR_CALM:
                self.usage.reach("max_metadata_bytes")
            raise
        ended = bool(flags & frames.END_STREAM)
        stream = self.streams.get(number)
        if stream is not None:
            if stream.ended:
                raise StreamFault(number, frames.STREAM_CLOSED, "HEADERS behind the end")
            if not ended or trailers_fault:
                why = trailers_fault or "headers in the middle"
                raise StreamFault(number, frames.PROTOCOL_ERROR, why)
            if stream.promised != UNSAID:
                stream.keep_promise(0, True)
            stream.ended = True
            stream.receiver.data(b"", ended=True)
            return
        if number % 2 == 0:
            raise ConnectionFault(frames.PROTOCOL_ERROR, f"clients have no stream {number}")
        if number <= self._last_stream:
            if meaning is None:
                return  # trailers of a stream that ended here
            raise ConnectionFault(frames.PROTOCOL_ERROR, f"stream {number} begins again")
        self._last_stream = number
        if meaning is None:
            raise StreamFault(number, frames.PROTOCOL_ERROR, fault)
        if number in self.given_up.streams:
            self.usage.given_up += 1
            return  # what follows of it is that of a stream that has ended here
        if ended and promised > 0:
            raise StreamFault(number, frames.PROTOCOL_ERROR, f"no DATA, {promised} bytes promised")
        if len(self.streams) >= self._limits.max_streams:
            self.usage.reach("max_streams")
            raise StreamFault(number, frames.REFUSED_STREAM, "as many streams as there may be")
        if self._leaving:
            raise StreamFault(number, frames.REFUSED_STREAM, "no room for another stream")
        stream = Stream(self, number, self.stream_window, self._peer_window)
        stream.promised = promised
        stream.ended = ended
        self.streams[number] = stream
        self.usage.requests += 1
        receiver = self._accept(stream, meaning)
        if stream.open:
            stream.receiver = receiver
            if ended:
                receiver.data(b"", ended=True)

    def _on_reset(self, number: int, payload: bytes) -> None:
        frames.read_word(payload, "RST_STREAM")
        stream = self._opened(number, "RST_STREAM")
        self.given_up.streams.discard(number)
        if stream is None:
            self._idle()
            return
        self._cancel(stream)
        self.broke()
