"""One client's connection: frames in, frames out, and the streams in between.

Everything a peer can make this side keep has a bound (`gearshift.core.limits`): streams at a time,
bytes of headers, bytes that came in and were not taken, answers that it does not read. A peer that
does not read what it is sent is not read from either; one that does what costs work and brings
nothing, or cancels without end, is sent away.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any, Generic, NoReturn, TypeVar

from gearshift.core.limits import Usage, told
from gearshift.http2 import frames, limits
from gearshift.http2.fields import UNSAID
from gearshift.http2.frame_reader import FrameReader
from gearshift.http2.frames import ConnectionFault, StreamFault
from gearshift.http2.header_blocks import Fields, HeaderReader
from gearshift.http2.patience import Patience
from gearshift.http2.stream import Receiver, Stream
from gearshift.http2.turns import Turns

Meaning = TypeVar("Meaning")

GOING = "shutting down"

SENDING, READING, ENDING = "sending", "reading", "ending"
"""What a peer may not get on with."""


class Connection(FrameReader, Generic[Meaning]):
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
        super().__init__(turns)
        self.usage = usage
        self._limits = usage.limits
        self.stream_window = stream_window
        self.window = frames.DEFAULT_WINDOW
        """Bytes that may be sent."""
        self.peer_frame = frames.DEFAULT_FRAME
        self.held = 0
        """Bytes that came in and were not taken."""
        self.unread = 0
        """Bytes of answers that wait until the peer has room for them."""
        self.requests = 0
        """Requests under way inside the streams, beyond the one that each stream is."""
        self.choked = False
        """The peer does not read: nothing more is written until it does."""
        self.ahead = 0
        """Bytes of answers that waited, written in this turn of the loop."""
        self.blocked: set[Stream] = set()
        """Streams with something to send that the peer has no room for."""
        self.streams: dict[int, Stream] = {}
        self._headers = HeaderReader(interpret, self._limits.max_metadata_bytes)
        self._patience = Patience()
        self._kept = 0
        """Bytes of frames and header blocks that are not complete."""
        self._stuffed = 0
        """Bytes that the peer had not read when it was last looked."""
        self._stuck: dict[str, float] = {}
        """Since when what does not get on, on the loop's clock."""
        self._accept = accept
        self._gone = gone
        self._made = made
        self._transport: Any = None
        self._loop = asyncio.get_running_loop()
        self._out: list[bytes] = []
        self._flushing = False
        self._room = frames.DEFAULT_WINDOW
        self._peer_window = frames.DEFAULT_WINDOW
        self._last_stream = 0
        self._block: tuple[int, int, bytearray] | None = None
        """Stream, flags and bytes of a header block that goes on in the next frame."""
        self._held_back = self._resting = False
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

    def pause_writing(self) -> None:
        self.choked = True
        self._stuck[READING] = self._loop.time()
        self._stuff(self._transport.get_write_buffer_size())
        self._read_or_not()

    def resume_writing(self) -> None:
        self.choked = False
        self._stuck.pop(READING, None)
        self._stuff(0)
        self._read_or_not()
        self._unblock()

    def hold_back(self, held: bool) -> None:
        if held is not self._held_back:
            self._held_back = held
            self._read_or_not()

    def _read_or_not(self) -> None:
        """A peer that does not read, or sends more than can be read, is not read from."""
        if self._transport is not None and not self._transport.is_closing():
            if self.choked or self._held_back or self._resting:
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

    def _stuff(self, size: int) -> None:
        """So many bytes lie between here and the peer."""
        self.usage.unread += size - self._stuffed
        self._stuffed = size

    def keep(self, size: int, *, moved: bool) -> None:
        size += len(self._block[2]) if self._block is not None else 0
        self.usage.held += size - self._kept
        self._kept = size
        if not size:
            self._stuck.pop(SENDING, None)
            return
        if moved or SENDING not in self._stuck:
            self._stuck[SENDING] = self._loop.time()
        most = self._limits.max_held_bytes
        if self.usage.held > most and size > self.usage.share(most):
            self._too_much("max_held_bytes", "bytes of requests that are not complete")

    def stalled(self, before: float) -> bool:
        """Something does not get on since `before`, on the loop's clock: a frame that is not
        complete, what the peer does not read, or the end."""
        if self.choked and self._transport is not None:
            size = self._transport.get_write_buffer_size()
            if size < self._stuffed:
                self._stuck[READING] = self._loop.time()
            self._stuff(size)
        return any(since < before for since in self._stuck.values())

    def now(self) -> float:
        """Seconds on the loop's clock."""
        return self._loop.time()

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
        if stream is None:
            self._idle()
            return
        self._cancel(stream)
        self.broke()

    def _opened(self, number: int, what: str) -> Stream | None:
        """The stream, None if it is over; one that never began is a fault."""
        if number == 0 or number > self._last_stream:
            raise ConnectionFault(frames.PROTOCOL_ERROR, f"{what} of idle stream {number}")
        return self.streams.get(number)

    def _on_window_update(self, number: int, payload: bytes) -> None:
        more = frames.read_word(payload, "WINDOW_UPDATE") & frames.LARGEST_WINDOW
        if more <= limits.TINY:
            self._idle()
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
        # Only the last of each name counts: every one would change the window of every stream.
        for name, value in dict(frames.read_settings(payload)).items():
            if name == frames.INITIAL_WINDOW_SIZE:
                for stream in self.streams.values():
                    stream.window += value - self._peer_window
                    if stream.window > frames.LARGEST_WINDOW:
                        raise ConnectionFault(
                            frames.FLOW_CONTROL_ERROR, "SETTINGS make a window too large"
                        )
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
        if self.ahead:
            self.ahead = 0
            if self.blocked and not self.choked:
                self._loop.call_soon(self._unblock)

    def has_room(self, size: int) -> bool:
        """Whether an answer of `size` bytes may wait until the peer reads it. If nothing waits,
        any may."""
        most, mine = self._limits.max_unread_bytes, self.unread + size
        if (self.unread and 2 * mine > most) or (
            self.usage.unread and self.usage.unread + size > most and mine > self.usage.share(most)
        ):
            self.usage.reach("max_unread_bytes")
            return False
        return True

    def waits(self, size: int) -> None:
        """So many bytes of answers more wait until the peer has room for them."""
        self.unread += size
        self.usage.unread += size

    def forget(self, stream: Stream) -> None:
        """`stream` is over."""
        if self.streams.pop(stream.id, None) is not None:
            self.usage.requests -= 1
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

    def reset(self) -> None:
        """Close at once, and with it what the system keeps for a peer that does not read."""
        if self._transport is not None:
            opened = self._transport.get_extra_info("socket")
            if opened is not None:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    def _close_if_done(self) -> None:
        if not self.streams:
            self._loop.call_soon(self._close)

    def _close(self) -> None:
        if self._transport is not None:
            self._flush()
            # Who does not read does not hear of the end either.
            self._stuck.setdefault(ENDING, self._loop.time())
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
        if fault.code == frames.REFUSED_STREAM:
            self._idle()
        else:
            self.broke()

    def _idle(self, cost: int = 1) -> None:
        """Count what says nothing."""
        most = self._limits.max_idle_frames_per_second
        if not self._patience.idle(self._loop.time(), most, cost):
            self._too_much("max_idle_frames_per_second", "frames in a second that say nothing")

    def bomb(self) -> None:
        """Count a message that was found too large only after it had cost much to unpack."""
        for _ in range(limits.BOMB):
            self.broke()

    def broke(self) -> None:
        """Count a stream that the peer cancelled or broke, or that was one too many of all."""
        most, begun = self._limits.max_cancels_per_second, (self._last_stream + 1) // 2
        if not self._patience.broken(self._loop.time(), most, begun):
            self._too_much("max_cancels_per_second", "cancelled calls in a second")

    def _too_much(self, limit: str, what: str) -> NoReturn:
        """Send away a peer that has come to a limit of its connection."""
        self.usage.reach(limit)
        raise ConnectionFault(
            frames.ENHANCE_YOUR_CALM, told(limit, getattr(self._limits, limit), what)
        )

    def give_up(self, stream: Stream, code: int) -> None:
        """End a stream that does not get on."""
        self.send(frames.rst_stream(stream.id, code))
        self._cancel(stream)

    def _cancel(self, stream: Stream) -> None:
        receiver = stream.receiver
        stream.end()
        receiver.cancelled()

    def fail(self, fault: ConnectionFault) -> None:
        self.send(frames.goaway(self._last_stream, fault.code, str(fault)))
        self._close()
