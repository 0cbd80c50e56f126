"""Callers: gRPC over HTTP/2 made by hand, so that they can do what no client library would."""

from __future__ import annotations

import asyncio
import gzip
import math
import struct
from collections.abc import Callable
from urllib.parse import unquote

from tritonclient.grpc import service_pb2 as pb

from gearshift.http2 import frames
from gearshift.rpc import wire
from gearshift.rpc.infer import STREAM, UNARY
from gearshift.v1 import gearshift_pb2
from simulation.doors import fields_of as told_apart
from simulation.history import Heard, History
from simulation.link import Link
from simulation.requests import (
    CONTROL,
    FRAME,
    SERVICE,
    STATUS,
    fields_of,
    headers,
    is_named,
    message_of,
    number_of_answer,
    timeout_of,
)
from simulation.scenario import Ask, Connect


class Call:
    """One stream of a caller's connection."""

    def __init__(self, heard: Heard | None) -> None:
        self.heard = heard
        """None: a call with many requests, or none that counts."""
        self.asked: list[Heard] = []
        """The requests of a ModelStreamInfer."""
        self.body = bytearray()
        self.room = 0
        """Bytes that may be sent."""
        self.unsent = bytearray()
        self.finishing = self.finished = self.over = False
        self.owed = 0


class Caller:
    """One connection and what was asked over it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        step: Connect,
        history: History,
        connect: Callable[[], asyncio.Protocol],
    ) -> None:
        self._loop = loop
        self._step = step
        self._history = history
        self._more = told_apart(step.token, step.tenant, step.attempts)
        self.calls: dict[int, Call] = {}
        self._streams: dict[int, int] = {}
        self._next = 1
        self._rest = bytearray()
        self._window = frames.DEFAULT_WINDOW
        self._peer_window = frames.DEFAULT_WINDOW
        self._peer_frame = FRAME
        self.gone = self.leaving = self.misused = False
        self.refused: list[Heard] = []
        self.protocol = connect()
        self.link = Link(loop, step.delay, self.protocol, self._received, self._wrote)
        self._send(frames.PREFACE)
        self._send(frames.settings(((frames.INITIAL_WINDOW_SIZE, step.window),)))

    # --- doing -------------------------------------------------------------------------

    def ask(self, ask: Ask) -> None:
        """One unary inference, or one more on a stream."""
        heard = self._history.heard[ask.number] = Heard(ask)
        if self.gone or self.leaving:
            heard.endings.append("NOT SENT")
            return
        heard.sent = self._loop.time()
        heard.reads = self._step.pays < 0.01 and self._step.window >= 40 and ask.id_size < 1_000
        heard.excused = self.misused
        message = message_of(ask)
        compressed = 0
        if ask.zipped:
            message, compressed = gzip.compress(message, 1, mtime=0), 1
        framed = struct.pack(">BL", compressed, len(message)) + message
        if ask.stream:
            number = self._stream(ask)
            call = self.calls[number]
            call.asked.append(heard)
            self._data(number, call, framed, end=False)
        else:
            path = f"{SERVICE}/Nothing" if ask.wrong == "path" else UNARY
            timeout = "soon" if ask.wrong == "timeout" else timeout_of(ask.timeout)
            encoding = "snappy" if ask.wrong == "encoding" else "gzip" if ask.zipped else ""
            number, call = self._open(path, timeout, encoding, heard)
            framed = framed[:-1] if ask.wrong == "cut" else framed
            self._data(number, call, framed * (2 if ask.wrong == "two" else 1), end=True)
        if ask.leaves is not None and not ask.stream:
            self._loop.call_later(ask.leaves, self._leave, number, heard)

    def _leave(self, number: int, heard: Heard) -> None:
        if not heard.endings and not self.gone:
            heard.left = True
            heard.endings.append("CANCELLED BY CALLER")
            self.calls[number].over = True
            self._send(frames.rst_stream(number, frames.CANCEL))
            heard.left_at = self.link.to_server.last

    def _stream(self, ask: Ask) -> int:
        known = self._streams.get(ask.stream)
        if known is not None and not self.calls[known].over and not self.calls[known].finishing:
            return known
        number, _ = self._open(STREAM, "", "gzip", None)
        self._streams[ask.stream] = number
        return number

    def finish(self, stream: int) -> None:
        """No more requests on this ModelStreamInfer call."""
        number = self._streams.get(stream)
        if number is not None and not self.gone and not self.calls[number].over:
            self._data(number, self.calls[number], b"", end=True)

    def other(self, rpc: str) -> None:
        """A call whose answer is not looked at, but must come."""
        if self.gone or self.leaving:
            return
        message = {
            "ModelMetadata": pb.ModelMetadataRequest(name="a"),
            "Explain": gearshift_pb2.ExplainRequest(model="a", rows=1),
        }.get(rpc)
        body = b"" if message is None else message.SerializeToString()
        path = f"{CONTROL if rpc == 'Explain' else SERVICE}/{rpc}"
        number, call = self._open(path, "", "", None)
        self._data(number, call, wire.framed(body), end=True)

    def hang_up(self, reset: bool) -> None:
        self._over("hung up")
        self.link.hang_up(reset=reset)

    def garbage(self, data: bytes) -> None:
        self._misuse()
        if not self.gone:
            self._send(data)

    def _misuse(self) -> None:
        """From now on the server may do with this connection what it likes."""
        self.misused = True
        for call in self.calls.values():
            for heard in (call.heard, *call.asked):
                if heard is not None:
                    heard.excused = True

    def unread(self, seconds: float) -> None:
        for call in self.calls.values():
            # What it says may have to wait as well: the server does not read who does not read.
            if call.heard is not None:
                call.heard.reads = False
        self.link.to_caller.read(False)
        self._loop.call_later(seconds, self.link.to_caller.read, True)

    # --- sending -----------------------------------------------------------------------

    def _open(
        self, path: str, timeout: str, encoding: str, heard: Heard | None
    ) -> tuple[int, Call]:
        number, self._next = self._next, self._next + 2
        call = self.calls[number] = Call(heard)
        call.room = self._peer_window
        block = headers(path, timeout, encoding, self._more)
        self._send(frames.frame(frames.HEADERS, frames.END_HEADERS, number, block))
        return number, call

    def _data(self, number: int, call: Call, data: bytes, *, end: bool) -> None:
        call.unsent += data
        call.finishing = call.finishing or end
        self._flush(number, call)

    def _flush(self, number: int, call: Call) -> None:
        if call.over or call.finished or self.gone:
            return
        while call.unsent:
            room = min(call.room, self._window, self._peer_frame)
            if room <= 0:
                return
            part = bytes(call.unsent[:room])
            del call.unsent[:room]
            call.room -= len(part)
            self._window -= len(part)
            last = call.finishing and not call.unsent
            call.finished = last
            flags = frames.END_STREAM if last else 0
            self._send(frames.frame(frames.DATA, flags, number, part))
        if call.finishing and not call.finished:
            call.finished = True
            self._send(frames.frame(frames.DATA, frames.END_STREAM, number))

    def _send(self, data: bytes) -> None:
        piece = self._step.piece
        if piece and len(data) < 2_000:
            for at in range(0, len(data), piece):
                self.link.to_server.send(data[at : at + piece], after=0.0001)
        else:
            self.link.to_server.send(data)

    # --- hearing -----------------------------------------------------------------------

    def _wrote(self, data: bytes) -> None:
        self._history.note(self._loop.time(), "wrote", self._step.caller, data)

    def _received(self, data: bytes | None) -> None:
        if data is None:
            self._over("lost")
        if self.gone or data is None:
            return
        self._rest += data
        at, rest = 0, self._rest
        while len(rest) - at >= frames.HEAD_SIZE:
            high, low, kind, flags, number = frames.HEAD.unpack_from(rest, at)
            begin = at + frames.HEAD_SIZE
            end = begin + (high << 8 | low)
            if end > len(rest):
                break
            at = end
            self._on_frame(kind, flags, number, bytes(rest[begin:end]))
        del rest[:at]

    def _on_frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == frames.DATA:
            self._on_data(number, payload)
        elif kind == frames.HEADERS:
            self._on_headers(flags, number, payload)
        elif kind == frames.RST_STREAM:
            self._on_reset(number, frames.read_word(payload, "RST_STREAM"))
        elif kind == frames.WINDOW_UPDATE:
            self._on_window(number, frames.read_word(payload, "WINDOW_UPDATE"))
        elif kind == frames.SETTINGS and not flags & frames.ACK:
            told = dict(frames.read_settings(payload))
            grown = told.get(frames.INITIAL_WINDOW_SIZE, self._peer_window) - self._peer_window
            self._peer_window += grown
            for call in self.calls.values():
                call.room += grown
            self._peer_frame = told.get(frames.MAX_FRAME_SIZE, self._peer_frame)
            self._reply(frames.frame(frames.SETTINGS, frames.ACK, 0))
        elif kind == frames.PING and not flags & frames.ACK and not self._step.rude:
            self._reply(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif kind == frames.GOAWAY:
            self.leaving = True
            last = frames.read_word(payload[:4], "GOAWAY")
            code = frames.read_word(payload[4:8], "GOAWAY")
            if code == frames.ENHANCE_YOUR_CALM and not self.misused:
                self._history.sent_away.append(payload[8:].decode())
                self._misuse()
            if code != frames.NO_ERROR and not self.misused:
                self._history.wrong(f"GOAWAY with {code}: {payload[8:]!r}")
            for each, call in self.calls.items():
                if each > last and not call.over:
                    self._end(call, "REFUSED")

    def _on_data(self, number: int, payload: bytes) -> None:
        call = self.calls[number]
        if call.over:
            if not (call.heard and call.heard.left):
                self._history.wrong(f"DATA behind the end of stream {number}")
            return
        call.body += payload
        pays = self._step.pays
        if pays == 0.0:
            self._pay(number, len(payload))
        elif pays < math.inf:
            self._loop.call_later(pays, self._pay, number, len(payload))
        if call.asked:
            self._on_messages(call)

    def _pay(self, number: int, size: int) -> None:
        if size:
            self._reply(frames.window_update(0, size))
            if not self.calls[number].over:
                self._reply(frames.window_update(number, size))

    def _on_messages(self, call: Call) -> None:
        """Each message of a stream is the end of one of its requests."""
        body = call.body
        while len(body) >= 5 and len(body) >= 5 + wire.size_of(body):
            size = wire.size_of(body)
            answer = pb.ModelStreamInferResponse.FromString(bytes(body[5 : 5 + size]))
            del body[: 5 + size]
            number = number_of_answer(answer.infer_response)
            waiting = [h for h in call.asked if not h.endings]
            if answer.error_message:
                # Without an id nobody can say whose it is: the texts are what is compared.
                mine = [h for h in waiting if is_named(h, answer.infer_response.id)]
                heard = mine[0] if mine else None
                ending = "ERROR"
            else:
                heard = next((h for h in waiting if h.ask.number == number), None)
                ending = "OK"
            if heard is None:
                self._history.wrong(f"an answer for nobody on a stream: {answer!r}"[:300])
                continue
            heard.text = answer.error_message
            heard.messages.append(answer.infer_response.SerializeToString())
            self._told(heard, ending)

    def _on_headers(self, flags: int, number: int, block: bytes) -> None:
        call = self.calls[number]
        if not flags & frames.END_STREAM:
            return
        fields = fields_of(block)
        status = STATUS.get(fields.get(b"grpc-status", b"").decode(), "NO STATUS")
        heard = call.heard
        if heard is not None and not call.over:
            heard.text = unquote(fields.get(b"grpc-message", b"").decode())
            if call.body:
                heard.messages.append(bytes(call.body[5:]))
                if wire.size_of(call.body) != len(call.body) - 5:
                    self._history.wrong(f"request {heard.ask.number}: not one whole message")
        for each in call.asked:
            if not each.endings:
                each.text = unquote(fields.get(b"grpc-message", b"").decode())
        self._end(call, status)

    def _on_reset(self, number: int, code: int) -> None:
        call = self.calls.get(number)
        if call is None:
            self._history.wrong(f"RST_STREAM of stream {number}, which was never opened")
        elif not call.over:
            self._end(call, "REFUSED" if code == frames.REFUSED_STREAM else f"RESET {code}")

    def _on_window(self, number: int, more: int) -> None:
        if number:
            self.calls[number].room += more
        else:
            self._window += more
        for each, call in self.calls.items():
            if call.unsent:
                self._flush(each, call)

    def _reply(self, data: bytes) -> None:
        if not self.gone:
            self._send(data)

    def _end(self, call: Call, ending: str) -> None:
        if call.over:
            if not (call.heard and call.heard.left):
                self._history.wrong(f"a second ending of a call: {ending}")
            return
        call.over = True
        if call.heard is not None:
            self._told(call.heard, ending)
        for heard in call.asked:
            if not heard.endings:
                self._told(heard, f"STREAM {ending}")

    def _told(self, heard: Heard, ending: str) -> None:
        heard.endings.append(ending)
        self._history.note(self._loop.time(), "heard", heard.ask.number, ending, heard.text)

    def _over(self, why: str) -> None:
        if self.gone:
            return
        self.gone = True
        self._history.note(self._loop.time(), why, self._step.caller)
        for call in self.calls.values():
            if not call.over:
                if why == "hung up":
                    for heard in (call.heard, *call.asked):
                        if heard is not None and not heard.endings:
                            heard.left = True
                self._end(call, "LOST" if why == "lost" else "CANCELLED BY CALLER")
