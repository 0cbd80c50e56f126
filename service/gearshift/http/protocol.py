"""HTTP/1.1 as uvicorn speaks it, and who is at the other end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from gearshift.http.guard import Guarded, Guests

NAMES = "gearshift.certificate"
"""Under it the scope has the names of the client's certificate, which ASGI has no place for yet."""

Names = Callable[[Mapping[str, Any] | None], tuple[str, ...]]
"""The names in a verified certificate, as `ssl.SSLSocket.getpeercert` describes it."""


def speaking(names: Names, guests: Guests) -> type[asyncio.Protocol]:
    """A protocol that tells the application the `names` of each client's certificate; its
    connections are `guests`."""

    class Protocol(Guarded):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            app = self.app
            certificate = transport.get_extra_info("peercert")

            async def with_names(scope: Scope, receive: Receive, send: Send) -> None:
                # Anew for each request: a certificate may expire meanwhile.
                scope[NAMES] = names(certificate)
                await told(scope, receive, send)

            told: ASGIApp = app
            self.app = with_names

    Protocol.guests = guests
    return Protocol
