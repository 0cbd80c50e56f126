"""One client's connection: frames in, frames out, and the streams in between.

Everything a peer can make this side keep has a bound: streams at a time, bytes of headers,
bytes that came in and were not taken. A peer that does not read what it is sent is not read
from either, so that nothing piles up for it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from gearshift.http2 import frames, limits
from gearshift.http2.fields import UNSAID
from gearshift.http2.frame_reader import FrameReader
from gearshift.http2.frames import ConnectionFault, StreamFault
from gearshift.http2.header_blocks import Fields, HeaderReader
from gearshift.http2.stream import Receiver, Stream
from gearshift.http2.turns import Turns

Meaning = TypeVar("Meaning")

GOING = "shutting down"


class Connection(FrameReader, Generic[Meaning]):
    """The protocol of one connection. `interpret` reads a request's header fields, `accept`
    gets each new stream with what they mean and returns who takes its bytes; `gone` hears
    that the connection is over."""

    def __init__(
        self,
        interpret: Callable[[Fields], Meaning],
        accept: Callable[[Stream, Meaning], Receiver],
        gone: Callable[[Connection[Meaning]], None],
        *,
        stream_window: int = limits.STREAM_WINDOW,
        max_streams: int = limits.MAX_STREAMS,
        turns: Turns | None = None,
    ) -> None:
        super().__init__(turns)
        self.stream_window = stream_window
        self.window = frames.DEFAULT_WINDOW
        """Bytes that may be sent."""
        self.peer_frame = frames.DEFAULT_FRAME
        self.held = 0
        self.blocked: set[Stream] = set()
        """Streams with something to send that the peer has no room for."""
        self.streams: dict[int, Stream] = {}
        self._headers = HeaderReader(interpret)
        self._accept = accept
        self._gone = gone
        self._max_streams = max_streams
        self._transport: Any = None
        self._loop = asyncio.get_running_loop()
        self._out: list[bytes] = []
        self._flushing = False
        self._room = frames.DEFAULT_WINDOW
        self._peer_window = frames.DEFAULT_WINDOW
        self._last_stream = 0
        self._block: tuple[int, int, bytearray] | None = None
        """Stream, flags and bytes of a header block that goes on in the next frame."""
        self._full = self._held_back = self._resting = False
        self._client: str | None = None
        self._many_clients = False
        self._leaving = False
        self._heard: Callable[[], None] | None = None

    # --- the transport's side ----------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        opened = transport.get_extra_info("socket")
        if opened is not None:
            # A peer that vanished without a word is noticed by the kernel.
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.send(
            frames.settings(
                (
                    (frames.MAX_CONCURRENT_STREAMS, self._max_streams),
                    (frames.INITIAL_WINDOW_SIZE, self.stream_window),
                    (frames.MAX_FRAME_SIZE, limits.MAX_FRAME),
                    (frames.MAX_HEADER_LIST_SIZE, limits.MAX_LIST),
                )
            )
        )
        self._credit()
        if self._leaving:  # that was decided before the connection was there
            self._depart()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self.forget_unread()
        for stream in list(self.streams.values()):
            self._cancel(stream)
        self._told()
        self._gone(self)

    def pause_writing(self) -> None:
        self._full = True
        self._read_or_not()

    def resume_writing(self) -> None:
        self._full = False
        self._read_or_not()

    def hold_back(self, held: bool) -> None:
        if held is not self._held_back:
            self._held_back = held
            self._read_or_not()

    def _read_or_not(self) -> None:
        """A peer that does not read, or sends more than can be read, is not read from."""
        if self._transport is not None and not self._transport.is_closing():
            if self._full or self._held_back or self._resting:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def used_by(self, client: str) -> None:
        """A request of this client came; there may be several behind one proxy."""
        if self._client is None:
            self._client = client
        elif client != self._client:
            self._many_clients = True

    def rest(self, seconds: float) -> None:
        """Read nothing for so long, because its one client has sent too much: what it sends then
        waits with itself. Where several clients share the connection, the others would wait, too,
        and nothing is done."""
        if not self._many_clients and not self._resting:
            self._resting = True
            self._read_or_not()
            self._loop.call_later(seconds, self._rested)

    def _rested(self) -> None:
        self._resting = False
        self._read_or_not()

    def advertise(self, streams: int) -> None:
        """Tell the peer how many requests it should have here at a time; more are still taken, up
        to the limit that it was told at first."""
        if self._transport is not None and not self._transport.is_closing():
            self.send(frames.settings(((frames.MAX_CONCURRENT_STREAMS, streams),)))

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
                self._on_settings(payload)
        elif kind == frames.PING:
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
        stream.held += len(body)
        self.held += len(body)
        if self.held > limits.MAX_HELD:
            raise StreamFault(
                number,
                frames.ENHANCE_YOUR_CALM,
                f"unfinished requests above {limits.MAX_HELD} bytes",
            )
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

    def _on_continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != number:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "CONTINUATION of nothing")
        _, first_flags, block = self._block
        block += payload
        if len(block) > limits.MAX_BLOCK or not payload:
            # Empty ones cost work and never come to an end.
            raise ConnectionFault(frames.ENHANCE_YOUR_CALM, "a header block without end")
        if flags & frames.END_HEADERS:
            self._block = None
            self._on_block(first_flags, number, bytes(block))

    def _on_block(self, flags: int, number: int, block: bytes) -> None:
        # Even that of a refused stream is read: both sides' tables must stay the same.
        meaning, promised, fault, trailers_fault = self._headers.read(block)
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
        if ended and promised > 0:
            raise StreamFault(number, frames.PROTOCOL_ERROR, f"no DATA, {promised} bytes promised")
        if len(self.streams) >= self._max_streams or self._leaving:
            raise StreamFault(number, frames.REFUSED_STREAM, "no room for another stream")
        stream = Stream(self, number, self.stream_window, self._peer_window)
        stream.promised = promised
        stream.ended = ended
        self.streams[number] = stream
        receiver = self._accept(stream, meaning)
        if stream.open:
            stream.receiver = receiver
            if ended:
                receiver.data(b"", ended=True)

    def _on_reset(self, number: int, payload: bytes) -> None:
        frames.read_word(payload, "RST_STREAM")
        stream = self._opened(number, "RST_STREAM")
        if stream is not None:
            self._cancel(stream)

    def _opened(self, number: int, what: str) -> Stream | None:
        """The stream, None if it is over; one that never began is a fault."""
        if number == 0 or number > self._last_stream:
            raise ConnectionFault(frames.PROTOCOL_ERROR, f"{what} of idle stream {number}")
        return self.streams.get(number)

    def _on_window_update(self, number: int, payload: bytes) -> None:
        more = frames.read_word(payload, "WINDOW_UPDATE") & frames.LARGEST_WINDOW
        if number == 0:
            self.window += more
            if not more or self.window > frames.LARGEST_WINDOW:
                code = frames.FLOW_CONTROL_ERROR if more else frames.PROTOCOL_ERROR
                raise ConnectionFault(code, f"a window grows by {more}")
            self._unblock()
            return
        stream = self._opened(number, "WINDOW_UPDATE")
        if stream is None:
            return
        stream.window += more
        if not more or stream.window > frames.LARGEST_WINDOW:
            code = frames.FLOW_CONTROL_ERROR if more else frames.PROTOCOL_ERROR
            raise StreamFault(number, code, f"a window grows by {more}")
        stream.flush()

    def _on_settings(self, payload: bytes) -> None:
        for name, value in frames.read_settings(payload):
            if name == frames.INITIAL_WINDOW_SIZE:
                for stream in self.streams.values():
                    stream.window += value - self._peer_window
                self._peer_window = value
            elif name == frames.MAX_FRAME_SIZE:
                self.peer_frame = min(value, limits.MAX_FRAME)
        self.send(frames.frame(frames.SETTINGS, frames.ACK, 0))
        self._unblock()

    # --- our side ----------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Queue frames; all of one turn of the loop leave together."""
        self._out.append(data)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        data = b"".join(self._out)
        self._out.clear()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def forget(self, stream: Stream) -> None:
        """`stream` is over."""
        self.streams.pop(stream.id, None)
        self.blocked.discard(stream)
        if self._leaving:
            self._close_if_done()

    def bid_farewell(self, heard: Callable[[], None]) -> None:
        """Let the peer go elsewhere without losing what it sends until it hears of it: that is
        still taken. Then `leave`. `heard` is called once, then or when the connection is over
        (RFC 9113, section 6.8)."""
        if self._leaving:
            heard()
            return
        self._heard = heard
        if self._transport is None:  # the peer has sent nothing yet
            self.leave()
            return
        self.send(frames.goaway(frames.LARGEST_STREAM, frames.NO_ERROR, GOING))
        # Whoever answers this has read what was before it.
        self.send(frames.frame(frames.PING, 0, 0, frames.FAREWELL))

    def leave(self) -> None:
        """Take nothing new; close when what is open has been answered."""
        if not self._leaving:
            self._leaving = True
            self._told()
            if self._transport is not None:
                self._depart()

    def _depart(self) -> None:
        self.send(frames.goaway(self._last_stream, frames.NO_ERROR, GOING))
        self._close_if_done()

    def _told(self) -> None:
        heard, self._heard = self._heard, None
        if heard is not None:
            heard()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def _close_if_done(self) -> None:
        if not self.streams:
            self._loop.call_soon(self._close)

    def _close(self) -> None:
        if self._transport is not None:
            self._flush()
            self._transport.close()

    def _credit(self) -> None:
        more = limits.CONNECTION_WINDOW - self._room
        self._room = limits.CONNECTION_WINDOW
        self.send(frames.window_update(0, more))

    def _unblock(self) -> None:
        for stream in list(self.blocked):
            self.blocked.discard(stream)
            stream.flush()

    def drop(self, fault: StreamFault) -> None:
        stream = self.streams.get(fault.stream)
        self.send(frames.rst_stream(fault.stream, fault.code))
        if stream is not None:
            self._cancel(stream)

    def _cancel(self, stream: Stream) -> None:
        receiver = stream.receiver
        stream.end()
        receiver.cancelled()

    def fail(self, fault: ConnectionFault) -> None:
        self.send(frames.goaway(self._last_stream, fault.code, str(fault)))
        self._close()
