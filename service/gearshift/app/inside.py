"""The way from the HTTP thread into this very server, past its port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import grpc

from gearshift.http.rest import Asked, Told
from gearshift.rpc import RpcServer
from gearshift.rpc.asking import Dial
from gearshift.rpc.inside import OnBehalf, call
from gearshift.rpc.status import PUSHBACK


class Inside:
    """Asks the gRPC side what came over HTTP, once it listens."""

    def __init__(self) -> None:
        self._dial: Dial | None = None

    def listening(self, dial: Dial) -> None:
        """From now on calls are answered, over connections from `dial`."""
        self._dial = dial

    async def __call__(self, asked: Asked) -> Told:
        unavailable = grpc.StatusCode.UNAVAILABLE
        if self._dial is None:
            return Told(unavailable, "the server is starting; try again shortly", b"")
        try:
            connection = self._dial()
        except OSError as error:
            return Told(unavailable, f"the server takes no requests: {error}", b"")
        behalf = OnBehalf(asked.peer, asked.names, asked.authorization, asked.metadata)
        ended = await call(connection, asked.path, asked.message, behalf=behalf)
        wait = ended.fields.get(PUSHBACK, "")
        retry_after = int(wait) / 1e3 if wait.isdigit() else None
        return Told(ended.code, ended.text, ended.message, retry_after)


def dialling(give: Callable[[socket.socket], object], loop: asyncio.AbstractEventLoop) -> Dial:
    """Makes connections; `give` gets the server's end of each, on `loop`."""

    def dial() -> socket.socket:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        try:
            loop.call_soon_threadsafe(give, theirs)
        except RuntimeError:  # the loop has ended
            ours.close()
            theirs.close()
            raise ConnectionRefusedError("the server has ended") from None
        return ours

    return dial


def giving(rpc: RpcServer) -> Callable[[socket.socket], object]:
    """Gives connections to a server of this process. On its loop."""
    under_way: set[asyncio.Task[None]] = set()

    async def adopt(theirs: socket.socket) -> None:
        try:
            await rpc.adopt_inside(theirs, lambda: None)
        except OSError:
            theirs.close()

    def give(theirs: socket.socket) -> None:
        task = asyncio.ensure_future(adopt(theirs))
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    return give
