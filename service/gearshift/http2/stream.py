"""One stream: a request that comes in and its answer that goes out."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from gearshift.core.limits import Usage
from gearshift.http2 import frames, limits
from gearshift.http2.fields import UNSAID
from gearshift.http2.frames import StreamFault

if TYPE_CHECKING:
    from gearshift.http2.connection import Connection


class Receiver(Protocol):
    """Who takes what comes in on a stream."""

    def data(self, payload: bytes, *, ended: bool) -> None:
        """The next bytes; the last ones if `ended`."""
        ...

    def refused(self, limit: str, why: str) -> None:
        """What came in is above a limit, and kept no longer: end the stream."""
        ...

    def cancelled(self) -> None:
        """The peer gave the stream up, or is gone. Nothing can be sent any more."""
        ...


class Nobody:
    """The receiver of a stream that has none yet, or that is over."""

    def data(self, payload: bytes, *, ended: bool) -> None:
        """Nobody wants it."""

    def refused(self, limit: str, why: str) -> None:
        """Nobody has asked."""

    def cancelled(self) -> None:
        """Nobody is told."""


NOBODY = Nobody()


class Stream:
    """What is known of one open stream. `room` is what the peer may still send, `window` what
    may be sent to it, in bytes; `held` what came in and was not taken yet; `promised` how much of
    its content-length is still to come, UNSAID without one."""

    __slots__ = (
        "_connection",
        "_drained",
        "_moved",
        "_owed",
        "_queue",
        "_queued",
        "_tail",
        "ended",
        "held",
        "id",
        "open",
        "promised",
        "receiver",
        "room",
        "since",
        "window",
    )

    def __init__(self, connection: Connection[Any], number: int, room: int, window: int) -> None:
        # Whoever takes the call may end the connection before it is anybody's.
        self.receiver: Receiver = NOBODY
        self.id = number
        self.room = room
        self.window = window
        self.held = 0
        self.promised = UNSAID
        self.ended = False
        """The request is complete."""
        self.open = True
        """Something can still be sent."""
        self._connection = connection
        self._queue: deque[bytes] | None = None
        """What the peer has no room for yet; few streams ever have any."""
        self._queued = 0
        self._moved = 0
        self.since = 0.0
        """Since when the peer has not read enough of it, on the loop's clock."""
        self._tail: bytes | None = None
        self._owed = 0
        self._drained: asyncio.Future[None] | None = None

    @property
    def received(self) -> float:
        """When the bytes came that are being read on this connection, in monotonic seconds."""
        return self._connection.received

    def used_by(self, client: str) -> None:
        """This is a request of that client."""
        self._connection.used_by(client)

    def rest(self, seconds: float) -> None:
        """Its connection has sent too much."""
        self._connection.rest(seconds)

    @property
    def usage(self) -> Usage:
        """Of all connections together."""
        return self._connection.usage

    @property
    def connection(self) -> Connection[Any]:
        """The one that it is a part of."""
        return self._connection

    # --- taking ------------------------------------------------------------------------

    def more(self, size: int) -> None:
        """Let the peer send `size` bytes more on this stream."""
        self._owed += size
        if self._owed >= self._connection.stream_window // 2 and not self.ended and self.open:
            self.room += self._owed
            self._connection.send(frames.window_update(self.id, self._owed))
            self._owed = 0

    def taken(self, size: int) -> None:
        """`size` bytes that came in are no longer kept."""
        connection = self._connection
        self.held -= size
        connection.held -= size
        connection.usage.held -= size

    def keep_promise(self, size: int, ended: bool) -> None:
        """`size` bytes came in, the last ones if `ended`: StreamFault if the content-length said
        something else."""
        if size > self.promised or (ended and size < self.promised):
            raise StreamFault(
                self.id,
                frames.PROTOCOL_ERROR,
                "DATA is not as long as content-length says",
            )
        self.promised -= size

    # --- sending -----------------------------------------------------------------------

    def answer(self, head: bytes, body: bytes, trailers: bytes) -> bool:
        """A whole answer: header block, body, header block of the trailers. The stream is over;
        False, and it is not, if the peer has too much that it does not read."""
        connection = self._connection
        size = len(body)
        if (
            size <= self.window
            and size <= connection.window
            and size <= connection.peer_frame
            and not connection.choked
        ):
            # Almost always: one piece, which needs no queue.
            number = self.id
            connection.window -= size
            pack = frames.HEAD.pack
            self._close(
                b"".join(
                    (
                        pack(0, len(head), frames.HEADERS, frames.END_HEADERS, number),
                        head,
                        pack(size >> 8, size & 0xFF, frames.DATA, 0, number),
                        body,
                        *_last_headers(number, trailers),
                    )
                )
            )
            return True
        if not connection.has_room(size):
            return False
        self.begin(head)
        self.send(body)
        self.finish(trailers)
        return True

    def begin(self, head: bytes) -> None:
        """The answer's header block."""
        self._connection.send(frames.frame(frames.HEADERS, frames.END_HEADERS, self.id, head))

    def send(self, body: bytes) -> bool:
        """The next bytes of the answer; kept until the peer has room for them. False, and they are
        not, if it has too much that it does not read."""
        connection, size = self._connection, len(body)
        if (
            size <= min(self.window, connection.window, connection.peer_frame)
            and not self._queue
            and not connection.choked
        ):
            # Almost always: one piece, which needs no queue.
            self.window -= size
            connection.window -= size
            connection.send(frames.frame(frames.DATA, 0, self.id, body))
            return True
        if not connection.has_room(size):
            return False
        if self._queue is None:
            self._queue = deque()
        if not self._queue:
            self.since = connection.now()
        self._queue.append(body)
        self._queued += size
        connection.waits(size)
        self.flush()
        return True

    def finish(self, trailers: bytes) -> None:
        """The end of the answer, behind all that was sent."""
        self._tail = trailers
        self.flush()

    def refuse(self, code: int) -> None:
        """End the stream without an answer."""
        if self.open:
            self._close(frames.rst_stream(self.id, code))

    @property
    def waiting(self) -> bool:
        """Something that was sent waits for the peer to have room."""
        return bool(self._queue)

    async def drained(self) -> None:
        """Wait until the peer has taken what was sent, or is gone."""
        while self._queue and self.open:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def flush(self) -> None:
        """Send as much as the windows allow."""
        connection = self._connection
        while self._queue and self.open:
            room = min(self.window, connection.window, connection.peer_frame)
            if room <= 0 or connection.ahead >= limits.AHEAD or connection.choked:
                connection.blocked.add(self)
                return
            part = self._queue.popleft()
            if len(part) > room:
                # A view: what is left of 64 MiB is not copied anew for every frame.
                whole = memoryview(part)
                self._queue.appendleft(whole[room:])  # type: ignore[arg-type]
                part = bytes(whole[:room])
            size = len(part)
            self.window -= size
            connection.window -= size
            connection.ahead += size
            self._queued -= size
            connection.waits(-size)
            self._moved += size
            if self._moved >= limits.PROGRESS:
                self._moved, self.since = 0, connection.now()
            connection.send(frames.frame(frames.DATA, 0, self.id, bytes(part)))
        if self._drained is not None:
            if not self._drained.done():
                self._drained.set_result(None)
            self._drained = None
        if self._tail is not None and self.open:
            self._close(b"".join(_last_headers(self.id, self._tail)))

    def _close(self, last: bytes) -> None:
        connection = self._connection
        connection.send(last)
        if not self.ended:
            # The rest of the request is of no use to anybody (RFC 9113, section 8.1).
            connection.send(frames.rst_stream(self.id, frames.NO_ERROR))
        self.end()

    def end(self) -> None:
        """Nothing is sent any more, nobody waits any more."""
        self.open = False
        self.taken(self.held)
        if self._queue:
            self._connection.waits(-self._queued)
        self._queue, self._queued = None, 0
        # The receiver knows this stream, too: a circle would keep its request until the
        # collector comes by, and requests are large.
        self.receiver = NOBODY
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._connection.forget(self)


def _last_headers(stream: int, block: bytes) -> tuple[bytes, bytes]:
    """HEADERS that end the stream. Trailers are below a frame's size: texts are cut before."""
    flags = frames.END_HEADERS | frames.END_STREAM
    return frames.head(len(block), frames.HEADERS, flags, stream), block
