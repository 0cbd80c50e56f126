"""The way from the HTTP thread into this very server, past its port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from gearshift.rpc import RpcServer


def dialling(
    give: Callable[[socket.socket], object], loop: asyncio.AbstractEventLoop
) -> Callable[[], socket.socket]:
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
